"""Quantum labels from PySCF; with ``pyscf_setup.py`` all that imports it, and that knows hartree and bohr.

Forces are the gradient of the computed energy, response of the integration grid included: without it they sum to
10⁻² eV/Å instead of zero at grid level 3, an error that no conservative model can learn. See ``LevelOfTheory``.
"""

import time
from typing import Any

import numpy as np
from pyscf import lib

from .. import config, units
from ..errors import LabelError, OutOfMemory
from ..region.cluster import Cluster, Surroundings
from ..system.molecules import Floats
from .embedding import explicit_term
from .guesses import Density, Guesses, density_of, propose
from .label import Embedded, Label, LevelOfTheory, check_embedding, label_key
from .ladder import RUNGS, Deadline, check_electrons, check_rungs, climb
from .plausible import check_label
from .pyscf_setup import (
    PYSCF_ERRORS,
    build_mean_field,
    build_molecule,
    check_level,
    embed,
    level_of_theory,
    without_advertisement,
)

#: Memory for integrals over charges at a time.
BLOCK_BYTES = 256 * 1024**2


class PyscfReference:
    """Restricted (singlets) or unrestricted Kohn-Sham or Hartree-Fock labels with analytic gradients.

    The densities of the last converged clusters are kept and serve as guesses for clusters that overlap with them.

    Attributes:
        level: level of theory of every label.
        guesses: those densities.
    """

    def __init__(
        self,
        settings: config.Reference,
        threads: int | None = None,
        *,
        grid_response: bool = True,
        rungs: tuple[str, ...] = RUNGS,
    ) -> None:
        """Check that PySCF knows the level.

        Args:
            settings: level of theory and limits.
            threads: OpenMP threads of a label; None leaves PySCF's default, all cores.
            grid_response: whether forces hold the response of the grid; only to reproduce labels made without it.
            rungs: rungs of the SCF ladder to use, in order.

        Raises:
            ConfigError: the method or basis is unknown to PySCF.
        """
        check_level(settings)
        self.level: LevelOfTheory = level_of_theory(settings, grid_response=grid_response)
        self._settings = settings
        self._threads = threads
        self._rungs = check_rungs(rungs)
        self.guesses = Guesses()

    def label(self, cluster: Cluster) -> Label:
        """Compute energy, analytic forces, dipole and charges of a cluster.

        The time limit is looked at after each SCF cycle and before the gradient, which is finished once begun.

        Args:
            cluster: atoms in vacuum, or among point charges where the level is embedded.

        Returns:
            The label. The dipole of a charged cluster is taken about the origin of its coordinates.

        Raises:
            BadLabel: what came out cannot be right, see ``plausible.check_label``.
            LabelError: see ``compute``.
        """
        label, density = self.compute(cluster, self.guesses.best(cluster))
        check_label(label, cluster, self.level)
        self.guesses.remember(density)
        return label

    def compute(self, cluster: Cluster, start: Density | None) -> tuple[Label, Density]:
        """Compute a label, remembering nothing.

        Args:
            cluster: see ``label``.
            start: density of a cluster that shares atoms with it; None starts from superposed atoms.

        Returns:
            The label and the converged density.

        Raises:
            NotConverged: no rung of the SCF ladder converged.
            LabelTimeout: the time limit of the settings has passed.
            OutOfMemory: memory ran out.
            LabelError: electrons and multiplicity do not fit, atoms coincide, surroundings do not fit the level, or
                PySCF cannot treat the cluster.
        """
        deadline = Deadline(limit_s=self._settings.time_limit_s, start=time.monotonic())
        check_electrons(cluster)
        check_embedding(cluster, self.level)
        try:
            with lib.with_omp_threads(self._threads), without_advertisement():
                return self._compute(cluster, start, deadline)
        except LabelError:
            raise
        except MemoryError as error:
            raise OutOfMemory(
                f"memory ran out on a cluster of {cluster.size} atoms" + (f": {error}" if str(error) else ""),
                cure="raise reference.memory_limit_GB if one is set, lower region.max_qm_atoms, or a smaller basis",
            ) from error
        except PYSCF_ERRORS as error:
            raise LabelError(
                f"PySCF failed on a cluster of {cluster.size} atoms: {type(error).__name__}: {error}",
                cure="check reference.method and reference.basis against the elements (density fitting lacks some: try "
                "reference.density_fit: false); if memory ran out, lower region.max_qm_atoms",
            ) from error

    def _compute(self, cluster: Cluster, start: Density | None, deadline: Deadline) -> tuple[Label, Density]:
        molecule = build_molecule(cluster, self._settings)
        mean_field = embed(build_mean_field(molecule, self._settings), cluster.surroundings)
        mean_field.callback = lambda state: deadline.check("in the SCF")
        guess = propose(start, cluster, mean_field)
        rung = climb(mean_field, guess, self._rungs, self._settings.max_cycles)
        deadline.check("before the gradient")
        gradient = mean_field.nuc_grad_method()
        if self.level.grid_response:
            gradient.grid_response = True
        forces: Floats = -np.asarray(gradient.kernel()) * units.EV_PER_ANGSTROM_PER_HARTREE_PER_BOHR
        energy = float(mean_field.e_tot) * units.EV_PER_HARTREE
        embedding = None
        if cluster.surroundings is not None:
            on_charges = _forces_on_charges(gradient, mean_field, cluster.surroundings)
            embedding = Embedded(energy=energy, forces=forces, on_charges=on_charges)
            explicit = explicit_term(cluster.positions, cluster.surroundings)
            energy, forces = energy - explicit.energy, forces - explicit.forces
        label = Label(
            key=label_key(cluster, self.level),
            cluster=cluster,
            energy=energy,
            forces=forces,
            dipole=mean_field.dip_moment(unit="AU", verbose=0) * units.ANGSTROM_PER_BOHR,
            charges=np.asarray(mean_field.mulliken_pop(verbose=0)[1], dtype=np.float64),
            level=self.level,
            rung=rung,
            spin_squared=float(mean_field.spin_square()[0]) if cluster.multiplicity > 1 else 0.0,
            gap=_gap(mean_field) * units.EV_PER_HARTREE,
            wall_time=time.monotonic() - deadline.start,
            embedding=embedding,
        )
        return label, density_of(cluster, mean_field)


def _forces_on_charges(gradient: Any, mean_field: Any, surroundings: Surroundings) -> Floats:
    """Forces of electrons and nuclei on the charges around them, eV/Å, shape (c, 3).

    PySCF's own routine for the electrons' part does not know Cartesian d functions.
    """
    count = len(surroundings.charges)
    if not count:
        return np.zeros((0, 3))
    molecule, density = mean_field.mol, np.asarray(mean_field.make_rdm1())
    if density.ndim == 3:
        density = density.sum(axis=0)
    places = surroundings.positions / units.ANGSTROM_PER_BOHR
    block = max(1, int(BLOCK_BYTES / (3 * 8 * molecule.nao**2)))
    # −∇_R ⟨p|1/|r−R||q⟩ = −⟨∇p|…|q⟩ − ⟨p|…|∇q⟩: of a symmetric density, twice the first; electrons are negative.
    field = [
        2.0 * np.einsum("xkpq,pq->kx", molecule.intor("int1e_grids_ip", grids=places[k : k + block]), density)
        for k in range(0, count, block)
    ]
    forces = surroundings.charges[:, None] * np.concatenate(field) - gradient.grad_nuc_mm()
    return np.asarray(forces * units.EV_PER_ANGSTROM_PER_HARTREE_PER_BOHR, dtype=np.float64)


def _gap(mean_field: Any) -> float:
    """Smallest gap between occupied and empty orbitals of one spin, hartree; infinite where no spin has both."""
    energies, occupations = np.atleast_2d(mean_field.mo_energy), np.atleast_2d(mean_field.mo_occ)
    gaps = [
        float(e[n == 0].min() - e[n > 0].max())
        for e, n in zip(energies, occupations, strict=True)
        if (n > 0).any() and (n == 0).any()
    ]
    return min(gaps, default=float("inf"))
