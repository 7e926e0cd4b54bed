"""Langevin dynamics by the BAOAB splitting (NVT), velocities on-step, heat booked.

Source: Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010; with constraints g-BAOAB,
Leimkuhler, Matthews, Proc. R. Soc. A 472, 20160138 (2016), doi:10.1098/rspa.2016.0138.
"""

import math

from openmm import CustomIntegrator

from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .substeps import allow_constraints, drift, kick, open_heat_account, ornstein_uhlenbeck, record


def langevin_baoab(
    *, timestep_ps: float, temperature_K: float, friction_per_ps: float, seed: int, constrained: bool = False
) -> CustomIntegrator:
    """A BAOAB Langevin integrator; its invariant is K + U − heat up to the shadow work, which vanishes as dt².

    Args:
        timestep_ps: time step, ps.
        temperature_K: temperature of the bath, K.
        friction_per_ps: γ, 1/ps.
        seed: of the integrator's own random stream; 1 … 2³¹−1 (OpenMM takes 0 for a seed from the clock).
        constrained: hold the constraints of the System.
    """
    integrator = CustomIntegrator(timestep_ps)
    integrator.setRandomNumberSeed(seed)
    integrator.addGlobalVariable("kT", BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K)
    integrator.addGlobalVariable("damping", math.exp(-friction_per_ps * timestep_ps))
    open_heat_account(integrator)
    if constrained:
        allow_constraints(integrator)
    integrator.addUpdateContextState()
    kick(integrator, 0.5, constrained=constrained)
    drift(integrator, 0.5, constrained=constrained)
    ornstein_uhlenbeck(integrator, constrained=constrained)
    drift(integrator, 0.5, constrained=constrained)
    kick(integrator, 0.5, constrained=constrained)
    record(integrator)
    return integrator


def conserved_energy(*, kinetic: float, potential: float, heat: float) -> float:
    """The invariant of Langevin dynamics with the heat booked, kJ/mol."""
    return kinetic + potential - heat
