"""What joins a region together and what may join it at all: follows from the topology, so it is made once for a run."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import ConfigError
from ..system.molecules import Flags, Ints, Molecules, atom_name

Unit = Literal["auto", "fragments", "residues", "molecules"]

NO_ATOMS: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Units and blocks of a system.

    A *unit* is what joins a region at once. A *block* is what a region is made of: no atom is in two blocks, and bonds
    that may be cut run between blocks only. A unit is one block, but for residues: the unit of a residue is all blocks
    that it touches, and shares those that reach into the next residue. Both are numbered by their first atom.

    Attributes:
        unit_of: unit of each atom, shape (n,).
        block_of: block of each atom, shape (n,).
        unit_blocks: blocks of each unit.
        block_sizes: number of atoms of each block.
        block_neighbours: for each block, that at the other end of each bond that leaves it.
        banned: whether each unit holds an atom that must not enter, shape (number of units,).
        open_atoms: whether each atom may enter a region, shape (n,).
        seeds: atoms that are always core, sorted, shape (s,).
        solvent: whether each unit is a molecule of the solvent that may enter, shape (number of units,).
        solvent_size: atoms of the largest molecule of the solvent, 0 without any.
        smallest: atoms of the smallest block.
        cuttable: bonds between blocks, pairs of atoms, shape (c, 2).
        bond_starts: where the neighbours of each atom begin in ``bond_ends``, shape (n + 1,).
        bond_ends: bonded neighbours of atom after atom, shape (2 b,).
    """

    unit_of: Ints
    block_of: Ints
    unit_blocks: tuple[tuple[int, ...], ...]
    block_sizes: tuple[int, ...]
    block_neighbours: tuple[tuple[int, ...], ...]
    banned: Flags
    open_atoms: Flags
    seeds: Ints
    solvent: Flags
    solvent_size: int
    smallest: int
    cuttable: Ints
    bond_starts: Ints
    bond_ends: Ints

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.unit_of)

    def within_bonds(self, atoms: Ints, hops: int) -> Ints:
        """Atoms that can be reached over at most so many bonds, those given included, sorted."""
        reached = frontier = set(atoms.tolist())
        for _ in range(hops):
            ends = {
                int(end)
                for atom in frontier
                for end in self.bond_ends[self.bond_starts[atom] : self.bond_starts[atom + 1]]
            }
            frontier = ends - reached
            reached = reached | frontier
        return np.array(sorted(reached), dtype=np.int64)


def lay_out(
    molecules: Molecules,
    *,
    max_atoms: int,
    unit: Unit = "auto",
    seeds: Ints = NO_ATOMS,
    excluded: Ints = NO_ATOMS,
    solvent: Ints = NO_ATOMS,
) -> Layout:
    """Divide a system into units.

    Molecules of the solvent are whole, whatever the unit.

    Args:
        molecules: what is simulated.
        max_atoms: most atoms of a cluster: with ``auto`` a molecule of up to so many is one unit, and the units of a
            larger one are its fragments.
        unit: what joins at once.
        seeds: atoms that are always core.
        excluded: atoms that never enter.
        solvent: atoms of the molecules that are solvent; one of each is enough.

    Raises:
        ConfigError: a seed could never enter.
    """
    sizes = np.bincount(molecules.molecule_of, minlength=1)
    is_solvent = np.zeros(len(sizes), dtype=bool)
    is_solvent[molecules.molecule_of[solvent]] = True
    wet = is_solvent[molecules.molecule_of]
    whole = wet | (unit == "molecules") | ((unit == "auto") & (sizes[molecules.molecule_of] <= max_atoms))
    # Two rows of labels, so that the number of a molecule is never taken for that of a fragment.
    block_of = _numbered(whole, np.where(whole, molecules.molecule_of, molecules.fragment_of))
    unit_of = block_of
    if unit == "residues":
        residue = _numbered(molecules.residue_of, molecules.molecule_of)
        unit_of = _numbered(wet, np.where(wet, molecules.molecule_of, residue))
    unit_blocks = _blocks(unit_of, block_of)
    starts, ends = _adjacency(molecules)
    banned = _banned(unit_blocks, block_of[excluded])
    solvent_units = _any(unit_of, wet, len(unit_blocks)) & ~banned
    crossing = block_of[molecules.bonds]
    layout = Layout(
        unit_of=unit_of,
        block_of=block_of,
        unit_blocks=unit_blocks,
        block_sizes=tuple(np.bincount(block_of).tolist()),
        block_neighbours=_neighbours(block_of, molecules.bonds),
        banned=banned,
        open_atoms=~banned[unit_of],
        seeds=np.unique(seeds).astype(np.int64),
        solvent=solvent_units,
        solvent_size=int(np.bincount(unit_of)[solvent_units].max(initial=0)),
        smallest=int(np.bincount(block_of, minlength=1).min()),
        cuttable=molecules.bonds[crossing[:, 0] != crossing[:, 1]],
        bond_starts=starts,
        bond_ends=ends,
    )
    _refuse_excluded_seeds(layout, molecules)
    return layout


def _refuse_excluded_seeds(layout: Layout, molecules: Molecules) -> None:
    lost = layout.seeds[layout.banned[layout.unit_of[layout.seeds]]]
    if len(lost):
        name = f"atom {lost[0]}" if molecules.topology is None else atom_name(molecules, int(lost[0]))
        raise ConfigError(
            f"region.seed names {name}, and region.exclude that atom or one that joins together with it",
            cure="take it out of one of the two; with `region.unit: fragments` fewer atoms join together",
        )


def _numbered(*labels: Ints | Flags) -> Ints:
    """Sets of atoms with equal labels, numbered by their first atom, shape (n,)."""
    table = np.stack([np.asarray(row, dtype=np.int64) for row in labels], axis=1)
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[inverse.ravel()], dtype=np.int64)


def _blocks(unit_of: Ints, block_of: Ints) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in range(int(unit_of.max(initial=-1)) + 1)]
    for unit, block in np.unique(np.stack([unit_of, block_of], axis=1), axis=0).tolist():
        found[unit].append(block)
    return tuple(tuple(blocks) for blocks in found)


def _neighbours(block_of: Ints, bonds: Ints) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in range(int(block_of.max(initial=-1)) + 1)]
    ends = block_of[bonds]
    for one, other in ends[ends[:, 0] != ends[:, 1]].tolist():
        found[one].append(other)
        found[other].append(one)
    return tuple(tuple(sorted(blocks)) for blocks in found)


def _banned(unit_blocks: tuple[tuple[int, ...], ...], blocks: Ints) -> Flags:
    closed = set(blocks.tolist())
    return np.array([not closed.isdisjoint(blocks) for blocks in unit_blocks], dtype=bool)


def _any(unit_of: Ints, flags: Flags, count: int) -> Flags:
    found = np.zeros(count, dtype=bool)
    found[unit_of[flags]] = True
    return found


def _adjacency(molecules: Molecules) -> tuple[Ints, Ints]:
    ends = np.concatenate([molecules.bonds, molecules.bonds[:, ::-1]])
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    starts = np.searchsorted(ends[order, 0], np.arange(molecules.size + 1))
    return starts.astype(np.int64), ends[order, 1].astype(np.int64)
