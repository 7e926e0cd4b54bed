"""What a configuration simulates: everything on the ensemble, or a selection of it within a force field."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config import System
from ..errors import ForceFieldError, StructureError
from .archive import Simulated, all_on_ensemble
from .field import Field
from .forcefield import build_field
from .images import Ints
from .molecules import Molecules, atom_name, unwrap
from .parameter_files import read_with_parameters
from .selection import select
from .structures import read_structure
from .subsystem import subsystem_of

#: Charges in force field files are rounded: that of a residue is a whole number to about this, e.
CHARGE_ROUNDING = 0.02


def read_system(system: System, folder: Path, platform: str = "auto") -> Simulated:
    """Read the structure, and build the force field of what is not ML.

    Args:
        system: of the configuration.
        folder: where its relative paths start.
        platform: of OpenMM, for ``Field.evaluate``.

    Raises:
        StructureError: the structure cannot be read, or has atoms without a place.
        ConfigError: the selection is none, or selects nothing.
        ForceFieldError: the force field cannot be built.
    """
    if system.topology is not None:
        molecules = read_with_parameters(system, folder)
    else:
        place = folder / system.structure
        molecules = read_structure(place, periodic=system.periodic, formal_charges=system.formal_charges)
    if not system.mixed:
        return all_on_ensemble(molecules)
    atoms = select(molecules, system.ml_atoms, "system.ml_atoms")
    if len(atoms) == molecules.size:
        return all_on_ensemble(molecules)
    return mix(system, molecules, atoms, folder, platform)


def mix(system: System, molecules: Molecules, atoms: Ints, folder: Path, platform: str = "auto") -> Simulated:
    """Some atoms on the ensemble, the others in the force field of a configuration.

    Molecules are made whole, since the force field looks for bonds within them and not across the box; masses are
    those of the force field.

    Args:
        system: of the configuration, with a force field or a topology.
        molecules: all atoms.
        atoms: indices of the ML atoms, sorted, shape (a,); not all there are.
        folder: where relative paths start.
        platform: of OpenMM, for ``Field.evaluate``.
    """
    lost = np.flatnonzero(~np.isfinite(molecules.positions).all(axis=1))
    if len(lost):
        raise StructureError(
            f"the position of {atom_name(molecules, lost[0])} is not a finite number ({len(lost)} such)",
            cure="give coordinates for all atoms; NaN usually comes from a simulation that blew up",
        )
    whole = replace(molecules, positions=unwrap(molecules.positions, molecules.box, molecules.bonds))
    field = build_field(system, whole, atoms, folder, platform)
    weighed = replace(whole, masses=field.masses)
    check_charges(weighed, atoms, field)
    part = subsystem_of(weighed, atoms, field.links, field.distances_nm)
    return Simulated(molecules=weighed, part=part, field=field)


def check_charges(molecules: Molecules, atoms: Ints, field: Field) -> None:
    """Refuse formal charges of ML residues that the force field contradicts.

    Only residues that are ML as a whole, and whose charges in the force field add up to a whole number, can be
    compared.

    Args:
        molecules: all atoms.
        atoms: indices of the ML atoms, shape (a,).
        field: with the charges of all atoms.

    Raises:
        ForceFieldError: the formal charge of a residue is another.
    """
    residues = molecules.residue_of
    count = int(residues.max()) + 1
    formal = np.bincount(residues, weights=molecules.formal_charge, minlength=count)
    partial = np.bincount(residues, weights=field.charges, minlength=count)
    selected = np.bincount(residues[atoms], minlength=count) == np.bincount(residues, minlength=count)
    whole = np.abs(partial - np.rint(partial)) < CHARGE_ROUNDING
    wrong = np.flatnonzero(selected & whole & (np.rint(partial) != formal))
    if len(wrong) and field.charges.any():
        residue = molecules.topology.residue(int(wrong[0]))
        raise ForceFieldError(
            f"the force field gives {residue.name} {residue.resSeq} the charge {np.rint(partial[wrong[0]]):+.0f}, the "
            f"structure {formal[wrong[0]]:+.0f} ({len(wrong)} such)",
            cure=f"set system.formal_charges: {{{residue.name}: {int(np.rint(partial[wrong[0]]))}}}, or correct the "
            "protonation",
        )
