"""Which atoms are bonded, frame after frame: bonds that are made and broken, hydrogens that change hands, clashes.

A bond is judged by its length over the sum of the covalent radii (``system.bonds``), with hysteresis. It is *made*
below 1.2: above any equilibrium bond (at most 1.1) and below the proton shared evenly by two oxygens (1.24). It is
*broken* above 1.6: the force of a Morse bond of O–H or C–C is steepest, and wanes from there, at 1.3 to 1.4. In between
it is what it was. A hydrogen has one bond; it changes hands when a new bond is made while the old one is beyond 1.2.

Pairs are looked up in a list of candidates that is made anew only after atoms have moved far enough to matter (Verlet,
Phys. Rev. 159, 98, 1967, doi:10.1103/PhysRev.159.98): between two looks a frame costs one distance per candidate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...records.frames import Floats, Ints
from ...system.bonds import COVALENT_RADII_A
from ...system.images import nearest_image, pairs_within
from ...units import NM_PER_ANGSTROM

MADE, BROKEN = 1.2, 1.6
#: Two atoms this near are in one place: below 0.6 of the sum of the radii (C–C 0.91 Å, O–H 0.58 Å), and below 0.5 Å for
#: any pair; the shortest bond of all, H–H, is 0.74 Å long.
CLASH_RATIO, CLASH_NM = 0.6, 0.5 * NM_PER_ANGSTROM
#: Room in the list of candidates for atoms to move, nm.
SKIN_NM = 2.0 * NM_PER_ANGSTROM


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of bonding.

    Attributes:
        kind: `made`, `broken` or `moved` (a hydrogen from the second to the third atom).
        atoms: indices; for `moved` hydrogen, old partner, new partner.
        ratio: distance of the (new) pair over the sum of the radii.
    """

    kind: str
    atoms: tuple[int, ...]
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one frame shows.

    Attributes:
        changes: of bonding since the frame before.
        clashes: pairs that are too near, with their distance, nm.
        longest: largest length of a bond over the sum of the radii; NaN without bonds.
        shortest: the smallest of the same.
    """

    changes: tuple[Change, ...]
    clashes: tuple[tuple[int, int, float], ...]
    longest: float
    shortest: float


class Contacts:
    """Bonds as they stand, and the list of candidates.

    Attributes:
        partners: bonded neighbours of each atom now.
    """

    def __init__(self, numbers: Ints, bonds: Ints) -> None:
        """Start from known bonds, shape (b, 2), of atoms with given atomic numbers, shape (n,)."""
        self._numbers = numbers
        self._radii = np.array([COVALENT_RADII_A.get(int(z), np.nan) for z in numbers]) * NM_PER_ANGSTROM
        self.partners: list[set[int]] = [set() for _ in numbers]
        for i, j in bonds.tolist():
            self._join(i, j)
        self._made_at: Floats | None = None
        self._box: Floats | None = None

    def look(self, positions: Floats, box: Floats | None) -> Look:
        """Compare one frame with what was, and remember what is.

        Args:
            positions: finite, nm, shape (n, 3), wrapped or not.
            box: reduced box, nm, shape (3, 3); None in vacuum.
        """
        if not self._still_good(positions, box):
            self._list(positions, box)
        vectors, _ = nearest_image(positions[self._second] - positions[self._first], box)
        distance = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        ratio = distance / self._sum
        clash = np.flatnonzero(distance < self._too_near)
        suspects = np.flatnonzero(np.where(self._bonded, ratio > BROKEN, ratio < MADE))
        bonds = ratio[self._bonded]
        known = bonds[np.isfinite(bonds)]
        return Look(
            changes=tuple(self._changes(suspects, ratio)),
            clashes=tuple((int(self._first[k]), int(self._second[k]), float(distance[k])) for k in clash),
            longest=float(known.max()) if len(known) else np.nan,
            shortest=float(known.min()) if len(known) else np.nan,
        )

    def _still_good(self, positions: Floats, box: Floats | None) -> bool:
        if self._made_at is None:
            return False
        moved, _ = nearest_image(positions - self._made_at, box)
        squared = np.einsum("ij,ij->i", moved, moved)
        slack = SKIN_NM
        if box is not None and self._box is not None:
            # A pair is held together by at most one vector of each kind.
            slack -= float(np.linalg.norm(box - self._box, axis=1).sum())
        return slack > 0 and 4.0 * float(squared.max()) < slack**2

    def _list(self, positions: Floats, box: Floats | None) -> None:
        n = len(positions)
        known = self._radii[np.isfinite(self._radii)]
        reach = max(2.0 * MADE * (known.max() if len(known) else 0.0), CLASH_NM) + SKIN_NM
        pairs, distance = pairs_within(positions, box, reach)
        total = self._radii[pairs].sum(axis=1)
        pairs = pairs[~(distance > np.fmax(MADE * total, CLASH_NM) + SKIN_NM)]
        bonds = np.array(sorted((i, j) for i, near in enumerate(self.partners) for j in near if i < j), dtype=np.int64)
        bonds = bonds.reshape(-1, 2)
        code = np.union1d(pairs @ [n, 1], bonds @ [n, 1])
        self._first, self._second = np.divmod(code, n)
        self._bonded: NDArray[np.bool_] = np.isin(code, bonds @ [n, 1])
        self._sum = self._radii[self._first] + self._radii[self._second]
        self._too_near = np.fmax(CLASH_RATIO * self._sum, CLASH_NM)
        self._made_at, self._box = positions.copy(), None if box is None else box.copy()

    def _changes(self, suspects: Ints, ratio: Floats) -> list[Change]:
        found = []
        # Bonds are broken before any is made, and the nearest pair is joined first.
        for k in sorted(suspects.tolist(), key=lambda k: (not self._bonded[k], ratio[k])):
            i, j = int(self._first[k]), int(self._second[k])
            if self._bonded[k]:
                self._part(i, j)
                found.append(Change(kind="broken", atoms=(i, j), ratio=float(ratio[k])))
            else:
                change = self._make(i, j, ratio)
                if change is None:
                    continue
                found.append(change)
            self._bonded[k] = not self._bonded[k]
        return found

    def _make(self, i: int, j: int, ratio: Floats) -> Change | None:
        """Join two atoms, unless one is a hydrogen that is held; a hydrogen that was held loosely lets go."""
        here = float(ratio[self._row(i, j)])
        held = [(h, old) for h in (i, j) if self._numbers[h] == 1 for old in self.partners[h]]
        if any(not ratio[self._row(h, old)] > MADE for h, old in held):
            return None
        for h, old in held:
            self._part(h, old)
            self._bonded[self._row(h, old)] = False
        self._join(i, j)
        if not held:
            return Change(kind="made", atoms=(i, j), ratio=here)
        h, old = held[0]
        return Change(kind="moved", atoms=(h, old, j if h == i else i), ratio=here)

    def _row(self, i: int, j: int) -> int:
        low, high = min(i, j), max(i, j)
        return int(np.flatnonzero((self._first == low) & (self._second == high))[0])

    def _join(self, i: int, j: int) -> None:
        self.partners[i].add(j)
        self.partners[j].add(i)

    def _part(self, i: int, j: int) -> None:
        self.partners[i].discard(j)
        self.partners[j].discard(i)
