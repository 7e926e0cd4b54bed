"""Exchanges of energy at step boundaries that are no change of model: heat, volume moves, velocities.

Each is done and booked in one place. The order at one step is: volume move, velocities drawn anew, or else the motion
of the centre of mass removed.
"""

from ..config import THERMOSTATS
from ..records.books import Account
from ..system.molecules import Molecules
from .instant import Instant
from .parts import Parts
from .propagator import thermal_velocities
from .state import State


def book_heat(parts: Parts, state: State) -> None:
    """Book what the thermostat has given since it was last booked; nothing without a thermostat."""
    if parts.config.dynamics.integrator not in THERMOSTATS or state.step == 0:
        return
    total = parts.simulation.heat()
    parts.book(state, Account.HEAT, state.heat_booked, total, "thermostat since it was last booked")
    state.heat_booked = total


def due(parts: Parts, state: State) -> bool:
    """Whether anything is to be exchanged at this step."""
    return state.step < parts.config.dynamics.steps and any(
        (_barostat_due(parts, state), _redraw_due(parts, state), _removal_due(parts, state))
    )


def make(parts: Parts, state: State, instant: Instant) -> None:
    """Make and book every exchange that is due.

    Args:
        parts: of the run.
        state: of the run.
        instant: where the atoms stand.

    Raises:
        DynamicsError: the box has become too small for the model.
    """
    if not due(parts, state):
        return
    if _barostat_due(parts, state):
        with parts.journal.timings.measure("barostat"):
            _change_volume(parts, state, parts.molecules.at(instant.positions, instant.box))
    if _redraw_due(parts, state):
        temperature = parts.config.dynamics.temperature_K
        drawn = thermal_velocities(parts.molecules.masses, temperature, parts.rng)
        after = parts.simulation.set_velocities(drawn)
        parts.book(state, Account.VELOCITIES, instant.kinetic, after, f"velocities drawn anew at {temperature:g} K")
    elif _removal_due(parts, state):
        masses = parts.molecules.masses
        drift = masses @ instant.velocities / masses.sum()
        after = parts.simulation.set_velocities(instant.velocities - drift)
        parts.book(state, Account.COM, instant.kinetic, after, "motion of the centre of mass removed")


def _every(steps: int, state: State) -> bool:
    return steps > 0 and state.step > 0 and state.step % steps == 0


def _barostat_due(parts: Parts, state: State) -> bool:
    return parts.barostat is not None and _every(parts.config.dynamics.barostat_every_steps, state)


def _redraw_due(parts: Parts, state: State) -> bool:
    return _every(parts.config.dynamics.redraw_velocities_every_steps, state)


def _removal_due(parts: Parts, state: State) -> bool:
    return _every(parts.config.dynamics.remove_com_every_steps, state)


def _change_volume(parts: Parts, state: State, now: Molecules) -> None:
    if parts.barostat is None:
        return
    move = parts.barostat.attempt(parts.simulation, now, state.barostat, parts.rng)
    if move is not None:
        cause = f"volume {move.volume_before:.6f} → {move.volume_after:.6f} nm³"
        parts.book(state, Account.BAROSTAT, move.before, move.after, cause)
