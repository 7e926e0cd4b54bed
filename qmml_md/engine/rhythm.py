"""When a run looks at the disagreement, and when learning sleeps.

N, the interval between looks, follows the horizon over which labels hold (``learning/horizon.py``). After enough quiet
looks learning sleeps: no periodic labels, looks at the longest interval, until an atom is hot.
"""

from ..config import Region
from ..learning.horizon import Visit, horizon_steps, next_interval
from .parts import Parts
from .state import State


def due(state: State) -> bool:
    """Whether it is time to look."""
    return state.step >= state.rhythm.next_look


def looked(parts: Parts, state: State) -> None:
    """A look is over: say when the next one is."""
    rhythm = state.rhythm
    rhythm.looked = state.step
    rhythm.next_look = state.step + pace(parts.config.region, state)


def gone_back(parts: Parts, state: State) -> None:
    """The run stands at an earlier step: the next look is not later than it was then, nor farther than N."""
    rhythm = state.rhythm
    rhythm.looked = state.step
    rhythm.next_look = min(max(rhythm.next_look, state.step + 1), state.step + pace(parts.config.region, state))


def pace(settings: Region, state: State) -> int:
    """Steps to the next look."""
    return settings.longest_steps if state.rhythm.asleep else state.rhythm.interval


def stir(parts: Parts, state: State, *, hot: bool) -> None:
    """Count quiet looks, and wake up where an atom is hot."""
    rhythm = state.rhythm
    rhythm.quiet = 0 if hot else rhythm.quiet + 1
    if hot and rhythm.asleep:
        rhythm.asleep = False
        parts.note(state, "wake", "an atom is hot: learning wakes up", {"interval": rhythm.interval})


def rest(parts: Parts, state: State, *, labels_left: int) -> None:
    """Go to sleep after enough quiet looks, unless no label is left to wake up for."""
    rhythm, patience = state.rhythm, parts.config.learning.sleep_after_checks
    if not rhythm.asleep and labels_left > 0 and 0 < patience <= rhythm.quiet:
        rhythm.asleep = True
        longest = parts.config.region.longest_steps
        message = f"{rhythm.quiet} quiet looks: learning sleeps until an atom is hot; looks at every {longest} steps"
        parts.note(state, "sleep", message, {"quiet_looks": rhythm.quiet, "interval": longest})


def adapt(parts: Parts, state: State, visits: list[Visit]) -> None:
    """Let N follow the measured horizon, and note it where it changes."""
    settings, rhythm = parts.config.region, state.rhythm
    if not settings.adapt_interval:
        return
    interval = next_interval(rhythm.interval, visits, shortest=settings.shortest_steps, longest=settings.longest_steps)
    if interval == rhythm.interval:
        return
    horizon = horizon_steps(visits)
    known = "not known yet" if horizon is None else f"{horizon:.0f} steps"
    message = f"looks at every {interval} steps instead of {rhythm.interval}; horizon of a label {known}"
    rhythm.interval = interval
    parts.note(state, "interval", message, {"interval": interval, "horizon": horizon})
