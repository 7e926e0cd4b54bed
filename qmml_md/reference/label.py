"""What a quantum label is, and what can make one."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOfTheory:
    """Everything that changes the number a label holds, and nothing else.

    Attributes:
        program: `pyscf` or `ase:<calculator>`; no version, since versions agree to the SCF tolerance.
        method: exchange-correlation functional, or `hf`.
        basis: name of the basis set.
        cartesian: Cartesian instead of spherical d functions.
        density_fit: density fitting of Coulomb and exchange.
        grid_level: integration grid.
        grid_response: forces hold the response of the grid to the atoms' motion, so that they are the gradient.
    """

    program: str
    method: str
    basis: str
    cartesian: bool
    density_fit: bool
    grid_level: int
    grid_response: bool = True

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that are equal only for equal levels."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The quantum result for one cluster.

    Attributes:
        key: content address, see ``label_key``.
        cluster: what was computed.
        energy: total energy, eV.
        forces: eV/Å, shape (m, 3).
        dipole: e·Å, shape (3,).
        charges: Mulliken charges, e, shape (m,).
        level: level of theory.
        rung: the rung of the SCF ladder that converged.
        spin_squared: expectation value of S².
        gap: HOMO-LUMO gap, eV.
        wall_time: s.
    """

    key: str
    cluster: Cluster
    energy: float
    forces: Floats
    dipole: Floats
    charges: Floats
    level: LevelOfTheory
    rung: str
    spin_squared: float
    gap: float
    wall_time: float


class Reference(Protocol):
    """A program that computes labels."""

    level: LevelOfTheory

    def label(self, cluster: Cluster) -> Label:
        """Compute energy and analytic gradient of a cluster.

        Raises:
            LabelError: named failure (NotConverged, LabelTimeout); the caller logs and skips it.
        """
        ...


#: Positions are rounded to this many decimals (Å) before hashing: far below what changes an energy.
KEY_DECIMALS = 8


def label_key(cluster: Cluster, level: LevelOfTheory) -> str:
    """Content address of a label: equal geometry, charge, multiplicity and level give an equal key.

    Args:
        cluster: the cluster; only what changes the quantum result enters (not which atoms it came from).
        level: the level of theory.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    numbers: Ints = np.ascontiguousarray(cluster.numbers, dtype="<i8")
    rounded: Floats = np.ascontiguousarray(np.round(cluster.positions, KEY_DECIMALS) + 0.0, dtype="<f8")
    digest.update(numbers.tobytes())
    digest.update(rounded.tobytes())
    digest.update(f"{cluster.charge}|{cluster.multiplicity}|{level.fingerprint}".encode())
    return digest.hexdigest()
