"""The isolated cluster that is cut from the simulation and handed to quantum mechanics."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RegionError
from ..system.images import nearest_image
from ..system.molecules import Floats, Ints, Molecules, unwrap
from ..units import ANGSTROM_PER_NM

Flags = NDArray[np.bool_]


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
) -> Cluster:
    """Cut whole molecules out of the simulation and put them together in vacuum.

    The molecule of the first atom is made whole around that atom. The others follow one by one, each at the periodic
    image that brings it nearest to those placed before, nearest first: contacts within the box become contacts in the
    cluster, wherever atoms were wrapped. Atoms move by whole box vectors only.

    Present limit: whole molecules only, no link atoms. A molecule that ``atoms`` names in part is taken whole.

    Args:
        molecules: what is simulated.
        positions_nm: nm, shape (n, 3), wrapped or not.
        atoms: indices of atoms of the wanted molecules.
        box: reduced box now, nm, shape (3, 3); by default that of ``molecules``.
        charge: e; by default the sum of the formal charges.
        multiplicity: 2S + 1; by default 1, and an odd number of electrons is refused.

    Returns:
        The cluster, with atoms in the order of the simulation and no link atoms.

    Raises:
        RegionError: no atoms, or charge and multiplicity do not fit the number of electrons.
    """
    if len(atoms) == 0:
        raise RegionError("a cluster needs at least one atom", cure="cut a cluster only where the region is not empty")
    wanted = np.zeros(int(molecules.molecule_of.max()) + 1, dtype=bool)
    wanted[molecules.molecule_of[np.asarray(atoms)]] = True
    inside = wanted[molecules.molecule_of]
    parent = np.flatnonzero(inside)
    place = np.cumsum(inside) - 1
    bonds = place[molecules.bonds[inside[molecules.bonds[:, 0]]]]
    lattice = molecules.box if box is None else box
    whole = unwrap(positions_nm[parent], lattice, bonds)
    gathered = _gather(whole, molecules.molecule_of[parent], lattice)
    total = int(molecules.formal_charge[parent].sum()) if charge is None else charge
    numbers = molecules.numbers[parent]
    return Cluster(
        numbers=numbers,
        positions=gathered * ANGSTROM_PER_NM,
        parent=parent.astype(np.int64),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=total,
        multiplicity=_spin(int(numbers.sum()) - total, total, multiplicity),
    )


def _gather(positions: Floats, molecule: Ints, box: Floats | None) -> Floats:
    """Move whole molecules to the images nearest to one another, along a minimum spanning tree of their contacts."""
    if box is None:
        return positions
    vectors, _ = nearest_image(positions[None, :] - positions[:, None], box)
    squared = np.einsum("ijk,ijk->ij", vectors, vectors)
    moved = positions.copy()
    placed = molecule == molecule[0]
    while not placed.all():
        left = np.flatnonzero(~placed)
        i, k = np.unravel_index(np.argmin(squared[np.ix_(placed, ~placed)]), (len(molecule) - len(left), len(left)))
        near, far = np.flatnonzero(placed)[i], left[k]
        joining = molecule == molecule[far]
        _, shift = nearest_image(moved[far] - moved[near], box)
        moved[joining] += shift @ box
        placed |= joining
    return moved


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
