"""After an explosion: back to the last commit, learn there and from the way that led to it, and go on; or stop cleanly.

The old model would go the same way again, so that only another model is a reason to go on. After
``learning.max_rewinds`` returns without getting beyond the place of the explosion the run stops with a diagnosis.
"""

from ..errors import DynamicsError
from ..records.run_directory import RunDirectory
from . import cycle
from .checkpoint import read_checkpoint
from .parts import Parts
from .state import State
from .takeover import go_back


def recover(parts: Parts, state: State, error: DynamicsError, tell: cycle.Tell) -> str:
    """Go back, and learn.

    Args:
        parts: of the run.
        state: of the run, which has exploded; afterwards it stands at a commit.
        error: by what it was noticed.
        tell: takes the name of the stage.

    Returns:
        Why the run cannot go on; empty where another model has taken over.

    Raises:
        DynamicsError: there is no commit to go back to within this process; ``qmml resume`` begins at the last one.
    """
    number = _last_commit(parts, state, error)
    led_to_it, state.exploded_at = list(parts.stretch), state.step
    lost = go_back(parts, state, number)
    state.explosions += 1
    numbers = {"from_step": state.exploded_at, "to_step": state.step, "explosions": state.explosions}
    parts.note(state, "explosion", f"at step {state.exploded_at}: {error.what}", numbers)
    why = _hopeless(parts, state)
    if why:
        return why
    for step, frame in led_to_it:
        parts.stretch.offer(step, frame)
    instant = parts.simulation.instant()
    now = parts.molecules.at(instant.positions, instant.box)
    sigma = parts.doubt(now)
    state.hottest = parts.policy.hottest(sigma)
    refused, failed = state.refused, state.failed
    learned = cycle.relearn(parts, state, now, sigma, tell, lost)
    parts.stretch.clear()
    if learned:
        return ""
    return _nothing_learned(refused=state.refused - refused, failed=state.failed - failed)


def _last_commit(parts: Parts, state: State, error: DynamicsError) -> int:
    """Number of the checkpoint to go back to: the last one, or the last good one where that is within a ramp."""
    run: RunDirectory = parts.journal.run
    last = parts.journal.next_checkpoint - 1
    if read_checkpoint(run.checkpoint(last)).state["ramp"] is None:
        return last
    if state.good is None:
        raise DynamicsError(f"{error.what}, while a new model was being blended in", cure=error.cure) from error
    return state.good


def _hopeless(parts: Parts, state: State) -> str:
    """Why learning cannot help; empty if it may."""
    config = parts.config
    if not config.learning.trains:
        return "the run does not learn, and would go the same way again"
    if state.explosions > config.learning.max_rewinds:
        return f"it was gone back to {state.explosions - 1} times, and the models learned since explode, too"
    if parts.learner.known >= config.reference.max_labels:
        return "no label is left to learn from (reference.max_labels)"
    return ""


def _nothing_learned(*, refused: int, failed: int) -> str:
    if refused:
        return "the gate refused the model that was learned from it, and the old one would go the same way again"
    if failed:
        return "no label could be computed of it"
    return "its labels give no other model, and the old one would go the same way again"
