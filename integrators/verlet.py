"""Velocity Verlet (NVE): B A B, velocities on-step.

OpenMM's own ``VerletIntegrator`` is leap-frog: the velocities it stores belong to half a step earlier, and a kinetic
energy computed from them does not belong to the potential energy beside it.
Source: Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716.
"""

from openmm import CustomIntegrator

from .substeps import drift, kick, record


def velocity_verlet(timestep_ps: float) -> CustomIntegrator:
    """A velocity-Verlet integrator; its invariant is K + U up to O(dt²).

    Args:
        timestep_ps: time step, ps.
    """
    integrator = CustomIntegrator(timestep_ps)
    integrator.addUpdateContextState()
    kick(integrator, 0.5)
    drift(integrator, 1.0)
    kick(integrator, 0.5)
    record(integrator)
    return integrator


def conserved_energy(*, kinetic: float, potential: float) -> float:
    """The invariant of velocity Verlet, kJ/mol."""
    return kinetic + potential
