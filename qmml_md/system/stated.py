"""Which charges count: what the user says of a residue, else what the file says of its atoms, else what bonds say."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .charges import C, H, infer_charges
from .images import Ints

#: Residue names of deprotonated groups that look as if a hydrogen had been forgotten: the thiolate of cysteine.
DEPROTONATED = frozenset({"CYM"})


def assign_charges(topology: Any, numbers: Ints, bonds: Ints, formal_charges: Mapping[str, int]) -> Ints:
    """Formal charges, e, shape (n,): as the user says, else as the file says, else by valence.

    A residue that ``formal_charges`` names has that charge in all. It sits where valence puts it; what differs takes
    away from atoms of the opposite charge, and the rest sits on the first undecided atom, or the first that is neither
    carbon nor hydrogen. The atoms of such a residue then carry their charges in the topology, as if the file had said.

    Args:
        topology: mdtraj topology; the atoms of residues that the user names are given their ``formal_charge``.
        numbers: atomic numbers, shape (n,).
        bonds: pairs of atom indices, shape (b, 2).
        formal_charges: charge in e of whole residues by name, all present.
    """
    inferred = infer_charges(numbers, bonds, residue_names(topology))
    charge, undecided = inferred.charge.copy(), set(inferred.undecided.tolist())
    for residue in topology.residues:
        atoms = list(residue.atoms)
        if residue.name in formal_charges:
            _settle(charge, [atom.index for atom in atoms], formal_charges[residue.name], undecided, numbers)
            for atom in atoms:
                atom.formal_charge = int(charge[atom.index])
        elif any(atom.formal_charge for atom in atoms):
            charge[[atom.index for atom in atoms]] = [atom.formal_charge or 0 for atom in atoms]
    return charge


def stated_residues(topology: Any) -> set[int]:
    """Indices of the residues whose charge somebody states: the user, the file, or a name that means a missing proton.

    Args:
        topology: mdtraj topology that ``assign_charges`` has seen.
    """
    return {
        residue.index
        for residue in topology.residues
        if residue.name in DEPROTONATED or any(atom.formal_charge is not None for atom in residue.atoms)
    }


def residue_names(topology: Any) -> list[str]:
    """Name of the residue of each atom."""
    return [atom.residue.name for atom in topology.atoms]


def _settle(charge: Ints, atoms: list[int], total: int, undecided: set[int], numbers: Ints) -> None:
    """Change, in place, the charges of atoms so that they sum up to ``total``."""
    missing = total - int(charge[atoms].sum())
    for atom in atoms:
        if charge[atom] * missing < 0:
            step = int(np.sign(missing)) * min(abs(missing), abs(int(charge[atom])))
            charge[atom] += step
            missing -= step
    bearers = [a for a in atoms if a in undecided] or [a for a in atoms if numbers[a] not in (H, C)] or atoms
    charge[bearers[0]] += missing
