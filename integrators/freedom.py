"""Degrees of freedom: what a temperature is the mean of, and what global thermostats must be told."""

import openmm
from openmm import unit

from ..errors import DynamicsError


def degrees_of_freedom(system: openmm.System, *, centre_of_mass_at_rest: bool) -> int:
    """Number of quadratic terms of the kinetic energy that are free to fluctuate, N_f.

    N_f = 3·(massive particles) − (constraints between massive particles) − (3 with the centre of mass at rest).
    Constraints are taken to be independent.

    Args:
        system: with masses and constraints.
        centre_of_mass_at_rest: the total momentum is zero and stays so: it was removed and the dynamics conserves it,
            or it is removed during the run.

    Raises:
        DynamicsError: nothing is left to move.
    """
    massive = [system.getParticleMass(i).value_in_unit(unit.dalton) > 0 for i in range(system.getNumParticles())]
    pairs = [system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints())]
    constraints = sum(massive[i] and massive[j] for i, j in pairs)
    found: int = 3 * sum(massive) - constraints - (3 if centre_of_mass_at_rest else 0)
    if found < 1:
        raise DynamicsError(
            f"no degree of freedom is left: {sum(massive)} massive particles, {constraints} constraints, "
            f"centre of mass {'at rest' if centre_of_mass_at_rest else 'free'}",
            cure="simulate more particles or constrain fewer distances",
        )
    return found
