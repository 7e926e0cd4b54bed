"""Where the ML atoms end: which bonds leave them, and whether these may be cut."""

import numpy as np

from ..errors import ForceFieldError
from .fragments import CARBON, SATURATED, cuttable_bonds
from .images import Ints
from .molecules import Molecules, atom_name
from .subsystem import cut_bonds

#: Cuts that a message names.
NAMED = 6


def check_border(molecules: Molecules, atoms: Ints) -> Ints:
    """Refuse ML atoms whose border cuts what must not be cut.

    Only single, non-polar, acyclic bonds between carbon atoms may be cut (``fragments.py``), and no two of them may
    end at one MM atom: their caps would lie on each other.

    Args:
        molecules: the whole system.
        atoms: indices of the ML atoms, sorted, shape (a,).

    Returns:
        The cut bonds: rows (ML atom, MM atom), shape (l, 2).

    Raises:
        ForceFieldError: the border cuts another bond, or two at one atom.
    """
    links = cut_bonds(molecules, atoms)
    if not len(links):
        return links
    allowed = {frozenset(bond) for bond in cuttable_bonds(molecules.numbers, molecules.bonds).tolist()}
    wrong = [link for link in links.tolist() if frozenset(link) not in allowed]
    if wrong:
        named = [f"{atom_name(molecules, i)} – {atom_name(molecules, j)}: {_kind(molecules, i, j)}" for i, j in wrong]
        more = f"; and {len(named) - NAMED} more" if len(named) > NAMED else ""
        raise ForceFieldError(
            f"system.ml_atoms cuts bonds that must not be cut: {'; '.join(named[:NAMED])}{more}",
            cure="let the selection end at single bonds between carbon atoms. In a backbone that is CA–C: take C and O "
            "of the residue before the first, and leave out C and O of the last, for example "
            "`(resid 2 to 4 and not (resid 4 and name C O)) or (resid 1 and name C O)`; or take the whole molecule",
        )
    ends, counts = np.unique(links[:, 1], return_counts=True)
    if (counts > 1).any():
        raise ForceFieldError(
            f"system.ml_atoms cuts {counts.max()} bonds of {atom_name(molecules, ends[counts.argmax()])}",
            cure="add this atom to the ML atoms, or leave one more of its neighbours out",
        )
    return links


def _kind(molecules: Molecules, i: int, j: int) -> str:
    """Why a bond must not be cut."""
    if (molecules.numbers[[i, j]] != CARBON).any():
        return "not between two carbon atoms"
    degree = np.bincount(molecules.bonds.ravel(), minlength=molecules.size)
    if not (degree[[i, j]] == SATURATED).any():
        return "double, aromatic or conjugated"
    return "in a ring"
