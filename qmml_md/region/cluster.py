"""The isolated cluster that is cut from the simulation and handed to quantum mechanics."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import RegionError
from ..system.images import nearest_image
from ..system.molecules import Flags, Floats, Ints, Molecules
from ..units import ANGSTROM_PER_NM
from .guarantee import complete_atoms, unseen_across
from .links import HYDROGEN, cut_bonds, link_ratios, place_links
from .placing import place

#: Closer than this to another atom a link atom is a ghost: below the shortest bond there is, 0.74 Å in H2.
GHOST_A = 0.7


def _no_atoms() -> Ints:
    return np.zeros(0, dtype=np.int64)


def _no_numbers() -> Floats:
    return np.zeros(0, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Point charges around a cluster, in its coordinates.

    Attributes:
        positions: Å, shape (c, 3).
        charges: e, shape (c,).
        parent: index in the simulation of the atom that each charge belongs to, -1 for one that was put beside it,
            shape (c,).
        own: force-field charges of the cluster's atoms, e, shape (m,): what stands for them in the explicit term.
    """

    positions: Floats
    charges: Floats
    parent: Ints
    own: Floats


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
        outer: index in the simulation of the atom in whose place each link atom stands, shape (l,).
        ratios: part of the way from the capped atom to that atom at which each link atom sits, shape (l,).
        complete: whether each atom has everything of the simulation within the model's cutoff around it in the cluster,
            shape (m,); None where that is not known, as for a cluster of no simulation.
        surroundings: point charges that the quantum calculation sees; None for an isolated cluster.
    """

    numbers: Ints
    positions: Floats
    parent: Ints
    links: Ints
    charge: int
    multiplicity: int
    outer: Ints = field(default_factory=_no_atoms)
    ratios: Floats = field(default_factory=_no_numbers)
    complete: Flags | None = None
    surroundings: Surroundings | None = None

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

    @property
    def geometry(self) -> tuple[bytes, bytes]:
        """Elements and positions to the bit, to find equal clusters by."""
        return self.numbers.tobytes(), self.positions.tobytes()


def plain_of(cluster: Cluster) -> dict[str, Any]:
    """A cluster as JSON has it, without surroundings: what is not labelled has none; exact to the bit."""
    return {
        "numbers": cluster.numbers.tolist(),
        "positions": cluster.positions.tolist(),
        "parent": cluster.parent.tolist(),
        "links": cluster.links.tolist(),
        "charge": cluster.charge,
        "multiplicity": cluster.multiplicity,
        "outer": cluster.outer.tolist(),
        "ratios": cluster.ratios.tolist(),
        "complete": None if cluster.complete is None else cluster.complete.tolist(),
    }


def cluster_of(plain: dict[str, Any]) -> Cluster:
    """The cluster that ``plain_of`` took."""
    complete = plain.get("complete")
    return Cluster(
        numbers=np.array(plain["numbers"], dtype=np.int64),
        positions=np.array(plain["positions"], dtype=np.float64),
        parent=np.array(plain["parent"], dtype=np.int64),
        links=np.array(plain["links"], dtype=np.int64).reshape(-1, 2),
        charge=plain["charge"],
        multiplicity=plain["multiplicity"],
        outer=np.array(plain.get("outer", ()), dtype=np.int64),
        ratios=np.array(plain.get("ratios", ()), dtype=np.float64),
        complete=None if complete is None else np.array(complete, dtype=bool),
    )


def lone_cluster(numbers: Ints, positions: Floats) -> Cluster:
    """Neutral, closed-shell, of no simulation: no atom has a parent.

    Args:
        numbers: atomic numbers, shape (m,).
        positions: Å, shape (m, 3).
    """
    return Cluster(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.asarray(positions, dtype=np.float64),
        parent=np.full(len(numbers), -1, dtype=np.int64),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=0,
        multiplicity=1,
    )


def cut_cluster(
    molecules: Molecules,
    positions_nm: Floats,
    atoms: Ints,
    *,
    box: Floats | None = None,
    charge: int | None = None,
    multiplicity: int | None = None,
    cutoff_A: float | None = None,
) -> Cluster:
    """Cut whole fragments out of the simulation, cap the cut bonds, and put all together in vacuum.

    A fragment that ``atoms`` names in part is taken whole. Contacts within the box become contacts in the cluster,
    wherever atoms were wrapped; see ``placing.place``. Link hydrogens follow the real atoms, by the atom that they cap
    and then the atom in whose place they stand. They carry no charge: each half of a cut bond keeps one electron.

    Args:
        molecules: what is simulated.
        positions_nm: nm, shape (n, 3), wrapped or not.
        atoms: indices of atoms of the wanted fragments.
        box: reduced box now, nm, shape (3, 3); by default that of ``molecules``.
        charge: e; by default the sum of the formal charges.
        multiplicity: 2S + 1; by default 1, and an odd number of electrons is refused.
        cutoff_A: the reach of the model's descriptor, Å; where given, ``complete`` says which atoms keep the guarantee.

    Returns:
        The cluster, with real atoms in the order of the simulation, then link atoms.

    Raises:
        RegionError: no atoms; charge and multiplicity do not fit the number of electrons; or a link atom stands where
            another atom is, which ``links.unfit_outers`` foresees.
    """
    if len(atoms) == 0:
        raise RegionError("a cluster needs at least one atom", cure="cut a cluster only where the region is not empty")
    wanted = np.zeros(int(molecules.fragment_of.max()) + 1, dtype=bool)
    wanted[molecules.fragment_of[np.asarray(atoms)]] = True
    inside = wanted[molecules.fragment_of]
    parent = np.flatnonzero(inside)
    lattice = molecules.box if box is None else box
    cut = cut_bonds(molecules, inside)
    hosts, ratios = np.searchsorted(parent, cut[:, 0]), link_ratios(molecules.numbers, cut)
    placed = place(molecules, positions_nm, parent, lattice)
    bond, _ = nearest_image(positions_nm[cut[:, 1]] - positions_nm[cut[:, 0]], lattice)
    positions = np.concatenate([placed, place_links(placed[hosts], placed[hosts] + bond, ratios)]) * ANGSTROM_PER_NM
    _refuse_ghosts(molecules, cut, positions)
    complete = None
    if cutoff_A is not None:
        complete = complete_atoms(molecules, positions_nm, inside, lattice, cutoff_A)
        complete &= unseen_across(placed, lattice, cutoff_A)
        complete = np.concatenate([complete, np.zeros(len(cut), dtype=bool)])
    total = int(molecules.formal_charge[parent].sum()) if charge is None else charge
    numbers = np.concatenate([molecules.numbers[parent], np.full(len(cut), HYDROGEN, dtype=np.int64)])
    return Cluster(
        numbers=numbers,
        positions=positions,
        parent=np.concatenate([parent, np.full(len(cut), -1)]).astype(np.int64),
        links=np.stack([np.arange(len(parent), len(numbers)), hosts], axis=1).astype(np.int64),
        charge=total,
        multiplicity=_spin(int(numbers.sum()) - total, total, multiplicity),
        outer=cut[:, 1],
        ratios=ratios,
        complete=complete,
    )


def _refuse_ghosts(molecules: Molecules, cut: Ints, positions: Floats) -> None:
    """Refuse link atoms, the last of ``positions``, that share an atom or stand on another atom of the cluster."""
    outer, count = np.unique(cut[:, 1], return_counts=True)
    first = len(positions) - len(cut)
    vectors = positions[None, :] - positions[first:, None]
    squared = np.einsum("ijk,ijk->ij", vectors, vectors)
    squared[np.arange(len(cut)), first + np.arange(len(cut))] = np.inf
    ghosts = np.union1d(outer[count > 1], cut[(squared < GHOST_A**2).any(axis=1), 1])
    if len(ghosts):
        raise RegionError(
            f"a link atom in the place of atom {', '.join(map(str, ghosts[:4].tolist()))} would meet another atom of "
            f"the cluster (closer than {GHOST_A} Å), or another link atom in that place",
            cure="take the fragment of that atom into the region too (links.unfit_outers names such atoms), or raise "
            "region.max_qm_atoms so that it has room",
        )


def _spin(electrons: int, charge: int, multiplicity: int | None) -> int:
    """The multiplicity, refused where the electrons do not allow it."""
    spins = (multiplicity or 1) - 1
    if multiplicity is None and electrons % 2:
        raise RegionError(
            f"the cluster has {electrons} electrons at charge {charge:+d}: an odd number, and no multiplicity is given",
            cure="give charged residues in system.formal_charges (or reference.charge); "
            "set reference.multiplicity only if the cluster truly is a radical",
        )
    if spins < 0 or spins > electrons or (electrons - spins) % 2:
        raise RegionError(
            f"multiplicity {multiplicity} does not fit {electrons} electrons at charge {charge:+d}",
            cure=f"use an {'even' if electrons % 2 else 'odd'} reference.multiplicity, "
            "or correct system.formal_charges or reference.charge",
        )
    return spins + 1
