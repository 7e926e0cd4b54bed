"""Langevin dynamics by the BAOAB splitting (NVT), velocities on-step, heat booked.

Source: Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010.
"""

import math

from openmm import CustomIntegrator

from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .substeps import HEAT, drift, kick, ornstein_uhlenbeck, record


def langevin_baoab(*, timestep_ps: float, temperature_K: float, friction_per_ps: float, seed: int) -> CustomIntegrator:
    """A BAOAB Langevin integrator; its invariant is K + U − heat up to the shadow work, which vanishes as dt².

    Args:
        timestep_ps: time step, ps.
        temperature_K: temperature of the bath, K.
        friction_per_ps: γ, 1/ps.
        seed: of the integrator's own random stream; 1 … 2³¹−1 (OpenMM takes 0 for a seed from the clock).
    """
    integrator = CustomIntegrator(timestep_ps)
    integrator.setRandomNumberSeed(seed)
    integrator.addGlobalVariable("kT", BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K)
    integrator.addGlobalVariable("damping", math.exp(-friction_per_ps * timestep_ps))
    for name in (HEAT, "before", "after"):
        integrator.addGlobalVariable(name, 0.0)
    integrator.addUpdateContextState()
    kick(integrator, 0.5)
    drift(integrator, 0.5)
    ornstein_uhlenbeck(integrator)
    drift(integrator, 0.5)
    kick(integrator, 0.5)
    record(integrator)
    return integrator


def conserved_energy(*, kinetic: float, potential: float, heat: float) -> float:
    """The invariant of Langevin dynamics with the heat booked, kJ/mol."""
    return kinetic + potential - heat
