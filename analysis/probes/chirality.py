"""Stereocentres and their hand: the sign of a volume that no motion without breaking a bond can change.

A centre counts when its four neighbours are different as far as connectivity tells: colour refinement of the molecular
graph (Weisfeiler, Leman, 1968; the idea of Morgan, J. Chem. Doc. 5, 107, 1965, doi:10.1021/c160017a018) gives atoms one
colour that have equal surroundings. Centres that differ only by the hand of other centres are not found.
"""

from collections.abc import Sequence

import numpy as np

from ...records.frames import Floats, Ints
from ...system.images import nearest_image

#: Volume (of unit vectors) below which a centre is too flat to have a hand; a regular tetrahedron has 16/3√3 = 3.08.
FLAT = 0.5


def colours(numbers: Ints, partners: Sequence[set[int]]) -> list[int]:
    """One number for each atom; different where element and bonded surroundings differ, length n."""
    now = [int(z) for z in numbers]
    count = len(set(now))
    while True:
        keys = [(now[i], tuple(sorted(now[j] for j in near))) for i, near in enumerate(partners)]
        rank = {key: k for k, key in enumerate(sorted(set(keys)))}
        now = [rank[key] for key in keys]
        if len(rank) == count:
            return now
        count = len(rank)


def stereocentres(numbers: Ints, partners: Sequence[set[int]]) -> Ints:
    """Rows (centre, four neighbours in the order of their indices), shape (c, 5)."""
    candidates = [i for i, near in enumerate(partners) if len(near) == 4]
    if not candidates:
        return np.zeros((0, 5), dtype=np.int64)
    colour = colours(numbers, partners)
    rows = [(i, *sorted(partners[i])) for i in candidates if len({colour[j] for j in partners[i]}) == 4]
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def hands(centres: Ints, positions: Floats, box: Floats | None) -> Ints:
    """+1 or −1 by the order of the neighbours' indices, 0 where the centre is flat, shape (c,).

    Args:
        centres: from ``stereocentres``, shape (c, 5).
        positions: nm, shape (n, 3), wrapped or not.
        box: reduced box, nm, shape (3, 3); None in vacuum.
    """
    vectors, _ = nearest_image(positions[centres[:, 1:]] - positions[centres[:, :1]], box)
    units = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    volume = np.linalg.det(units[:, :3] - units[:, 3:])
    return np.where(np.abs(volume) < FLAT, 0, np.sign(volume)).astype(np.int64)
