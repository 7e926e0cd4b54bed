"""Unlabelled clusters cut from where the atoms are."""

from collections.abc import Iterable, Iterator

import numpy as np

from ..errors import NoRoom, RegionError
from ..system.molecules import Flags, Ints, Molecules
from .cluster import Cluster, cut_cluster
from .links import cut_bonds
from .policy import Region, RegionPolicy, empty_region

#: A disagreement above every threshold.
BEYOND_DOUBT_EV_PER_A = 1e9


def region_around(atom: int, molecules: Molecules, policy: RegionPolicy) -> Region:
    """The region that the policy would choose if this atom alone were in doubt.

    Args:
        atom: index of the atom.
        molecules: what is simulated, with positions and box as they are now.
        policy: the policy of the run.

    Raises:
        RegionError: what joins together with the atom does not fit into a region, or must not enter.
    """
    alone = np.zeros(molecules.size)
    alone[atom] = BEYOND_DOUBT_EV_PER_A
    found = policy.select(alone, empty_region(), molecules.positions, molecules).hot_places
    if not found:
        raise RegionError(f"atom {atom} must not enter the region", cure="take it out of region.exclude")
    return found[0]


def cluster_around(atom: int, molecules: Molecules, policy: RegionPolicy, *, cutoff_A: float | None = None) -> Cluster:
    """The cluster of ``region_around``.

    Args:
        atom: index of the atom.
        molecules: what is simulated, with positions and box as they are now.
        policy: the policy of the run.
        cutoff_A: reach of the model's descriptor, Å; where given, ``complete`` is known.

    Raises:
        RegionError: as for ``region_around``.
    """
    region = region_around(atom, molecules, policy)
    inside = np.zeros(molecules.size, dtype=bool)
    inside[region.atoms] = True
    # Each link atom brings an electron.
    electrons = int((molecules.numbers - molecules.formal_charge)[region.atoms].sum())
    electrons += len(cut_bonds(molecules, inside))
    return cut_cluster(molecules, molecules.positions, region.atoms, multiplicity=1 + electrons % 2, cutoff_A=cutoff_A)


def clusters_around(atoms: Iterable[int], molecules: Molecules, policy: RegionPolicy) -> Iterator[Cluster]:
    """Unlabelled clusters around atoms; none where what joins together with an atom does not fit: nothing needs it.

    Args:
        atoms: indices of the atoms.
        molecules: what is simulated, with positions and box as they are now.
        policy: the policy of the run.
    """
    for atom in atoms:
        try:
            yield cluster_around(atom, molecules, policy)
        except NoRoom:
            continue


def molecules_by_kind(molecules: Molecules, may_enter: Flags | None = None) -> tuple[Ints, ...]:
    """Atoms of each kind of molecule; molecules of equal composition are of one kind.

    Args:
        molecules: what is simulated.
        may_enter: whether each atom may enter a region, shape (n,); by default all. Others are left out.

    Returns:
        One array of atom indices for each kind, in the order in which the kinds first appear.
    """
    kinds = _kinds(molecules)
    if may_enter is None:
        return kinds
    return tuple(atoms for kind in kinds if len(atoms := kind[may_enter[kind]]))


def _kinds(molecules: Molecules) -> tuple[Ints, ...]:
    members: dict[tuple[int, ...], list[Ints]] = {}
    order = np.argsort(molecules.molecule_of, kind="stable")
    starts = np.flatnonzero(np.diff(molecules.molecule_of[order])) + 1
    for atoms in np.split(order, starts):
        members.setdefault(tuple(sorted(molecules.numbers[atoms].tolist())), []).append(atoms)
    return tuple(np.concatenate(group) for group in members.values())


def random_atom(kinds: tuple[Ints, ...], rng: np.random.Generator) -> int:
    """A random atom of a random kind of molecule: a lone solute is met as often as the solvent around it."""
    atoms = kinds[int(rng.integers(len(kinds)))]
    return int(atoms[int(rng.integers(len(atoms)))])
