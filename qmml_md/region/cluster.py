"""The isolated cluster that is cut from the simulation and handed to quantum mechanics."""

from dataclasses import dataclass

import numpy as np

from ..errors import RegionError
from ..system.molecules import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Atoms in vacuum, whole and unwrapped.

    Attributes:
        numbers: atomic numbers, shape (m,).
        positions: Å, shape (m, 3).
        parent: index of each atom in the simulation, -1 for a link atom, shape (m,).
        links: rows (index in the cluster of the link atom, of the atom that it caps), shape (l, 2).
        charge: total charge, e.
        multiplicity: 2S + 1.
    """

    numbers: Ints
    positions: Floats
    parent: Ints
    links: Ints
    charge: int
    multiplicity: int

    def __post_init__(self) -> None:
        m = len(self.numbers)
        if self.positions.shape != (m, 3) or self.parent.shape != (m,) or self.links.shape[1:] != (2,):
            raise RegionError(
                f"cluster of {m} atoms with positions {self.positions.shape}, parent {self.parent.shape}, "
                f"links {self.links.shape}"
            )
        if not np.isfinite(self.positions).all():
            raise RegionError("a position of the cluster is not finite")

    @property
    def size(self) -> int:
        """Number of atoms, link atoms included."""
        return len(self.numbers)
