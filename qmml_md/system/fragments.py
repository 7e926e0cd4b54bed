"""Where a molecule may be cut: only single, non-polar, acyclic bonds between carbon atoms.

What such bonds separate are fragments; a cluster is made of whole ones. Nothing else is ever cut: no amide, aromatic,
ring, C–H or polar bond, no bond in conjugation. Where no bond may be cut the fragment is the whole molecule.
"""

import networkx as nx
import numpy as np

from .images import Ints
from .molecules import Flags, molecules_of

CARBON = 6
#: Neighbours of a saturated carbon. One end of a bond being saturated makes the bond a single one out of conjugation.
SATURATED = 4
#: Neighbours of a carbon with a double bond.
UNSATURATED = 3
#: A bond in a ring of up to so many atoms is never cut. Rings beyond are chains that were closed, such as the backbone
#: between two cysteines of a disulfide: cutting one leaves ordinary ends.
LARGEST_RING = 8


def cuttable_bonds(numbers: Ints, bonds: Ints) -> Ints:
    """Bonds that may be cut: C(sp3)–C(sp3) and C(sp3)–C(sp2), in no ring of up to eight atoms.

    Args:
        numbers: atomic numbers, shape (n,).
        bonds: pairs of atom indices, shape (b, 2); hydrogens are there.

    Returns:
        Rows of ``bonds``, shape (c, 2).
    """
    degree = np.bincount(bonds.ravel(), minlength=len(numbers))
    ends = degree[bonds]
    carbon = (numbers[bonds] == CARBON).all(axis=1)
    single = (ends == SATURATED).any(axis=1) & (ends >= UNSATURATED).all(axis=1) & (ends <= SATURATED).all(axis=1)
    chosen = bonds[carbon & single]
    return np.asarray(chosen[~in_small_ring(chosen, bonds)], dtype=np.int64)


def leaving_bonds(bonds: Ints, inside: Flags) -> Ints:
    """Bonds between an atom of a set and one outside: rows (inside atom, outside atom), sorted, shape (l, 2).

    Args:
        bonds: pairs of atom indices, shape (b, 2).
        inside: whether each atom belongs to the set, shape (n,).
    """
    ends = inside[bonds]
    cut = bonds[ends[:, 0] != ends[:, 1]]
    rows = np.where(inside[cut[:, :1]], cut, cut[:, ::-1])
    return np.asarray(rows[np.lexsort(rows.T[::-1])], dtype=np.int64)


def in_small_ring(chosen: Ints, bonds: Ints) -> np.ndarray:
    """Whether each chosen bond lies in a ring of up to ``LARGEST_RING`` atoms, shape (c,)."""
    if not len(chosen):
        return np.zeros(0, dtype=bool)
    graph = nx.Graph(bonds.tolist())
    found = []
    for a, b in chosen.tolist():
        graph.remove_edge(a, b)
        # A ring of k atoms is a way of k − 1 bonds around.
        found.append(b in nx.single_source_shortest_path_length(graph, a, cutoff=LARGEST_RING - 1))
        graph.add_edge(a, b)
    return np.array(found, dtype=bool)


def fragments_of(numbers: Ints, bonds: Ints) -> Ints:
    """Number the fragments: sets of atoms connected by bonds that must not be cut.

    Args:
        numbers: atomic numbers, shape (n,).
        bonds: pairs of atom indices, shape (b, 2).

    Returns:
        Index of the fragment of each atom, shape (n,); fragments are numbered by their first atom.
    """
    cuttable = {tuple(bond) for bond in cuttable_bonds(numbers, bonds).tolist()}
    kept = np.array([tuple(bond) not in cuttable for bond in bonds.tolist()], dtype=bool)
    return molecules_of(bonds[kept] if len(bonds) else bonds, len(numbers))
