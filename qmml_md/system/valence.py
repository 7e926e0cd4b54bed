"""Which atoms lack hydrogens or bonds, as far as connectivity and geometry prove it.

Structure files carry no bond orders, so an atom with few bonds may be unsaturated or incomplete. The geometry decides:
a carbon with three bonds is complete when they are coplanar, one with two when they are collinear; a nitrogen with two
needs a neighbour that can share a double bond; an oxygen with one needs a carbon that can. Not provable, hence never
reported: the hydrogen of a pyrrole-like ring nitrogen, an ammonium group, a second carboxylate oxygen, a peroxide or a
terminal alkyne. Radicals and carbenes look like incomplete atoms and are reported.
"""

import numpy as np

from ..units import NM_PER_ANGSTROM
from .images import Floats, Ints, nearest_image
from .molecules import Molecules
from .stated import stated_residues

H, C, N, O, F, S = 1, 6, 7, 8, 9, 16  # noqa: E741
#: Bonds of a saturated neutral atom: with as many, nothing can be lacking.
SATURATED = {C: 4, N: 3, O: 2, S: 2}
MOST_BONDS = {H: 1, C: 4, N: 4, O: 3, F: 1}
#: Sum of the three angles at a planar centre is 360°, at a tetrahedral one 328.4°: the middle decides.
PLANAR_SUM_DEG = 344.0
#: Between bent (sp2, 120°) and straight (sp, 180°).
LINEAR_DEG = 150.0
#: Longest triple bond (CO 1.13, CN 1.16, NN 1.10 Å) with room for vibration; the shortest double bond to N is 1.25 Å.
TRIPLE_A = 1.23
#: C=O of a delocalised anion (1.26 Å) and four times its thermal amplitude at 300 K (0.023 Å for a force constant of
#: 1140 kcal/mol/Å²), still below the single bond of a phenol (1.37 Å).
CARBONYL_A = 1.35


class _Shape:
    """Neighbours of each atom and the vectors to them."""

    def __init__(self, molecules: Molecules) -> None:
        self.numbers = [int(z) for z in molecules.numbers]
        self.neighbours: list[list[int]] = [[] for _ in self.numbers]
        self._bonds: list[list[Floats]] = [[] for _ in self.numbers]
        i, j = molecules.bonds.T
        vectors, _ = nearest_image(molecules.positions[j] - molecules.positions[i], molecules.box)
        for a, b, vector in zip(i.tolist(), j.tolist(), vectors, strict=True):
            self.neighbours[a].append(b)
            self.neighbours[b].append(a)
            self._bonds[a].append(vector)
            self._bonds[b].append(-vector)

    def degree(self, atom: int) -> int:
        """Number of bonds of an atom."""
        return len(self.neighbours[atom])

    def lengths(self, atom: int) -> list[float]:
        """Lengths of the bonds of an atom, Å."""
        return [float(np.linalg.norm(v)) / NM_PER_ANGSTROM for v in self._bonds[atom]]

    def angles_deg(self, atom: int) -> list[float]:
        """Angles between all pairs of bonds of an atom."""
        units = [v / np.linalg.norm(v) for v in self._bonds[atom]]
        cosines = [float(u @ v) for k, u in enumerate(units) for v in units[:k]]
        return [float(np.degrees(np.arccos(np.clip(c, -1.0, 1.0)))) for c in cosines]

    def unsaturated(self, atom: int) -> bool:
        """Whether the geometry of a carbon is that of an sp2 or sp centre."""
        degree = self.degree(atom)
        if degree == 3:
            return sum(self.angles_deg(atom)) > PLANAR_SUM_DEG
        if degree == 2:
            return self.angles_deg(atom)[0] > LINEAR_DEG
        return degree == 1 and self.lengths(atom)[0] < TRIPLE_A

    def shares_double_bond(self, atom: int) -> bool:
        """Whether a neighbour of a nitrogen can have a double bond to it.

        A carbonyl carbon has spent its own on the oxygen, which is what tells an amide from an imine.
        """
        if self.numbers[atom] == C:
            spent = self.degree(atom) == 3 and any(
                self.numbers[k] in (O, S) and self.degree(k) == 1 for k in self.neighbours[atom]
            )
            return self.unsaturated(atom) and not spent
        return self.degree(atom) < SATURATED.get(self.numbers[atom], 9) and self.numbers[atom] not in (H, F)


def lacking_atoms(molecules: Molecules) -> Ints:
    """Atoms that lack hydrogens or bonds.

    An N, O or S that bears a negative charge may lack a hydrogen where the charge of its residue is stated, by the
    user, the file or the name of the residue: that is what makes the charge.

    Args:
        molecules: with finite positions.

    Returns:
        Indices, sorted, shape (k,).
    """
    shape = _Shape(molecules)
    suspects = [i for i, z in enumerate(shape.numbers) if shape.degree(i) < SATURATED.get(z, 0)]
    lacking = [i for i in suspects if _lacks(shape, i)]
    lacking += [i for i, z in enumerate(shape.numbers) if z == H and shape.degree(i) == 0]
    return np.array(sorted(_unexcused(molecules, shape, lacking)), dtype=np.int64)


def crowded_atoms(molecules: Molecules) -> Ints:
    """Atoms with more bonds than their element forms: indices, sorted, shape (k,)."""
    degree = np.bincount(molecules.bonds.ravel(), minlength=molecules.size)
    most = np.array([MOST_BONDS.get(int(z), 9) for z in molecules.numbers])
    return np.flatnonzero(degree > most)


def _lacks(shape: _Shape, atom: int) -> bool:
    degree, number = shape.degree(atom), shape.numbers[atom]
    if degree == 0:
        return True
    if number == C:
        return not shape.unsaturated(atom)
    if number == N:
        if degree == 1:
            return shape.lengths(atom)[0] >= TRIPLE_A
        straight = shape.angles_deg(atom)[0] > LINEAR_DEG
        return not straight and not any(shape.shares_double_bond(k) for k in shape.neighbours[atom])
    return _chalcogen_lacks(shape, atom)


def _chalcogen_lacks(shape: _Shape, atom: int) -> bool:
    """Whether an oxygen or sulfur with one bond lacks a hydrogen."""
    partner = shape.neighbours[atom][0]
    if shape.numbers[partner] == H:
        return True
    if shape.numbers[partner] != C:
        return False
    if not shape.unsaturated(partner):
        return True
    return shape.numbers[atom] == O and shape.lengths(atom)[0] > CARBONYL_A


def _unexcused(molecules: Molecules, shape: _Shape, lacking: list[int]) -> list[int]:
    """Without the heteroatoms whose charge is stated: it says that their proton is not forgotten."""
    stated = stated_residues(molecules.topology) if lacking else set()
    negative = molecules.formal_charge < 0
    return [
        atom for atom in lacking
        if not (shape.numbers[atom] in (N, O, S) and negative[atom] and int(molecules.residue_of[atom]) in stated)
    ]  # fmt: skip
