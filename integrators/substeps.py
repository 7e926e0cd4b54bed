"""Named sub-steps; an integrator is a short composition of them.

Letters as in the literature on splittings (Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34,
doi:10.1093/amrx/abs010): B kicks velocities with forces, A drifts positions, O is the Ornstein-Uhlenbeck process.
"""

import numpy as np
from numpy.typing import NDArray
from openmm import CustomIntegrator

#: Name of the integrator global that accumulates heat, kJ/mol.
HEAT = "heat"
#: Names of the variables that ``record`` fills.
POTENTIAL, FORCES = "potential", "forces"


def kick(integrator: CustomIntegrator, fraction: float) -> None:
    """B: advance velocities by ``fraction`` of a step with the present forces."""
    integrator.addComputePerDof("v", f"v + {fraction}*dt*f/m")


def drift(integrator: CustomIntegrator, fraction: float) -> None:
    """A: advance positions by ``fraction`` of a step with the present velocities."""
    integrator.addComputePerDof("x", f"x + {fraction}*dt*v")


def ornstein_uhlenbeck(integrator: CustomIntegrator) -> None:
    """O: damp and randomise velocities over a whole step, and book the heat.

    Needs the globals ``damping`` = exp(−γ dt), ``kT`` (kJ/mol), ``heat``, ``before`` and ``after``. The heat is the
    change of kinetic energy across this sub-step and nothing else; it costs two sums and no force evaluation.
    """
    integrator.addComputeSum("before", "0.5*m*v*v")
    integrator.addComputePerDof("v", "damping*v + sqrt((1-damping*damping)*kT/m)*gaussian")
    integrator.addComputeSum("after", "0.5*m*v*v")
    integrator.addComputeGlobal(HEAT, f"{HEAT} + after - before")


def record(integrator: CustomIntegrator) -> None:
    """Keep potential energy and forces at the end of a step, so that reading them costs no force evaluation.

    Asking the context for its energy instead would evaluate the model once more, and would draw from the random
    stream: OpenMM draws for every per-particle expression, the one for kinetic energy included, so a run would depend
    on how often it is looked at.
    """
    integrator.addGlobalVariable(POTENTIAL, 0.0)
    integrator.addPerDofVariable(FORCES, 0.0)
    integrator.addComputePerDof(FORCES, "f")
    integrator.addComputeGlobal(POTENTIAL, "energy")


def recorded_potential(integrator: CustomIntegrator) -> float:
    """Potential energy at the end of the last step, kJ/mol."""
    return float(integrator.getGlobalVariableByName(POTENTIAL))


def recorded_forces(integrator: CustomIntegrator) -> NDArray[np.float64]:
    """Forces at the end of the last step, kJ/mol/nm, shape (n, 3)."""
    rows = integrator.getPerDofVariableByName(FORCES)
    return np.array([[row.x, row.y, row.z] for row in rows], dtype=np.float64)


def heat(integrator: CustomIntegrator) -> float:
    """Energy that the thermostat has given to the system since the integrator was made, kJ/mol; 0 without one."""
    names = [integrator.getGlobalVariableName(i) for i in range(integrator.getNumGlobalVariables())]
    return float(integrator.getGlobalVariableByName(HEAT)) if HEAT in names else 0.0
