"""Two time scales (RESPA): a cheap inner potential with short steps, corrected by the full surface at each outer step.

The outer kick is with F_full − F_inner, so the atoms move on the full surface, whatever the inner potential is; that
one only decides how long the outer step may be. Tuckerman, Berne, Martyna, J. Chem. Phys. 97, 1990 (1992),
doi:10.1063/1.463137.

A bath acts once, in the middle of the outer step, which for one inner step is BAOAB (Leimkuhler, Matthews, Appl. Math.
Res. Express 2013, 34, doi:10.1093/amrx/abs010). In each inner step instead, its noise would bend the path between two
outer kicks: these see the velocities at the ends alone, miss F·δx of order dt^(3/2) at random in each step, and the
invariant wanders by O(dt), not O(dt²).

Each model is evaluated once in each of its own steps: the forces at the end of a step are kept for the start of the
next. They are evaluated anew when the positions are no longer those of the end of the step (a barostat, or positions
set from outside), and after ``substeps.refresh``.
"""

import math
from dataclasses import dataclass

from openmm import CustomIntegrator

from ..errors import ConfigError
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .arguments import at_least, positive
from .substeps import (
    FORCES,
    POTENTIAL,
    STALE,
    allow_constraints,
    drift,
    kick,
    open_heat_account,
    ornstein_uhlenbeck,
)

#: Number of force groups of OpenMM.
GROUPS = 32
#: Forces of the inner potential at the present positions, kJ/mol/nm; positions at the end of the last step, nm.
_INNER, _KEPT = "inner_forces", "kept_positions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Langevin:
    """A Langevin bath.

    Attributes:
        temperature_K: temperature, K.
        friction_per_ps: γ, 1/ps.
        seed: of the integrator's own random stream; 1 … 2³¹−1.
    """

    temperature_K: float
    friction_per_ps: float
    seed: int


def respa(
    *,
    timestep_ps: float,
    inner_steps: int,
    inner_group: int,
    outer_group: int,
    thermostat: Langevin | None = None,
    constrained: bool = False,
) -> CustomIntegrator:
    """A RESPA integrator; its invariant is K + U_full − heat up to O(dt²) at a fixed number of inner steps.

    The potential and the forces that it records are those of the full surface. The inner potential is no part of the
    energy: barostats are told to see the outer group alone, and ``getState`` must be asked for that group.

    Args:
        timestep_ps: outer time step, ps.
        inner_steps: number of inner steps in an outer step.
        inner_group: force group of the inner potential.
        outer_group: force group of the full surface.
        thermostat: Langevin bath, acting in the middle of the outer step; None for NVE.
        constrained: hold the constraints of the System.

    Raises:
        ConfigError: no inner step, a time step that is not above zero, or groups that are equal or out of range.
    """
    positive(timestep_ps=timestep_ps)
    at_least("inner_steps", inner_steps, 1, "the atoms would not move", "use 2 to 8 inner steps")
    _check_groups(inner_group, outer_group)
    integrator = CustomIntegrator(timestep_ps)
    integrator.setIntegrationForceGroups({outer_group})
    _declare(integrator, thermostat, timestep_ps)
    if constrained:
        allow_constraints(integrator)
    correction = f"({FORCES}-{_INNER})"
    integrator.addUpdateContextState()
    _evaluate_if_stale(integrator, inner_group, outer_group)
    kick(integrator, 0.5, force=correction, constrained=constrained)
    for i in range(inner_steps):
        # The middle of an odd number of inner steps lies inside one, that of an even number between two.
        bath_inside = thermostat is not None and 2 * i + 1 == inner_steps
        _inner_step(integrator, 1.0 / inner_steps, inner_group, bath_inside=bath_inside, constrained=constrained)
        if thermostat is not None and 2 * (i + 1) == inner_steps:
            ornstein_uhlenbeck(integrator, constrained=constrained)
    integrator.addComputePerDof(FORCES, f"f{outer_group}")
    integrator.addComputeGlobal(POTENTIAL, f"energy{outer_group}")
    kick(integrator, 0.5, force=correction, constrained=constrained)
    integrator.addComputePerDof(_KEPT, "x")
    return integrator


def _check_groups(inner: int, outer: int) -> None:
    wrong = [group for group in (inner, outer) if not 0 <= group < GROUPS]
    if wrong or inner == outer:
        raise ConfigError(
            f"force groups {inner} (inner) and {outer} (outer) cannot be told apart",
            cure=f"use two different groups between 0 and {GROUPS - 1}",
        )


def _declare(integrator: CustomIntegrator, thermostat: Langevin | None, timestep_ps: float) -> None:
    integrator.addGlobalVariable(STALE, 1.0)
    integrator.addGlobalVariable("moved", 0.0)
    integrator.addGlobalVariable(POTENTIAL, 0.0)
    for name in (FORCES, _INNER, _KEPT):
        integrator.addPerDofVariable(name, 0.0)
    if thermostat is not None:
        integrator.setRandomNumberSeed(thermostat.seed)
        integrator.addGlobalVariable("kT", BOLTZMANN_KJ_PER_MOL_PER_K * thermostat.temperature_K)
        integrator.addGlobalVariable("damping", math.exp(-thermostat.friction_per_ps * timestep_ps))
        open_heat_account(integrator)


def _evaluate_if_stale(integrator: CustomIntegrator, inner_group: int, outer_group: int) -> None:
    """Evaluate both forces if the kept ones do not belong to the present positions or model."""
    integrator.addComputeSum("moved", f"abs(x-{_KEPT})")
    integrator.addComputeGlobal(STALE, f"step({STALE} + moved - 1e-300)")
    integrator.beginIfBlock(f"{STALE} > 0")
    integrator.addComputePerDof(FORCES, f"f{outer_group}")
    integrator.addComputePerDof(_INNER, f"f{inner_group}")
    integrator.endBlock()
    # OpenMM draws random numbers for each per-particle expression: the stream must not tell whether forces were stale.
    integrator.beginIfBlock(f"{STALE} < 1")
    integrator.addComputePerDof(FORCES, FORCES)
    integrator.addComputePerDof(_INNER, _INNER)
    integrator.endBlock()
    integrator.addComputeGlobal(STALE, "0")


def _inner_step(
    integrator: CustomIntegrator, share: float, group: int, *, bath_inside: bool, constrained: bool
) -> None:
    """B A B, or B A O A B, over a ``share`` of the outer step with the inner potential."""
    kick(integrator, 0.5 * share, force=_INNER, constrained=constrained)
    if bath_inside:
        drift(integrator, 0.5 * share, constrained=constrained)
        ornstein_uhlenbeck(integrator, constrained=constrained)
        drift(integrator, 0.5 * share, constrained=constrained)
    else:
        drift(integrator, share, constrained=constrained)
    integrator.addComputePerDof(_INNER, f"f{group}")
    kick(integrator, 0.5 * share, force=_INNER, constrained=constrained)


def conserved_energy(*, kinetic: float, potential: float, heat: float = 0.0) -> float:
    """The invariant, kJ/mol, with the potential of the full surface."""
    return kinetic + potential - heat
