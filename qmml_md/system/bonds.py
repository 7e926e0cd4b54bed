"""Which atoms are near enough to be bonded: for files that carry no bonds, and for checking those that do."""

import numpy as np

from ..units import NM_PER_ANGSTROM
from .images import Floats, Ints, pairs_within

#: Covalent radii in Å of the elements that form molecules (Cordero et al., Dalton Trans. 2832, 2008,
#: doi:10.1039/b801115j; carbon sp3). Elements not named, metal ions above all, are never bonded by distance.
COVALENT_RADII_A = {
    1: 0.31, 5: 0.84, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11,
    15: 1.07, 16: 1.05, 17: 1.02, 34: 1.20, 35: 1.20, 53: 1.39,
}  # fmt: skip
#: Slack over the sum of the radii (Meng, Lewis, J. Comput. Chem. 12, 891, 1991, doi:10.1002/jcc.540120716).
TOLERANCE_A = 0.4


def bonded_by_distance(numbers: Ints, positions: Floats, box: Floats | None) -> tuple[Ints, Floats]:
    """Pairs of atoms that are within the sum of their covalent radii and 0.4 Å of one another.

    Args:
        numbers: atomic numbers, shape (n,).
        positions: finite, nm, shape (n, 3).
        box: reduced box, nm, shape (3, 3); None in vacuum.

    Returns:
        Pairs i < j, sorted, shape (p, 2), and their distances, nm, shape (p,).
    """
    radii = np.array([COVALENT_RADII_A.get(int(z), np.nan) for z in numbers]) * NM_PER_ANGSTROM
    known = radii[np.isfinite(radii)]
    reach = 2.0 * (known.max() if len(known) else 0.0) + TOLERANCE_A * NM_PER_ANGSTROM
    pairs, distances = pairs_within(positions, box, reach)
    # Comparing with NaN is false, which is what an element without a radius asks for.
    near = distances < radii[pairs].sum(axis=1) + TOLERANCE_A * NM_PER_ANGSTROM
    return pairs[near], distances[near]


def guess_bonds(numbers: Ints, positions: Floats, box: Floats | None) -> Ints:
    """Bonds from distances alone.

    A hydrogen keeps only the nearest of several partners: a short hydrogen bond is no bond.

    Args:
        numbers: atomic numbers, shape (n,).
        positions: finite, nm, shape (n, 3).
        box: reduced box, nm, shape (3, 3); None in vacuum.

    Returns:
        Pairs i < j, sorted, shape (b, 2).
    """
    pairs, distances = bonded_by_distance(numbers, positions, box)
    keep = np.ones(len(pairs), dtype=bool)
    taken: set[int] = set()
    for row in np.argsort(distances, kind="stable"):
        for atom in pairs[row]:
            if numbers[atom] == 1:
                keep[row] &= atom not in taken
        if keep[row]:
            taken.update(int(atom) for atom in pairs[row] if numbers[atom] == 1)
    return pairs[keep]
