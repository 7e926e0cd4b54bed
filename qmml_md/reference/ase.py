"""Any ASE calculator as the quantum reference: another program, a semi-empirical method, or a larger model."""

import subprocess
import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import SCFError

from ..errors import ConfigError, LabelError, NotConverged
from ..region.cluster import Cluster
from ..system.molecules import Floats
from .label import Label, LevelOfTheory, check_embedding, label_key

#: What calculators raise when an outside program fails, an element is missing, or their input makes no sense.
_CALCULATOR_ERRORS = (
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
    ArithmeticError,
    subprocess.SubprocessError,
)


class AseReference:
    """Labels from an ASE calculator.

    ASE has no common way to set charge and spin, so a calculator is set up for one charge and one multiplicity, and
    clusters with others are refused instead of being computed as something else. So are clusters among point charges.

    Attributes:
        level: level of theory of every label.
    """

    def __init__(self, calculator: Any, level: LevelOfTheory, *, charge: int = 0, multiplicity: int = 1) -> None:
        """Take a calculator that is ready for use.

        Args:
            calculator: ASE calculator with energy and forces.
            level: what it computes; by convention ``program`` is ``ase:<calculator>``.
            charge: total charge that it is set up for, e.
            multiplicity: 2S + 1 that it is set up for.

        Raises:
            ConfigError: the level says that clusters are embedded, which no calculator can be asked for.
        """
        if level.embedded:
            raise ConfigError(
                f"labels of {level.program} cannot be embedded in point charges",
                cure="use reference.embedding: mechanical, or PySCF",
            )
        self.level = level
        self._calculator = calculator
        self._charge = charge
        self._multiplicity = multiplicity

    def label(self, cluster: Cluster) -> Label:
        """Compute a cluster in vacuum.

        Args:
            cluster: atoms in vacuum.

        Returns:
            The label. Dipole and charges are NaN where the calculator has none; ⟨S²⟩ and gap always are. The energy is
            the one that the forces are the gradient of: the free energy, where the calculator tells them apart.

        Raises:
            NotConverged: the calculator says so.
            LabelError: charge or multiplicity differ from the calculator's, there are point charges around the cluster,
                the calculator failed, or its result is not finite.
        """
        check_embedding(cluster, self.level)
        if (cluster.charge, cluster.multiplicity) != (self._charge, self._multiplicity):
            raise LabelError(
                f"cluster has charge {cluster.charge:+d} and multiplicity {cluster.multiplicity}; {self.level.program} "
                f"is set up for {self._charge:+d} and {self._multiplicity}",
                cure="set the calculator up for this charge and multiplicity and pass both to AseReference",
            )
        start = time.monotonic()
        try:
            energy, forces, dipole, charges = self._compute(cluster)
        except SCFError as error:
            raise NotConverged(f"{self.level.program} did not converge: {error}", cure="see its own output") from error
        except _CALCULATOR_ERRORS as error:
            raise LabelError(
                f"{self.level.program} failed on a cluster of {cluster.size} atoms: {type(error).__name__}: {error}",
                cure="run the calculator on this cluster by itself; it may lack an element or its program",
            ) from error
        if forces.shape != cluster.positions.shape or not np.isfinite(energy) or not np.isfinite(forces).all():
            raise LabelError(
                f"{self.level.program} gave an energy or forces {forces.shape} that are not finite numbers for "
                f"{cluster.size} atoms",
                cure="look at the frame: atoms may be too close",
            )
        return Label(
            key=label_key(cluster, self.level),
            cluster=cluster,
            energy=energy,
            forces=forces,
            dipole=dipole,
            charges=charges,
            level=self.level,
            rung="calculator",
            spin_squared=float("nan"),
            gap=float("nan"),
            wall_time=time.monotonic() - start,
        )

    def _compute(self, cluster: Cluster) -> tuple[float, Floats, Floats, Floats]:
        """Energy (eV), forces (eV/Å), dipole (e·Å) and charges (e)."""
        atoms = Atoms(numbers=cluster.numbers, positions=cluster.positions, pbc=False)
        atoms.calc = self._calculator
        offered = self._calculator.implemented_properties
        energy = float(atoms.get_potential_energy(force_consistent="free_energy" in offered))
        # A copy, since calculators hand out arrays that their next call overwrites.
        forces: Floats = np.array(atoms.get_forces(), dtype=np.float64)
        dipole: Floats = np.full(3, np.nan)
        charges: Floats = np.full(cluster.size, np.nan)
        if "dipole" in offered:
            dipole = np.array(atoms.get_dipole_moment(), dtype=np.float64)
        if "charges" in offered:
            charges = np.array(atoms.get_charges(), dtype=np.float64)
        return energy, forces, dipole, charges
