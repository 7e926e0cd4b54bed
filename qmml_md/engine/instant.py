"""One instant of a run, and what no instant may hold: numbers, forces, temperature and bonds that no physics gives."""

from dataclasses import dataclass

import numpy as np

from ..config import Dynamics
from ..errors import DynamicsError
from ..system.bonds import COVALENT_RADII_A
from ..system.images import nearest_image
from ..system.molecules import Floats, Ints, Molecules, atom_name
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K, NM_PER_ANGSTROM

#: A force beyond this (about 500 eV/Å) is no physics: the atoms are lost.
EXPLOSION_KJ_PER_MOL_PER_NM = 5e6
CURE = "take a shorter time step, minimise first, or label this geometry; the last commit of the run is whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """Everything about one instant, velocities on-step.

    Attributes:
        positions: nm, shape (n, 3), unwrapped.
        velocities: nm/ps, shape (n, 3).
        forces: kJ/mol/nm, shape (n, 3).
        potential: kJ/mol, self energies subtracted.
        kinetic: kJ/mol.
        box: nm, shape (3, 3); zeros in vacuum.
    """

    positions: Floats
    velocities: Floats
    forces: Floats
    potential: float
    kinetic: float
    box: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an instant may not exceed.

    Attributes:
        molecules: whose bonds are looked at, and whose atoms are named.
        degrees_of_freedom: for the temperature.
        temperature_K: K.
        lengths_nm: longest length of each of ``bonds``, nm, shape (b,).
        bonds: rows of atoms, shape (b, 2); none where bonds may break.
    """

    molecules: Molecules
    degrees_of_freedom: int
    temperature_K: float
    lengths_nm: Floats
    bonds: Ints


def limits_of(dynamics: Dynamics, molecules: Molecules, degrees_of_freedom: int) -> Limits:
    """The limits of a configuration."""
    stretch = dynamics.max_bond_stretch
    bonds = molecules.bonds if stretch is not None else np.zeros((0, 2), dtype=np.int64)
    bonds = bonds[np.isin(molecules.numbers[bonds], list(COVALENT_RADII_A)).all(axis=1)]
    radii = np.array([[COVALENT_RADII_A[int(z)] for z in molecules.numbers[pair]] for pair in bonds]).reshape(-1, 2)
    return Limits(
        molecules=molecules,
        degrees_of_freedom=degrees_of_freedom,
        temperature_K=dynamics.max_temperature_K,
        lengths_nm=(stretch or 0.0) * radii.sum(axis=1) * NM_PER_ANGSTROM,
        bonds=bonds,
    )


def refuse_explosion(limits: Limits, found: Instant) -> None:
    """Refuse an instant that no physics gives.

    Raises:
        DynamicsError: the dynamics have exploded; says by what, and which atom.
    """
    numbers = (found.positions, found.forces, found.velocities, np.array([found.potential, found.kinetic]))
    if not all(np.isfinite(each).all() for each in numbers):
        raise DynamicsError("a position, force or energy is not finite: the dynamics have exploded", cure=CURE)
    worst = int(np.abs(found.forces).max(axis=1).argmax())
    if np.abs(found.forces[worst]).max() > EXPLOSION_KJ_PER_MOL_PER_NM:
        name = atom_name(limits.molecules, worst)
        raise DynamicsError(f"the force on {name} is beyond reason: the dynamics have exploded", cure=CURE)
    temperature = 2.0 * found.kinetic / (limits.degrees_of_freedom * BOLTZMANN_KJ_PER_MOL_PER_K)
    if temperature > limits.temperature_K:
        raise DynamicsError(
            f"the temperature is {temperature:.0f} K, above dynamics.max_temperature_K of {limits.temperature_K:g}: "
            "the dynamics have exploded",
            cure=CURE,
        )
    _refuse_torn_bonds(limits, found.positions, found.box)


def _refuse_torn_bonds(limits: Limits, positions: Floats, box: Floats) -> None:
    if not len(limits.bonds):
        return
    apart = positions[limits.bonds[:, 1]] - positions[limits.bonds[:, 0]]
    lengths = np.linalg.norm(nearest_image(apart, box if box.any() else None)[0], axis=1)
    torn = lengths > limits.lengths_nm
    if torn.any():
        k = int((lengths / limits.lengths_nm).argmax())
        names = " and ".join(atom_name(limits.molecules, int(atom)) for atom in limits.bonds[k])
        raise DynamicsError(
            f"the bond of {names} is {lengths[k] / NM_PER_ANGSTROM:.1f} Å long, beyond dynamics.max_bond_stretch: the "
            "dynamics have exploded",
            cure=f"{CURE}; or leave max_bond_stretch out where bonds may break",
        )
