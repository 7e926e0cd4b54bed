"""A part on the ensemble within a force field: from parameters and a selection to a field and a subsystem.

The system is first built as if all of it were in the force field. openmmml then takes out what lies within the ML
atoms, and places a hydrogen on each bond that leaves them (mechanical embedding: the force field keeps the interactions
between ML and MM atoms). What remains is the field.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from ..config import System
from ..errors import ForceFieldError
from ..units import NM_PER_ANGSTROM
from .border import check_border
from .build import topology
from .field import Field, load_field
from .force_field_files import apply_force_field
from .images import Floats, Ints, perpendicular_widths
from .molecules import Molecules, atom_name
from .parameter_files import open_parameters, unreadable

METHODS = {"pme": app.PME, "cutoff": app.CutoffPeriodic, "none": app.NoCutoff}
#: Under this name openmmml knows the potential that adds no force.
FIELD_ONLY = "qmml-field"


def build_mm(system: System, molecules: Molecules, folder: Path, method: str) -> openmm.System:
    """All atoms in the force field.

    Args:
        system: of the configuration, with a force field or a topology.
        molecules: all atoms.
        folder: where relative paths start.
        method: `pme`, `cutoff` or `none`, as ``nonbonded_method`` says.

    Raises:
        ForceFieldError: the force field cannot be read, or does not know a residue; or an atom is none.
    """
    massless = np.flatnonzero(~(molecules.masses > 0.0))
    if len(massless):
        raise ForceFieldError(
            f"{atom_name(molecules, massless[0])} has no mass ({len(massless)} such): virtual sites are refused",
            cure="use a water model without virtual sites, such as TIP3P, SPC/E or OPC3",
        )
    options = _options(system, molecules.box, method)
    if system.topology is not None:
        found = open_parameters(system, folder, molecules.box)
        try:
            built = found.build(**options)
        except Exception as error:  # whatever OpenMM trips over: parameters that are missing, above all
            raise unreadable(found.path, error) from error
    else:
        built = apply_force_field(system.force_field, folder, topology(molecules), options)
    if built.getNumParticles() != molecules.size:
        raise ForceFieldError(
            f"the force field makes {built.getNumParticles()} particles of {molecules.size} atoms",
            cure="use a force field without Drude particles or virtual sites",
        )
    return built


def nonbonded_method(system: System, molecules: Molecules, atoms: Ints) -> str:
    """The long-range method: `pme`, `cutoff` or `none`.

    A field keeps the interaction of ML atoms with periodic images of each other under PME, all but that of the nearest
    images. Where two ML atoms drift apart by half a box their nearest image changes, and the force jumps. That cannot
    happen within one molecule that is smaller than this; among several it can, and `auto` takes the reaction field.

    Args:
        system: of the configuration.
        molecules: all atoms.
        atoms: indices of the ML atoms, shape (a,).

    Raises:
        ForceFieldError: the method does not fit the box, or the box the cutoff.
    """
    wanted, box = system.nonbonded, molecules.box
    if wanted == "auto":
        wanted = "none" if box is None else ("pme" if _compact(molecules, atoms) else "cutoff")
    if wanted == "pme" and box is None:
        raise ForceFieldError("system.nonbonded is `pme`, but nothing repeats", cure="give a box, or take `none`")
    if wanted == "none" and box is not None:
        raise ForceFieldError(
            "system.nonbonded is `none` in a box: each atom would see only one image of the others",
            cure="take `auto`, `pme` or `cutoff`, or set system.periodic: false",
        )
    if wanted == "pme" and not _compact(molecules, atoms):
        raise ForceFieldError(
            "system.nonbonded is `pme`, but the ML atoms are several molecules, or wider than half the box: forces "
            "would jump when two of them drift apart by half a box",
            cure="take `cutoff` (reaction field), one ML molecule, or a larger box",
        )
    if box is not None:
        width = float(perpendicular_widths(box).min()) / NM_PER_ANGSTROM
        if width < 2.0 * system.nonbonded_cutoff_A:
            raise ForceFieldError(
                f"the box is {width:.2f} Å wide, less than twice system.nonbonded_cutoff_A "
                f"({system.nonbonded_cutoff_A:g} Å)",
                cure=f"solvate in a larger box, or set nonbonded_cutoff_A to less than {width / 2.0:.2f}",
            )
    return wanted


def build_field(system: System, molecules: Molecules, atoms: Ints, folder: Path, platform: str = "auto") -> Field:
    """The force field of everything but the interactions within the ML atoms.

    Args:
        system: of the configuration.
        molecules: all atoms, whole.
        atoms: indices of the ML atoms, sorted, shape (a,).
        folder: where relative paths start.
        platform: of OpenMM, for ``Field.evaluate``.

    Raises:
        ForceFieldError: the force field cannot be built, or the ML atoms end where no bond may be cut.
    """
    links = check_border(molecules, atoms)
    everything = build_mm(system, molecules, folder, nonbonded_method(system, molecules, atoms))
    rest = take_out(topology(molecules), everything, [int(atom) for atom in atoms])
    field = load_field(openmm.XmlSerializer.serialize(rest), platform)
    if {tuple(link) for link in field.links.tolist()} != {tuple(link) for link in links.tolist()}:
        raise ForceFieldError("the caps of openmmml are not on the bonds that leave the ML atoms")
    _check_constraints(field, molecules, atoms)
    if system.rigid_water:
        _check_water(field, molecules, atoms)
    return field


class _NoPotential:
    """An ML potential for openmmml that adds no force: what it makes of a mixed system is the field."""

    def createImpl(self, name: str, **_: Any) -> "_NoPotential":
        """The factory of itself."""
        return self

    def getSupportedEmbeddings(self) -> list[str]:
        """None of its own."""
        return []

    def getMLLongRange(self) -> bool:
        """The ensemble sees no farther than its cutoff."""
        return False

    def addForces(self, *_: Any, **__: Any) -> None:
        """Nothing."""


def take_out(atoms_and_bonds: app.Topology, everything: openmm.System, atoms: list[int]) -> openmm.System:
    """The System without what lies within some atoms, and with a virtual site on each bond that leaves them.

    Args:
        atoms_and_bonds: of the System.
        everything: all atoms in the force field.
        atoms: indices of the ML atoms.

    Raises:
        ForceFieldError: topology and System do not belong together.
    """
    from openmmml import MLPotential

    MLPotential.registerImplFactory(FIELD_ONLY, _NoPotential())
    try:
        rest: openmm.System = MLPotential(FIELD_ONLY).createMixedSystem(
            atoms_and_bonds, everything, atoms, removeConstraints=True, embedding="mechanical"
        )
    except ValueError as error:
        raise ForceFieldError(
            f"openmmml cannot take the ML atoms out of the force field: {error}",
            cure="check that bonds and parameters are of the same system",
        ) from error
    return rest


def _check_constraints(field: Field, molecules: Molecules, atoms: Ints) -> None:
    """Constraints lie outside of the ML atoms, where the ensemble moves what it likes."""
    held = field.constraints[np.isin(field.constraints, atoms).any(axis=1)]
    if len(held):
        i, j = held[0]
        raise ForceFieldError(
            f"the force field holds the ML atom {atom_name(molecules, i)} at a fixed distance of "
            f"{atom_name(molecules, j)} ({len(held)} such)",
            cure="take both atoms or none, or set system.constraints: none",
        )


def _check_water(field: Field, molecules: Molecules, atoms: Ints) -> None:
    """Water outside of the ML atoms is rigid: three distances of three atoms.

    OpenMM reads what is rigid in an AMBER file from its bonds, one between the hydrogens included, which files made by
    other programs lack.
    """
    count = np.bincount(molecules.molecule_of)
    hydrogens = np.bincount(molecules.molecule_of, weights=molecules.numbers == 1)
    oxygens = np.bincount(molecules.molecule_of, weights=molecules.numbers == 8)
    water = (count == 3) & (hydrogens == 2) & (oxygens == 1)
    water[molecules.molecule_of[atoms]] = False
    held = np.bincount(molecules.molecule_of[field.constraints[:, 0]], minlength=len(count))
    loose = np.flatnonzero(water & (held != 3))
    if len(loose):
        first = int(np.argmax(molecules.molecule_of == loose[0]))
        raise ForceFieldError(
            f"system.rigid_water is set, but {len(loose)} waters are not rigid, the first at "
            f"{atom_name(molecules, first)}",
            cure="set system.rigid_water: false; or write the AMBER file with tleap, which joins the hydrogens of a "
            "water, and call water HOH or WAT",
        )


def _options(system: System, box: Floats | None, method: str) -> dict[str, Any]:
    """Keywords that all builders of OpenMM understand."""
    options: dict[str, Any] = {
        "nonbondedMethod": METHODS[method] if box is not None or method == "none" else app.CutoffNonPeriodic,
        "nonbondedCutoff": system.nonbonded_cutoff_A * unit.angstrom,
        "constraints": app.HBonds if system.constraints == "h_bonds" else None,
        "rigidWater": system.rigid_water,
        # Momentum is the integrator's: a force that takes it away would do so outside of the books.
        "removeCMMotion": False,
        "ewaldErrorTolerance": system.ewald_tolerance,
    }
    if system.hydrogen_mass_Da is not None:
        options["hydrogenMass"] = system.hydrogen_mass_Da * unit.dalton
    if method != "none" and system.nonbonded_switch_A > 0.0:
        options["switchDistance"] = (system.nonbonded_cutoff_A - system.nonbonded_switch_A) * unit.angstrom
    return options


def _compact(molecules: Molecules, atoms: Ints) -> bool:
    """Whether the ML atoms are of one molecule and within half a box of each other."""
    if len(np.unique(molecules.molecule_of[atoms])) > 1 or molecules.box is None:
        return molecules.box is None
    places = molecules.positions[atoms]
    # The longest distance is below the diagonal of what encloses the atoms.
    apart = max(float(np.linalg.norm(places - place, axis=1).max()) for place in places)
    return apart < 0.5 * float(perpendicular_widths(molecules.box).min())
