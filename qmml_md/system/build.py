"""The OpenMM side of what is simulated: particles and box, without any force or constraint."""

import numpy as np
import openmm
from openmm import app, unit

from ..errors import StructureError
from .molecules import Molecules, atom_name


def build_system(molecules: Molecules) -> openmm.System:
    """An OpenMM System with masses and periodic box vectors; no force, no constraint, no virtual site.

    Args:
        molecules: what is simulated.

    Raises:
        StructureError: an atom has no mass: a virtual site, which a potential over atoms cannot move.
    """
    massless = np.flatnonzero(~(molecules.masses > 0.0))
    if len(massless):
        raise StructureError(
            f"{atom_name(molecules, massless[0])} has no mass ({len(massless)} such): virtual sites are refused",
            cure="use a water model without virtual sites, such as three-site water",
        )
    system = openmm.System()
    for mass in molecules.masses:
        system.addParticle(float(mass))
    if molecules.box is not None:
        system.setDefaultPeriodicBoxVectors(*molecules.box)
    return system


def topology(molecules: Molecules) -> app.Topology:
    """The topology in OpenMM's form, with the box.

    Args:
        molecules: what is simulated.
    """
    converted = molecules.topology.to_openmm()
    if molecules.box is not None:
        converted.setPeriodicBoxVectors(molecules.box * unit.nanometer)
    return converted
