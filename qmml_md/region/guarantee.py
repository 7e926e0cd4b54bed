"""The cutoff guarantee: which atoms of a cluster see in it exactly what they see in the simulation.

The model's force on an atom, through its own descriptor, ends at the cutoff. An atom is complete if every atom of the
simulation within the cutoff around it is in the cluster, and nothing else is: no link atom either.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..system.images import nearest_image
from ..system.molecules import Floats, Ints, Molecules
from ..units import NM_PER_ANGSTROM
from .links import cut_bonds, link_ratios

if TYPE_CHECKING:
    from .cluster import Flags


def complete_atoms(
    molecules: Molecules, positions_nm: Floats, inside: "Flags", box: Floats | None, cutoff_A: float
) -> "Flags":
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
    atoms, outside = np.flatnonzero(inside), np.flatnonzero(~inside)
    here = positions_nm[atoms]
    others = positions_nm[_within_reach(here, positions_nm, outside, box, cutoff)]
    cut = cut_bonds(molecules, inside)
    bond, _ = nearest_image(positions_nm[cut[:, 1]] - positions_nm[cut[:, 0]], box)
    caps = positions_nm[cut[:, 0]] + link_ratios(molecules.numbers, cut)[:, None] * bond
    foreign = np.concatenate([others, caps])
    vectors, _ = nearest_image(foreign[None, :] - here[:, None], box, within=cutoff)
    found: Flags = (np.einsum("ijk,ijk->ij", vectors, vectors) >= cutoff**2).all(axis=1)
    return found


def unseen_across(placed_nm: Floats, box: Floats | None, cutoff_A: float) -> "Flags":
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


def _within_reach(here: Floats, positions: Floats, outside: Ints, box: Floats | None, cutoff: float) -> Ints:
    """The atoms outside that can be within the cutoff of any atom inside, and some more; all where that is not sure."""
    near, _ = nearest_image(here - here[0], box)
    centre = here[0] + near.mean(axis=0)
    spread, _ = nearest_image(here - centre, box)
    reach = float(np.linalg.norm(spread, axis=1).max()) + cutoff
    # An atom's image within half the smallest diagonal element of the centre is its only one there (`nearest_image`).
    if box is not None and reach > 0.5 * float(box.diagonal().min()):
        return outside
    vectors, _ = nearest_image(positions[outside] - centre, box, within=reach)
    return np.asarray(outside[np.einsum("ij,ij->i", vectors, vectors) < reach**2], dtype=np.int64)
