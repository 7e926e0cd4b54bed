"""Velocity Verlet (NVE): B A B, velocities on-step.

OpenMM's own ``VerletIntegrator`` is leap-frog: the velocities it stores belong to half a step earlier, and a kinetic
energy computed from them does not belong to the potential energy beside it.
Source: Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716; with constraints RATTLE,
Andersen, J. Comput. Phys. 52, 24 (1983), doi:10.1016/0021-9991(83)90014-1.
"""

from openmm import CustomIntegrator

from .substeps import allow_constraints, drift, kick, record


def velocity_verlet(timestep_ps: float, *, constrained: bool = False) -> CustomIntegrator:
    """A velocity-Verlet integrator; its invariant is K + U up to O(dt²).

    Args:
        timestep_ps: time step, ps.
        constrained: hold the constraints of the System.
    """
    integrator = CustomIntegrator(timestep_ps)
    if constrained:
        allow_constraints(integrator)
    integrator.addUpdateContextState()
    kick(integrator, 0.5, constrained=constrained)
    drift(integrator, 1.0, constrained=constrained)
    kick(integrator, 0.5, constrained=constrained)
    record(integrator)
    return integrator


def conserved_energy(*, kinetic: float, potential: float) -> float:
    """The invariant of velocity Verlet, kJ/mol."""
    return kinetic + potential
