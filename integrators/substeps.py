"""Named sub-steps; an integrator is a short composition of them.

Letters as in the literature on splittings (Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34,
doi:10.1093/amrx/abs010): B kicks velocities with forces, A drifts positions, O is the Ornstein-Uhlenbeck process.

With ``constrained=True`` every sub-step ends on the constraint manifold with velocities tangent to it, as in RATTLE
(Andersen, J. Comput. Phys. 52, 24, 1983, doi:10.1016/0021-9991(83)90014-1) and in g-BAOAB (Leimkuhler, Matthews, Proc.
R. Soc. A 472, 20160138, 2016, doi:10.1098/rspa.2016.0138). The kinetic energy is then that of the free degrees of
freedom alone at each border between sub-steps, and heat can be booked there.
"""

import numpy as np
from numpy.typing import NDArray
from openmm import CustomIntegrator

#: Name of the integrator global that accumulates heat, kJ/mol.
HEAT = "heat"
#: Names of the variables that ``record`` fills.
POTENTIAL, FORCES = "potential", "forces"
#: Global flag of integrators that keep forces between steps: 1 makes the next step evaluate them anew.
STALE = "stale"
#: Relative tolerance of constrained distances. What OpenMM's default of 1e-5 leaves does not shrink with the step.
CONSTRAINT_TOLERANCE = 1e-10
#: Positions before they are constrained, nm.
_UNCONSTRAINED = "unconstrained"
#: Kinetic energy before and after a thermostat, kJ/mol.
BEFORE, AFTER = "before", "after"


def allow_constraints(integrator: CustomIntegrator) -> None:
    """Declare what constrained sub-steps need; once for each integrator."""
    integrator.addPerDofVariable(_UNCONSTRAINED, 0.0)
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)


def kick(integrator: CustomIntegrator, fraction: float, *, force: str = "f", constrained: bool = False) -> None:
    """B: advance velocities by ``fraction`` of a step with the present forces.

    Args:
        integrator: to extend.
        fraction: of the step.
        force: expression of the force, kJ/mol/nm.
        constrained: project the velocities afterwards.
    """
    integrator.addComputePerDof("v", f"v + {fraction}*dt*{force}/m")
    if constrained:
        integrator.addConstrainVelocities()


def drift(integrator: CustomIntegrator, fraction: float, *, constrained: bool = False) -> None:
    """A: advance positions by ``fraction`` of a step with the present velocities.

    With constraints the velocities take up the displacement that the constraints caused, and are projected.
    """
    integrator.addComputePerDof("x", f"x + {fraction}*dt*v")
    if constrained:
        integrator.addComputePerDof(_UNCONSTRAINED, "x")
        integrator.addConstrainPositions()
        integrator.addComputePerDof("v", f"v + (x - {_UNCONSTRAINED})/({fraction}*dt)")
        integrator.addConstrainVelocities()


def open_heat_account(integrator: CustomIntegrator) -> None:
    """Declare what booking heat needs; once for each integrator."""
    for name in (HEAT, BEFORE, AFTER):
        integrator.addGlobalVariable(name, 0.0)


def kinetic_energy(integrator: CustomIntegrator, name: str) -> None:
    """Put the kinetic energy, kJ/mol, into the global ``name``."""
    integrator.addComputeSum(name, "0.5*m*v*v")


def book_heat(integrator: CustomIntegrator) -> None:
    """Book the change of kinetic energy since it was put into ``before``: measured, whatever the thermostat meant."""
    kinetic_energy(integrator, AFTER)
    integrator.addComputeGlobal(HEAT, f"{HEAT} + {AFTER} - {BEFORE}")


def ornstein_uhlenbeck(integrator: CustomIntegrator, *, constrained: bool = False) -> None:
    """O: damp and randomise velocities over a whole step, and book the heat.

    Needs the globals ``damping`` = exp(−γ dt), ``kT`` (kJ/mol) and an open heat account. The heat is the change of
    kinetic energy across this sub-step and nothing else; it costs two sums and no force evaluation.
    """
    kinetic_energy(integrator, BEFORE)
    integrator.addComputePerDof("v", "damping*v + sqrt((1-damping*damping)*kT/m)*gaussian")
    if constrained:
        integrator.addConstrainVelocities()
    book_heat(integrator)


def rescale(integrator: CustomIntegrator, factor: str) -> None:
    """Scale all velocities by the global ``factor``, and book the heat against the present ``before``.

    Velocities that were tangent to constraints stay tangent.
    """
    integrator.addComputePerDof("v", f"{factor}*v")
    book_heat(integrator)


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


def global_names(integrator: CustomIntegrator) -> list[str]:
    """Names of all globals of an integrator."""
    return [integrator.getGlobalVariableName(i) for i in range(integrator.getNumGlobalVariables())]


def heat(integrator: CustomIntegrator) -> float:
    """Energy that the thermostat has given to the system since the integrator was made, kJ/mol; 0 without one."""
    return float(integrator.getGlobalVariableByName(HEAT)) if HEAT in global_names(integrator) else 0.0


def refresh(integrator: CustomIntegrator) -> None:
    """Make the next step evaluate anew whatever the integrator keeps between steps.

    To be called when the model was changed or the context was rebuilt. Nothing is done for integrators that keep
    nothing. The random stream is the same with and without.
    """
    if STALE in global_names(integrator):
        integrator.setGlobalVariableByName(STALE, 1.0)
