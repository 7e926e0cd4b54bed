"""The simulated atoms, with their molecules, as plain arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StructureError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Molecules:
    """What is simulated, before it moves.

    Attributes:
        topology: mdtraj topology; names, residues and bonds for a person and for files.
        numbers: atomic numbers, shape (n,).
        masses: Da, shape (n,).
        positions: nm, shape (n, 3), as in the file.
        box: nm, rows are the box vectors in OpenMM's reduced form, shape (3, 3); None in vacuum.
        bonds: pairs of atom indices, shape (b, 2).
        molecule_of: index of the molecule of each atom, shape (n,); molecules are numbered by their first atom.
        formal_charge: e per atom, shape (n,); the charge of a residue sits on its first atom.
    """

    topology: Any
    numbers: Ints
    masses: Floats
    positions: Floats
    box: Floats | None
    bonds: Ints
    molecule_of: Ints
    formal_charge: Ints

    def __post_init__(self) -> None:
        n = len(self.numbers)
        if self.positions.shape != (n, 3) or self.masses.shape != (n,):
            raise StructureError(f"positions {self.positions.shape} and masses {self.masses.shape} for {n} atoms")
        if self.molecule_of.shape != (n,) or self.formal_charge.shape != (n,):
            raise StructureError(f"molecule_of and formal_charge must have one entry for each of {n} atoms")
        if self.bonds.ndim != 2 or self.bonds.shape[1:] != (2,):
            raise StructureError(f"bonds must have shape (b, 2), not {self.bonds.shape}")
        if self.box is not None and self.box.shape != (3, 3):
            raise StructureError(f"box must have shape (3, 3), not {self.box.shape}")

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.numbers)
