"""The cutoff guarantee: which atoms of a cluster see in it exactly what they see in the simulation.

The model's force on an atom, through its own descriptor, ends at the cutoff. An atom is complete if every atom of the
simulation within the cutoff around it is in the cluster, and nothing else is: no link atom either.
"""

import numpy as np
from scipy.spatial import cKDTree

from ..system.images import nearest_image
from ..system.molecules import Flags, Floats, Molecules
from ..units import NM_PER_ANGSTROM
from .links import cut_bonds, link_ratios


def complete_atoms(
    molecules: Molecules, positions_nm: Floats, inside: Flags, box: Floats | None, cutoff_A: float
) -> Flags:
    """Whether each atom of a cluster has no atom from outside, and no link atom, within the cutoff.

    Args:
        molecules: what is simulated.
        positions_nm: nm, shape (n, 3), wrapped or not.
        inside: whether each atom belongs to the cluster, shape (n,).
        box: reduced box now, nm, shape (3, 3), at least two cutoffs wide; None in vacuum.
        cutoff_A: the reach of the model's descriptor, Å.

    Returns:
        For the atoms inside, in their order, shape (m,). Link atoms are never complete: they see a bond that is none.
    """
    cutoff = cutoff_A * NM_PER_ANGSTROM
    here, outside = positions_nm[inside], positions_nm[~inside]
    cut = cut_bonds(molecules, inside)
    bond, _ = nearest_image(positions_nm[cut[:, 1]] - positions_nm[cut[:, 0]], box)
    caps = positions_nm[cut[:, 0]] + link_ratios(molecules.numbers, cut)[:, None] * bond
    foreign = np.concatenate([outside, caps])
    near, _ = nearest_image(here - here[0], box)
    centre = here[0] + near.mean(axis=0)
    here, _ = nearest_image(here - centre, box)
    reach = float(np.linalg.norm(here, axis=1).max()) + cutoff
    if box is not None and reach > 0.5 * float(box.diagonal().min()):
        return _by_images(here, foreign - centre, box, cutoff)
    # An image within half the smallest diagonal element of the centre is the only one there (`nearest_image`), so that
    # around the centre there is no box.
    foreign, _ = nearest_image(foreign - centre, box, within=reach)
    foreign = foreign[np.einsum("ij,ij->i", foreign, foreign) < reach**2]
    if not len(foreign):
        return np.ones(len(here), dtype=bool)
    distances, _ = cKDTree(foreign, compact_nodes=False, balanced_tree=False).query(here, distance_upper_bound=cutoff)
    found: Flags = distances >= cutoff
    return found


def _by_images(here: Floats, foreign: Floats, box: Floats, cutoff: float) -> Flags:
    """Whether no foreign atom is within the cutoff of each atom, over all images, one atom after another."""
    found = np.ones(len(here), dtype=bool)
    for k, place in enumerate(here):
        vectors, _ = nearest_image(foreign - place, box, within=cutoff)
        found[k] = (np.einsum("ij,ij->i", vectors, vectors) >= cutoff**2).all()
    return found


def unseen_across(placed_nm: Floats, box: Floats | None, cutoff_A: float) -> Flags:
    """Whether each atom of a cluster sees every other one where the cluster has placed it, not at another image.

    In a box that is little wider than the cluster, two of its atoms may meet across the faces, which in vacuum they
    do not.

    Args:
        placed_nm: positions in the cluster, nm, shape (m, 3).
        box: reduced box now, nm, shape (3, 3), at least two cutoffs wide; None in vacuum.
        cutoff_A: the reach of the model's descriptor, Å.

    Returns:
        Shape (m,).
    """
    cutoff = cutoff_A * NM_PER_ANGSTROM
    if box is None or float(np.ptp(placed_nm, axis=0).max()) + cutoff <= 0.5 * float(box.diagonal().min()):
        return np.ones(len(placed_nm), dtype=bool)
    vectors, shifts = nearest_image(placed_nm[None, :] - placed_nm[:, None], box, within=cutoff)
    elsewhere = shifts.any(axis=2) & (np.einsum("ijk,ijk->ij", vectors, vectors) < cutoff**2)
    found: Flags = ~elsewhere.any(axis=1)
    return found
