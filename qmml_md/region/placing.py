"""Putting the atoms of a cluster together in vacuum: molecules whole, at the periodic images that are in contact."""

import numpy as np

from ..system.images import nearest_image
from ..system.molecules import Floats, Ints, Molecules, unwrap


def place(molecules: Molecules, positions_nm: Floats, atoms: Ints, box: Floats | None) -> Floats:
    """Positions of the atoms of a cluster in vacuum; they move by whole box vectors only.

    A molecule is one rigid thing, made whole along its bonds, also where only parts of it, or parts that do not touch,
    belong to the cluster. The molecule of the first atom stays where that atom is. The others follow one by one, each
    at the image that brings it nearest to those placed before, nearest first.

    Args:
        molecules: what is simulated.
        positions_nm: nm, shape (n, 3), wrapped or not.
        atoms: of the cluster, sorted, shape (m,).
        box: reduced box now, nm, shape (3, 3); None in vacuum, where nothing moves.

    Returns:
        nm, shape (m, 3).
    """
    if box is None:
        return np.array(positions_nm[atoms], dtype=np.float64)
    # Two parts of one molecule are related through its atoms outside, so that all of it has to be made whole.
    touched = np.zeros(int(molecules.molecule_of.max()) + 1, dtype=bool)
    touched[molecules.molecule_of[atoms]] = True
    members = np.flatnonzero(touched[molecules.molecule_of])
    place_of = np.empty(molecules.size, dtype=np.int64)
    place_of[members] = np.arange(len(members))
    bonds = molecules.bonds[touched[molecules.molecule_of[molecules.bonds[:, 0]]]]
    whole = _made_whole(positions_nm[members], box, place_of[bonds])[place_of[atoms]]
    molecule = molecules.molecule_of[atoms]
    whole[molecule == molecule[0]] += positions_nm[atoms[0]] - whole[0]
    return _gather(whole, molecule, box)


def _made_whole(positions: Floats, box: Floats, bonds: Ints) -> Floats:
    """``unwrap``, at no cost where no bond spans the box: the usual case, since dynamics moves atoms across no face."""
    _, shifts = nearest_image(positions[bonds[:, 1]] - positions[bonds[:, 0]], box)
    return unwrap(positions, box, bonds) if shifts.any() else positions


def _gather(positions: Floats, molecule: Ints, box: Floats) -> Floats:
    """Move whole molecules to the images nearest to one another, along a minimum spanning tree of their contacts."""
    # Up to half the smallest diagonal element an image that is that near is the nearest one (`nearest_image`).
    sure = 0.5 * float(box.diagonal().min())
    _, first, inverse = np.unique(molecule, return_index=True, return_inverse=True)
    _, shifts = nearest_image(positions[first] - positions[0], box)
    moved = np.asarray(positions + (shifts @ box)[inverse], dtype=np.float64)
    # A cluster that is no wider than that has all its contacts already: every distance in it is the nearest image's.
    middle = 0.5 * (moved.max(axis=0) + moved.min(axis=0))
    if 2.0 * float(np.linalg.norm(moved - middle, axis=1).max()) < sure:
        return moved
    moved, complete = _along_tree(positions, molecule, box, within=sure)
    return moved if complete else _along_tree(positions, molecule, box, within=np.inf)[0]


def _along_tree(positions: Floats, molecule: Ints, box: Floats, *, within: float) -> tuple[Floats, bool]:
    """The moved positions; False where a contact was longer than ``within``."""
    vectors, _ = nearest_image(positions[None, :] - positions[:, None], box, within=within)
    squared = np.einsum("ijk,ijk->ij", vectors, vectors)
    moved = positions.copy()
    placed = molecule == molecule[0]
    first = np.flatnonzero(placed)
    # The placed atom that is nearest to each atom, kept up to date: a molecule that joins is looked at once.
    near = first[np.argmin(squared[first], axis=0)]
    least = np.where(placed, np.inf, squared[near, np.arange(len(near))])
    while not placed.all():
        far = int(np.argmin(least))
        if least[far] > within**2:
            return moved, False
        joining = molecule == molecule[far]
        _, shift = nearest_image(moved[far] - moved[near[far]], box)
        moved[joining] += shift @ box
        placed |= joining
        rows = np.flatnonzero(joining)
        nearest = rows[np.argmin(squared[rows], axis=0)]
        closer = squared[nearest, np.arange(len(near))] < least
        near[closer] = nearest[closer]
        least = np.where(placed, np.inf, np.where(closer, squared[nearest, np.arange(len(near))], least))
    return moved, True
