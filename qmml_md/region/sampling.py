"""Unlabelled clusters cut from where the atoms are."""

import numpy as np

from ..system.molecules import Ints, Molecules
from .cluster import Cluster, cut_cluster
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
        RegionError: the atom's molecule does not fit into a region.
    """
    alone = np.zeros(molecules.size)
    alone[atom] = BEYOND_DOUBT_EV_PER_A
    return policy.select(alone, empty_region(), molecules.positions, molecules)


def cluster_around(atom: int, molecules: Molecules, policy: RegionPolicy) -> Cluster:
    """The cluster of ``region_around``.

    Raises:
        RegionError: the atom's molecule does not fit into a region.
    """
    region = region_around(atom, molecules, policy)
    electrons = int(molecules.numbers[region.atoms].sum() - molecules.formal_charge[region.atoms].sum())
    return cut_cluster(molecules, molecules.positions, region.atoms, multiplicity=1 + electrons % 2)


def molecules_by_kind(molecules: Molecules) -> tuple[Ints, ...]:
    """Atoms of each kind of molecule; molecules of equal composition are of one kind.

    Returns:
        One array of atom indices for each kind, in the order in which the kinds first appear.
    """
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
