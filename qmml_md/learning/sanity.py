"""Physics that no label has to teach: atoms repel when pressed together, and a bond has one minimum.

Labels lie near the minimum of every bond, so training is free to ruin what lies beyond, and the first hot collision
falls into the hole. The candidate is led along the same one-dimensional paths as the starting model, and may not be
worse than it: where the starting model itself has a fault, as published potentials have for lone pairs of atoms,
learning is not blamed for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ensemble.model import AniEnsemble
from ..region.cluster import Cluster, lone_cluster
from ..system.bonds import COVALENT_RADII_A, guess_bonds
from ..system.molecules import Floats, Ints
from ..units import NM_PER_ANGSTROM
from .measure import measure

#: Pair scans, in sums of covalent radii, from outside inwards.
PAIR_SCAN = np.linspace(1.0, 0.6, 9)
#: Bond scans, in sums of covalent radii, from outside inwards.
BOND_SCAN = np.linspace(1.6, 0.6, 11)
#: Most bonds scanned in one update, one of each pair of elements first.
BONDS = 5
#: A dip counts as a minimum if it is deeper than this on both sides, eV: four kT at room temperature.
DIP_EV = 0.1
#: Energy that an approach may lose beyond what it loses with the starting model, eV.
FALL_EV = 0.25
#: The wall may not be lower than this fraction of the starting model's.
WALL = 0.5
#: Walls of the starting model below this say nothing, eV.
LEAST_WALL_EV = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Geometries along one path, from outside inwards.

    Attributes:
        name: for a person.
        geometries: clusters of equal composition.
        kind: `pair` or `bond`.
    """

    name: str
    geometries: tuple[Cluster, ...]
    kind: str


def sanity(candidate: AniEnsemble, base: AniEnsemble, clusters: Sequence[Cluster]) -> list[str]:
    """What is wrong with the candidate along the paths, one line each; empty if nothing is.

    Args:
        candidate: the trained model.
        base: the starting model.
        clusters: those of the labels, newest last; their elements and their bonds make the paths.
    """
    if not clusters:
        return []
    paths = [*pair_paths(np.unique(np.concatenate([c.numbers for c in clusters]))), *bond_paths(clusters[-1])]
    geometries = [g for path in paths for g in path.geometries]
    new, old = (m.energies for m in measure([candidate, base], geometries, forces=False))
    ends = np.cumsum([len(path.geometries) for path in paths])[:-1]
    found = [
        fault(path, ours, theirs)
        for path, ours, theirs in zip(paths, np.split(new, ends), np.split(old, ends), strict=True)
    ]
    return [line for line in found if line]


def fault(path: Path, candidate: Floats, base: Floats) -> str:
    """What is wrong with a candidate's energies along a path, eV, from outside inwards; empty if nothing is."""
    if not np.isfinite(candidate).all():
        return f"{path.name}: the energy is not finite"
    wall, theirs = candidate[-1] - candidate.min(), base[-1] - base.min()
    if theirs > LEAST_WALL_EV and wall < WALL * theirs:
        return f"{path.name}: the wall falls from {theirs:.2f} to {wall:.2f} eV"
    if path.kind == "pair" and (lost := fall(candidate)) > fall(base) + FALL_EV:
        return f"{path.name}: pressing together gains {lost:.2f} eV; with the starting model {fall(base):.2f}"
    if path.kind == "bond" and minima(candidate) > max(1, minima(base)):
        return f"{path.name}: {minima(candidate)} minima; with the starting model {minima(base)}"
    return ""


def fall(energies: Floats) -> float:
    """Energy lost on the way in, summed over the steps that go down, eV."""
    return float(-np.minimum(np.diff(energies), 0.0).sum())


def minima(energies: Floats, depth: float = DIP_EV) -> int:
    """Number of minima that are deeper than ``depth`` on both sides; an end of the path is none.

    Args:
        energies: eV, along the path.
        depth: eV.
    """
    count, extreme, falling = 0, energies[0], False
    for e in energies[1:]:
        extreme = min(extreme, e) if falling else max(extreme, e)
        if falling and e > extreme + depth:
            count, extreme, falling = count + 1, e, False
        elif not falling and e < extreme - depth:
            extreme, falling = e, True
    return count


def pair_paths(elements: Ints) -> list[Path]:
    """Two lone atoms of every pair of these elements, pressed together to 0.6 of the sum of their covalent radii."""
    known = [int(z) for z in elements if int(z) in COVALENT_RADII_A]
    found = []
    for i, a in enumerate(known):
        for b in known[i:]:
            reach = COVALENT_RADII_A[a] + COVALENT_RADII_A[b]
            shapes = [
                lone_cluster(np.array([a, b]), np.array([[0.0, 0.0, 0.0], [x * reach, 0.0, 0.0]])) for x in PAIR_SCAN
            ]
            found.append(Path(name=f"pair of atoms {a}-{b}", geometries=tuple(shapes), kind="pair"))
    return found


def bond_paths(cluster: Cluster) -> list[Path]:
    """Bonds of a cluster, pulled and pressed; what hangs on the smaller side moves as one. Bonds in rings stay out."""
    bonds = guess_bonds(cluster.numbers, cluster.positions * NM_PER_ANGSTROM, None)
    found: dict[tuple[int, int], list[Path]] = {}
    for bond in bonds:
        side = _side(bonds, bond, cluster.size)
        if side is None:
            continue
        a, b = (int(x) for x in (bond if side[bond[1]] else bond[::-1]))
        axis = cluster.positions[b] - cluster.positions[a]
        length = float(np.linalg.norm(axis))
        kind = (int(min(cluster.numbers[bond])), int(max(cluster.numbers[bond])))
        reach = sum(COVALENT_RADII_A[z] for z in kind)
        moved = [cluster.positions + np.outer(side, axis / length * (x * reach - length)) for x in BOND_SCAN]
        shapes = tuple(lone_cluster(cluster.numbers, positions) for positions in moved)
        path = Path(name=f"bond {kind[0]}-{kind[1]} of atoms {a} and {b}", geometries=shapes, kind="bond")
        found.setdefault(kind, []).append(path)
    # One of each kind first, then second ones.
    ranked = sorted((k, kind, path) for kind, paths in found.items() for k, path in enumerate(paths))
    return [path for _, _, path in ranked[:BONDS]]


def _side(bonds: Ints, cut: Ints, atoms: int) -> Floats | None:
    """1 for the atoms on the smaller side of a bond, 0 elsewhere, shape (m,); None if it is in a ring."""
    inside = np.zeros(atoms, dtype=bool)
    inside[cut[1]] = True
    others = bonds[~(bonds == np.sort(cut)).all(axis=1)]
    while True:
        grown = inside.copy()
        for i, j in others:
            grown[[i, j]] |= grown[i] | grown[j]
        if (grown == inside).all():
            break
        inside = grown
    if inside[cut[0]]:
        return None
    # The atoms that hang together with the other end, so that a cluster's other molecules stay where they are.
    return inside.astype(np.float64) if 2 * inside.sum() <= atoms else _side(bonds, cut[::-1], atoms)
