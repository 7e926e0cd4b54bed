"""The simulated atoms, with their molecules, as plain arrays."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ..errors import StructureError
from .images import nearest_image

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


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
        residue_of: index of the residue of each atom, shape (n,).
        fragment_of: index of the fragment of each atom, shape (n,): what must not be cut apart, see ``fragments.py``.
        formal_charge: e per atom, shape (n,).
    """

    topology: Any
    numbers: Ints
    masses: Floats
    positions: Floats
    box: Floats | None
    bonds: Ints
    molecule_of: Ints
    residue_of: Ints
    fragment_of: Ints
    formal_charge: Ints

    def __post_init__(self) -> None:
        n = len(self.numbers)
        if self.positions.shape != (n, 3) or self.masses.shape != (n,):
            raise StructureError(f"positions {self.positions.shape} and masses {self.masses.shape} for {n} atoms")
        for name in ("molecule_of", "residue_of", "fragment_of", "formal_charge"):
            if getattr(self, name).shape != (n,):
                raise StructureError(f"{name} must have one entry for each of {n} atoms")
        if self.bonds.ndim != 2 or self.bonds.shape[1:] != (2,):
            raise StructureError(f"bonds must have shape (b, 2), not {self.bonds.shape}")
        if self.box is not None and self.box.shape != (3, 3):
            raise StructureError(f"box must have shape (3, 3), not {self.box.shape}")

    def at(self, positions: Floats, box: Floats | None) -> "Molecules":
        """The same molecules elsewhere: positions, nm, shape (n, 3), and, if it repeats, the box, nm, shape (3, 3)."""
        return replace(self, positions=positions, box=None if self.box is None else box)

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.numbers)


def topology_json(molecules: Molecules) -> str:
    """The topology in the JSON form of MDTraj's HDF5 files, which ``mdtraj.load`` reads from a segment."""
    from mdtraj.formats import HDF5TrajectoryFile

    return json.dumps(HDF5TrajectoryFile.convert_topology_to_dict(molecules.topology))


def topology_of(plain: dict[str, Any]) -> Any:
    """The MDTraj topology of the dictionary that ``topology_json`` writes.

    Raises:
        KeyError: something is missing in it.
    """
    from mdtraj import Topology
    from mdtraj.core import element

    found = Topology()
    for chain_plain in plain["chains"]:
        chain = found.add_chain(chain_plain.get("chain_id"))
        for row in chain_plain["residues"]:
            residue = found.add_residue(row["name"], chain, resSeq=row["resSeq"], segment_id=row["segmentID"])
            for atom in row["atoms"]:
                kind = element.get_by_symbol(atom["element"]) if atom["element"] else element.virtual
                found.add_atom(atom["name"], kind, residue, formal_charge=atom.get("formal_charge"))
    for a, b in plain["bonds"]:
        found.add_bond(found.atom(a), found.atom(b))
    return found


def atom_name(molecules: Molecules, index: int) -> str:
    """An atom as a person looks for it in a file, for example ``CA of GLY 7 (index 96)``; the index starts at 0."""
    atom = molecules.topology.atom(int(index))
    return f"{atom.name} of {atom.residue.name} {atom.residue.resSeq} (index {int(index)})"


def molecules_of(bonds: Ints, n: int) -> Ints:
    """Number the molecules: sets of atoms that are connected by bonds.

    Args:
        bonds: pairs of atom indices, shape (b, 2).
        n: number of atoms.

    Returns:
        Index of the molecule of each atom, shape (n,); molecules are numbered by their first atom.
    """
    graph = coo_array((np.ones(len(bonds), dtype=np.int8), (bonds[:, 0], bonds[:, 1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[inverse], dtype=np.int64)


def unwrap(positions: Floats, box: Floats | None, bonds: Ints) -> Floats:
    """Make molecules whole: move each atom to the periodic image that is nearest to its bonded neighbour.

    The first atom of a molecule stays. Atoms move by whole box vectors only.

    Args:
        positions: nm, shape (n, 3).
        box: reduced box, nm, shape (3, 3); None in vacuum, where nothing moves.
        bonds: pairs of atom indices, shape (b, 2).

    Returns:
        Positions, nm, shape (n, 3).
    """
    n = len(positions)
    if box is None or n == 0 or len(bonds) == 0:
        return np.array(positions, dtype=np.float64)
    parent = _spanning_forest(bonds, n)
    _, shifts = nearest_image(positions - positions[parent], box)
    # Each round doubles the length of the path to the root that is summed: a chain of 1000 bonds takes ten rounds.
    while (parent != parent[parent]).any():
        shifts = shifts + shifts[parent]
        parent = parent[parent]
    return np.asarray(positions + shifts @ box, dtype=np.float64)


def _spanning_forest(bonds: Ints, n: int) -> Ints:
    """One bonded neighbour of each atom on the way to the first atom of its molecule, which is its own, shape (n,)."""
    molecule = molecules_of(bonds, n)
    _, first = np.unique(molecule, return_index=True)
    # A root joined to the first atom of every molecule makes the forest one tree, found in one compiled search.
    rows = np.concatenate([bonds[:, 0], np.full(len(first), n)])
    columns = np.concatenate([bonds[:, 1], first])
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n + 1, n + 1)).tocsr()
    _, predecessors = breadth_first_order(graph, n, directed=False)
    parent = np.asarray(predecessors[:n], dtype=np.int64)
    parent[first] = first
    return parent
