"""Quantum labels from PySCF; the only module that imports it, and the only one that knows hartree and bohr.

Forces are the gradient of the computed energy, response of the integration grid included: without it they sum to
10⁻² eV/Å instead of zero at grid level 3, an error that no conservative model can learn. See ``LevelOfTheory``.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pyscf import dft, gto, lib, scf
from scipy.spatial.distance import pdist

from .. import config, units
from ..errors import ConfigError, LabelError
from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints
from .label import Label, LevelOfTheory, label_key
from .ladder import RUNGS, Deadline, Guesses, check_electrons, check_rungs, climb

#: No two nuclei come closer in any molecule, by a factor of seven.
MIN_DISTANCE_A = 0.1

#: What PySCF raises for a request that it cannot fulfil (missing basis, unsupported functional, out of memory).
_PYSCF_ERRORS = (RuntimeError, KeyError, ImportError, MemoryError, OSError, ValueError, ArithmeticError)


class PyscfReference:
    """Restricted (singlets) or unrestricted Kohn-Sham or Hartree-Fock labels with analytic gradients.

    The densities of the last converged clusters are kept and serve as guesses for clusters that overlap with them.

    Attributes:
        level: level of theory of every label.
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
        self._guesses = Guesses()

    def label(self, cluster: Cluster) -> Label:
        """Compute energy, analytic forces, dipole and charges of a cluster.

        The time limit is looked at after each SCF cycle and before the gradient, which is finished once begun.

        Args:
            cluster: atoms in vacuum.

        Returns:
            The label. The dipole of a charged cluster is taken about the origin of its coordinates.

        Raises:
            NotConverged: no rung of the SCF ladder converged.
            LabelTimeout: the time limit of the settings has passed.
            LabelError: electrons and multiplicity do not fit, atoms coincide, or PySCF cannot treat the cluster.
        """
        deadline = Deadline(limit_s=self._settings.time_limit_s, start=time.monotonic())
        check_electrons(cluster)
        try:
            with lib.with_omp_threads(self._threads), _without_advertisement():
                return self._compute(cluster, deadline)
        except LabelError:
            raise
        except _PYSCF_ERRORS as error:
            raise LabelError(
                f"PySCF failed on a cluster of {cluster.size} atoms: {type(error).__name__}: {error}",
                cure="check reference.method and reference.basis against the elements (density fitting lacks some: try "
                "reference.density_fit: false); if memory ran out, lower region.max_qm_atoms",
            ) from error

    def _compute(self, cluster: Cluster, deadline: Deadline) -> Label:
        molecule = build_molecule(cluster, self._settings)
        mean_field = build_mean_field(molecule, self._settings)
        mean_field.callback = lambda state: deadline.check("in the SCF")
        guess = self._guesses.propose(cluster, mean_field)
        rung = climb(mean_field, guess, self._rungs, self._settings.max_cycles)
        deadline.check("before the gradient")
        gradient = mean_field.nuc_grad_method()
        if self.level.grid_response:
            gradient.grid_response = True
        forces: Floats = -np.asarray(gradient.kernel()) * units.EV_PER_ANGSTROM_PER_HARTREE_PER_BOHR
        energy = float(mean_field.e_tot) * units.EV_PER_HARTREE
        _check_finite(energy, forces, cluster)
        self._guesses.remember(cluster, mean_field)
        return Label(
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
        )


def level_of_theory(settings: config.Reference, *, grid_response: bool = True) -> LevelOfTheory:
    """The level of theory that settings stand for; what Hartree-Fock does not have does not enter it."""
    hf = _is_hf(settings)
    return LevelOfTheory(
        program="pyscf",
        method=settings.method.strip().lower(),
        basis=settings.basis.strip().lower(),
        cartesian=settings.cartesian,
        density_fit=settings.density_fit,
        grid_level=0 if hf else settings.grid_level,
        grid_response=grid_response and not hf,
    )


def check_level(settings: config.Reference) -> None:
    """Find out, before a run starts, whether PySCF can compute a level of theory.

    Raises:
        ConfigError: the functional or the basis set is unknown, or needs a package that is not installed.
    """
    try:
        if not _is_hf(settings):
            dft.libxc.parse_xc(settings.method.strip() or "nothing")
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"reference.method: PySCF does not know the functional {settings.method!r} ({error})",
            cure="use `hf` or a functional that PySCF lists, such as wb97x, pbe0 or b3lyp",
        ) from error
    try:
        mean_field = build_mean_field(build_molecule(_spread(np.array([1, 1]), charge=0), settings), settings)
        if mean_field.do_disp():
            mean_field.get_dispersion()
    except _PYSCF_ERRORS as error:
        raise ConfigError(
            f"reference: PySCF cannot compute {settings.method}/{settings.basis}: {error}",
            cure="use a basis set that PySCF lists, such as 6-31g* or def2-svp; dispersion needs pyscf-dispersion",
        ) from error


def build_molecule(cluster: Cluster, settings: config.Reference) -> Any:
    """PySCF molecule of a cluster, atoms in the same order, silent.

    Raises:
        LabelError: two atoms coincide.
    """
    apart = pdist(cluster.positions)
    if apart.size and apart.min() < MIN_DISTANCE_A:
        raise LabelError(
            f"two of the {cluster.size} atoms of a cluster coincide ({apart.min():.3f} Å apart)",
            cure="look at the frame: the structure overlaps with itself, or the dynamics broke down",
        )
    symbols = [lib.param.ELEMENTS[z] for z in cluster.numbers]
    basis = settings.basis.strip()
    with _without_advertisement():
        molecule = gto.M(
            atom=list(zip(symbols, cluster.positions / units.ANGSTROM_PER_BOHR, strict=True)),
            unit="Bohr",
            basis=basis,
            ecp=_core_potentials(basis, set(symbols)),
            cart=settings.cartesian,
            charge=cluster.charge,
            spin=cluster.multiplicity - 1,
            symmetry=False,
            verbose=0,
            parse_arg=False,
            dump_input=False,
        )
    if molecule.elements != symbols:
        raise LabelError("PySCF holds the atoms in another order", cure="report this with the frame; it is a defect")
    return molecule


def build_mean_field(molecule: Any, settings: config.Reference) -> Any:
    """PySCF mean field at a level of theory; restricted for singlets."""
    if _is_hf(settings):
        mean_field = scf.RHF(molecule) if molecule.spin == 0 else scf.UHF(molecule)
    else:
        method = settings.method.strip()
        mean_field = dft.RKS(molecule, xc=method) if molecule.spin == 0 else dft.UKS(molecule, xc=method)
        mean_field.grids.level = settings.grid_level
    # A label is stored when it is finished; PySCF's file for half of one would stay open until collected as garbage.
    mean_field.chkfile = None
    mean_field._chkfile.close()
    if settings.density_fit:
        mean_field = mean_field.density_fit()
    mean_field.conv_tol = settings.scf_tolerance_hartree
    return mean_field


def count_functions(numbers: Ints, settings: config.Reference) -> tuple[int, int]:
    """Count what a calculation would treat, without computing anything.

    Args:
        numbers: atomic numbers, shape (m,).
        settings: level of theory; its charge, or 0, is the charge.

    Returns:
        Electrons (those replaced by a core potential left out) and basis functions.

    Raises:
        LabelError: the basis set lacks an element.
    """
    try:
        molecule = build_molecule(_spread(numbers, charge=settings.charge or 0), settings)
    except _PYSCF_ERRORS as error:
        raise LabelError(
            f"basis set {settings.basis} cannot treat these elements: {error}",
            cure="choose a basis set that has all elements of the structure, such as def2-svp",
        ) from error
    return int(molecule.nelectron), int(molecule.nao)


def _core_potentials(basis: str, symbols: set[str]) -> dict[str, Any]:
    """Core potentials that belong to a basis set, by element; without them it would describe the wrong electrons."""
    try:
        found = {symbol: gto.basis.load_ecp(basis, symbol) for symbol in symbols}
    except (RuntimeError, KeyError):  # PySCF knows no potentials at all under this name
        return {}
    return {symbol: potential for symbol, potential in found.items() if potential}


@contextmanager
def _without_advertisement() -> Iterator[None]:
    """Keep PySCF from naming another package whenever it looks for a basis set in vain, be it to do without."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(Basis|ECP) may be available", category=UserWarning)
        yield


def _spread(numbers: Ints, *, charge: int) -> Cluster:
    """Atoms in a row, far apart, with the lowest multiplicity: for questions that need no geometry."""
    m = len(numbers)
    return Cluster(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.outer(np.arange(m), [10.0, 0.0, 0.0]),
        parent=np.arange(m),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=charge,
        multiplicity=1 + (int(np.sum(numbers)) - charge) % 2,
    )


def _is_hf(settings: config.Reference) -> bool:
    return settings.method.strip().lower() == "hf"


def _gap(mean_field: Any) -> float:
    """Smallest gap between occupied and empty orbitals of one spin, hartree; infinite where no spin has both."""
    energies, occupations = np.atleast_2d(mean_field.mo_energy), np.atleast_2d(mean_field.mo_occ)
    gaps = [
        float(e[n == 0].min() - e[n > 0].max())
        for e, n in zip(energies, occupations, strict=True)
        if (n > 0).any() and (n == 0).any()
    ]
    return min(gaps, default=float("inf"))


def _check_finite(energy: float, forces: Floats, cluster: Cluster) -> None:
    if forces.shape != cluster.positions.shape or not np.isfinite(energy) or not np.isfinite(forces).all():
        raise LabelError(
            f"the energy or a force of a cluster of {cluster.size} atoms is not finite",
            cure="look at the frame: atoms may be too close for the basis set",
        )
