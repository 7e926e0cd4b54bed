"""Periodic images: which copy of an atom is meant, in boxes of any shape that OpenMM accepts.

Boxes are in OpenMM's reduced form: rows a = (ax, 0, 0), b = (bx, by, 0), c = (cx, cy, cz) with positive diagonal,
|bx| ≤ ax/2, |cx| ≤ ax/2 and |cy| ≤ by/2. Shifts are whole numbers of box vectors, so that an atom moved by them is the
same atom to the last bit of the arithmetic.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..errors import StructureError
from ..units import NM_PER_ANGSTROM

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A cell and all its neighbours; enough for the nearest image in a reduced box whose diagonal elements differ by less
#: than a factor of three (a needle or a slab that is also oblique could need the cells beyond).
NEIGHBOUR_CELLS: Ints = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.int64)
#: Box components below this (nm) are rounding of a right angle.
ROUNDING_NM = 1e-7
#: A box holds at least so much, and is not thinner: images within reach of one another would be countless.
SMALLEST_NM3, THINNEST_NM = NM_PER_ANGSTROM**3, 0.01
#: Pairs of atoms within reach that matter can have, for each atom: in a crystal of diamond 30 lie within 3.2 Å.
MOST_PAIRS = 400


def box_from_cell(lengths_nm: Floats, angles_deg: Floats) -> Floats:
    """Box vectors in reduced form from a crystallographic cell.

    Args:
        lengths_nm: a, b, c in nm, shape (3,).
        angles_deg: α (b, c), β (a, c), γ (a, b) in degrees, shape (3,).

    Returns:
        Rows a, b, c in nm, shape (3, 3).

    Raises:
        StructureError: no such cell exists.
    """
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(angles_deg))
    sin_gamma = np.sin(np.radians(angles_deg[2]))
    a, b, c = lengths_nm
    cx, cy = cos_beta, (cos_alpha - cos_beta * cos_gamma) / sin_gamma if sin_gamma else np.nan
    height_squared = 1.0 - cx**2 - cy**2
    rows = np.zeros((3, 3))
    if np.isfinite(height_squared) and height_squared > 0 and min(a, b, c) > 0:
        rows[:] = [a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * cx, c * cy, c * np.sqrt(height_squared)]
    if not _holds_an_atom(rows):
        raise StructureError(
            f"no box has edges {', '.join(f'{x * 10:g}' for x in lengths_nm)} Å "
            f"and angles {', '.join(f'{x:g}' for x in angles_deg)}°",
            cure="correct CRYST1 (PDB), _cell (mmCIF) or Lattice (extended XYZ), or set `periodic: false`",
        )
    return reduce_box(rows)


def reduce_box(box: Floats) -> Floats:
    """The same lattice in OpenMM's reduced form.

    Args:
        box: lower-triangular rows with positive diagonal, nm, shape (3, 3).

    Returns:
        Reduced rows, nm, shape (3, 3).
    """
    a, b, c = np.where(np.abs(box) < ROUNDING_NM, 0.0, box)
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.array([a, b, c], dtype=np.float64)


def perpendicular_widths(box: Floats) -> Floats:
    """Distances between opposite faces of a box: what a cutoff has to be compared with.

    Args:
        box: rows are the box vectors, nm, shape (3, 3).

    Returns:
        Widths along the normals of the faces (b, c), (c, a), (a, b), nm, shape (3,).
    """
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(box), axis=0), dtype=np.float64)


def nearest_image(vectors: Floats, box: Floats | None, *, within: float = np.inf) -> tuple[Floats, Ints]:
    """The shortest periodic copy of each vector, and the shift that leads to it.

    Args:
        vectors: nm, shape (..., 3).
        box: reduced box, nm, shape (3, 3); None in vacuum.
        within: nm; copies longer than this need not be the shortest, which saves time in a triclinic box.

    Returns:
        ``vectors + shifts @ box`` in nm, shape (..., 3), and the whole-numbered shifts, shape (..., 3).
    """
    short = np.array(vectors, dtype=np.float64)
    shifts = np.zeros(short.shape, dtype=np.int64)
    if box is None:
        return short, shifts
    if np.count_nonzero(box) == 3:
        # Rectangular: all three directions at once, three times as fast.
        count = -np.round(short / box.diagonal())
        return short + count * box.diagonal(), count.astype(np.int64)
    for k in (2, 1, 0):
        count = -np.round(short[..., k] / box[k, k])
        shifts[..., k] = count
        short += count[..., None] * box[k]
    # What is shorter than half the smallest diagonal element is provably the shortest.
    safe = 0.5 * float(box.diagonal().min())
    if within > safe:
        _refine(short, shifts, box, safe)
    return short, shifts


def _refine(short: Floats, shifts: Ints, box: Floats, safe: float) -> None:
    """Replace, in place, vectors longer than ``safe`` by the shortest among the 27 neighbouring copies."""
    long = np.linalg.norm(short, axis=-1) > safe
    copies = short[long][:, None, :] + (NEIGHBOUR_CELLS @ box)[None]
    best = np.argmin(np.einsum("ijk,ijk->ij", copies, copies), axis=1)
    short[long] = copies[np.arange(len(best)), best]
    shifts[long] += NEIGHBOUR_CELLS[best]


def pairs_within(positions: Floats, box: Floats | None, reach: float) -> tuple[Ints, Floats]:
    """All pairs of different atoms closer than ``reach``, over all periodic images.

    Args:
        positions: finite, nm, shape (n, 3).
        box: reduced box, nm, shape (3, 3); None in vacuum.
        reach: nm.

    Returns:
        Pairs i < j, sorted, shape (p, 2), and the shortest distance of each, nm, shape (p,).

    Raises:
        StructureError: there are more than ``MOST_PAIRS`` for each atom, as where all lie at one place.
    """
    n = len(positions)
    wrapped, owner = _with_ghosts(positions, box, reach) if box is not None else (positions, np.arange(n))
    found = _near(wrapped, reach) if n > 1 else np.zeros((0, 2), dtype=np.int64)
    pairs = np.sort(owner[found].reshape(-1, 2), axis=1)
    distances = np.linalg.norm(wrapped[found[:, 0]] - wrapped[found[:, 1]], axis=1)
    keep = pairs[:, 0] != pairs[:, 1]
    pairs, distances = pairs[keep], distances[keep]
    order = np.lexsort((distances, pairs[:, 1], pairs[:, 0]))
    pairs, distances = pairs[order], distances[order]
    first = np.ones(len(pairs), dtype=bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[first].astype(np.int64), distances[first]


def _near(places: Floats, reach: float) -> Ints:
    """Pairs of points closer than ``reach``, shape (p, 2); counted first where they could fill the memory."""
    tree = cKDTree(places)
    if len(places) > 2 * MOST_PAIRS and tree.count_neighbors(tree, reach) > 2 * MOST_PAIRS * len(places):
        raise StructureError(
            f"more than {MOST_PAIRS} atoms lie within {reach / NM_PER_ANGSTROM:.1f} Å of each atom",
            cure="correct the coordinates: the unit, or atoms that all lie at one place",
        )
    return np.asarray(tree.query_pairs(reach, output_type="ndarray"), dtype=np.int64)


def _with_ghosts(positions: Floats, box: Floats, reach: float) -> tuple[Floats, Ints]:
    """Atoms wrapped into the box, and their images within ``reach`` of it; with the atom that each one is."""
    fractional = positions @ np.linalg.inv(box)
    fractional -= np.floor(fractional)
    margin = reach / perpendicular_widths(box)
    cells = np.ceil(margin).astype(int)
    points, owners = [], []
    for cell in product(*(range(-k, k + 1) for k in cells)):
        moved = fractional + cell
        near = ((moved >= -margin) & (moved <= 1.0 + margin)).all(axis=1)
        points.append(moved[near])
        owners.append(np.flatnonzero(near))
    return np.concatenate(points) @ box, np.concatenate(owners)


def orient(lattice: Floats, positions: Floats) -> tuple[Floats, Floats]:
    """Turn a box of any orientation, with its atoms, so that it takes OpenMM's form.

    The turn is a proper rotation (molecules keep their hand); an axis of a left-handed lattice is reversed instead.

    Args:
        lattice: rows are the box vectors, nm, shape (3, 3).
        positions: nm, shape (n, 3).

    Returns:
        Reduced box, shape (3, 3), and the turned positions, shape (n, 3), nm.

    Raises:
        StructureError: the three vectors span no volume.
    """
    if not _holds_an_atom(lattice):
        raise StructureError(
            f"the box vectors {(lattice / NM_PER_ANGSTROM).tolist()} Å span no volume",
            cure="correct the Lattice entry, or set `periodic: false`",
        )
    if np.abs(np.triu(lattice, 1)).max() < ROUNDING_NM:
        return reduce_box(_upright(lattice)), positions
    turn, triangle = np.linalg.qr(lattice.T)
    signs = np.sign(triangle.diagonal())
    # A left-handed lattice leaves a negative last element, which turns c around but keeps the hand of molecules.
    signs[2] *= np.sign(np.linalg.det(lattice))
    return reduce_box(_upright(triangle.T * signs)), positions @ (turn * signs)


def _holds_an_atom(box: Floats) -> bool:
    """Whether a box is finite, of some volume, and not thin in any direction."""
    if not np.isfinite(box).all() or abs(np.linalg.det(box)) < SMALLEST_NM3:
        return False
    return bool((perpendicular_widths(box) >= THINNEST_NM).all())


def _upright(box: Floats) -> Floats:
    """Reverse the vectors whose diagonal element is negative: the lattice stays the same."""
    return np.asarray(box * np.sign(box.diagonal())[:, None], dtype=np.float64)
