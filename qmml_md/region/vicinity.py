"""Atoms around a point with all their periodic images, so that distances between them are those of plain space.

The atoms of a frame are looked through once for each place; everything after that sees the few that can matter.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from ..system.molecules import Floats, Ints

#: Distances are compared to so many digits, nm: what is equal by symmetry is equal whatever the rounding of positions.
DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """One frame, ready to be looked through.

    Attributes:
        positions: nm, shape (n, 3), wrapped or not.
        lattice: rows, nm, shape (3, 3); unity in vacuum.
        inverse: of the lattice, 1/nm, shape (3, 3).
        widths: between opposite faces, nm, shape (3,).
        periodic: whether the lattice repeats.
    """

    positions: Floats
    lattice: Floats
    inverse: Floats
    widths: Floats
    periodic: bool

    def seen_from(self, centre: int, atoms: Ints) -> Floats:
        """Where atoms are, relative to another one, at one image each, nm, shape (m, 3).

        It is the nearest image where that is within half the smallest width; farther away it may be the next one.
        """
        vectors: Floats = self.positions[atoms] - self.positions[centre]
        if self.periodic:
            vectors -= np.rint(vectors @ self.inverse) @ self.lattice
        return vectors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vicinity:
    """Everything within a radius of an atom.

    Attributes:
        centre: index of that atom.
        radius: nm.
        atoms: that each image belongs to, shape (p,).
        places: of the images, relative to the centre, nm, shape (p, 3).
    """

    centre: int
    radius: float
    atoms: Ints
    places: Floats


def space_of(positions: Floats, box: Floats | None) -> Space:
    """Make a frame ready.

    Args:
        positions: nm, shape (n, 3), wrapped or not.
        box: reduced box, nm, shape (3, 3); None in vacuum.
    """
    if box is None:
        return Space(positions=positions, lattice=np.eye(3), inverse=np.eye(3), widths=np.ones(3), periodic=False)
    inverse: Floats = np.linalg.inv(box).astype(np.float64)
    # Columns of the inverse are normals of the faces, as long as one over the width: see ``perpendicular_widths``.
    widths: Floats = 1.0 / np.linalg.norm(inverse, axis=0)
    return Space(positions=positions, lattice=box, inverse=inverse, widths=widths, periodic=True)


def vicinity(space: Space, centre: int, radius: float) -> Vicinity:
    """Find everything within ``radius`` (nm) of an atom: exact for every box, however small or oblique.

    Planes of the lattice are ``widths`` apart: an image beyond the radius along one axis is beyond it altogether. So
    axis after axis leaves fewer to look at.
    """
    origin = space.positions[centre] @ space.inverse
    atoms, here = np.arange(len(space.positions)), space.positions
    found: list[Floats] = []
    for axis in range(3):
        along = here @ space.inverse[:, axis] - origin[axis]
        rows, along = _images(along, radius / float(space.widths[axis]), periodic=space.periodic)
        found = [*(column.take(rows) for column in found), along]
        atoms, here = atoms.take(rows), here.take(rows, axis=0)
    places = np.stack(found, axis=1) @ space.lattice
    inside = np.flatnonzero(np.einsum("ij,ij->i", places, places) <= radius**2)
    return Vicinity(centre=centre, radius=radius, atoms=atoms.take(inside), places=places.take(inside, axis=0))


def _images(along: Floats, limit: float, *, periodic: bool) -> tuple[Ints, Floats]:
    """Which of some coordinates have images between −limit and limit, each as often as it has one, and those images."""
    if not periodic:
        rows = np.flatnonzero(np.abs(along) <= limit)
        return rows, along.take(rows)
    along = along - np.rint(along)
    shifts = range(-(most := max(0, int(np.ceil(limit - 0.5)))), most + 1)
    near = [np.flatnonzero(np.abs(along + shift) <= limit) for shift in shifts]
    moved = [along.take(rows) + shift for rows, shift in zip(near, shifts, strict=True)]
    return np.concatenate(near), np.concatenate(moved)


def extent(places: Floats) -> float:
    """Distance from the centre to the farthest of some places, nm."""
    return float(np.sqrt(np.einsum("ij,ij->i", places, places).max(initial=0.0)))


def distances(around: Vicinity, places: Floats) -> Floats:
    """Distance from each image of a vicinity to the nearest of some places.

    Args:
        around: images; distances d are exact as far as every place is within ``around.radius − d`` of the centre.
        places: relative to the centre, nm, shape (m, 3), at least one.

    Returns:
        nm, shape (p,).
    """
    found: Floats = np.round(cdist(places, around.places).min(axis=0), DIGITS)
    return found
