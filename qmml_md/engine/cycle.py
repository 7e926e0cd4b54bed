"""The learning cycle: what calls for labels, which are computed, and what comes of them.

One trigger is one turn: places are collected over the stretch just run, a few are chosen and labelled, all are scored
before anything is trained on them, and then there is one training, one judgement and one change of model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import BadLabel, LabelError, RegionError
from ..learning.gate import cluster_energy_and_forces
from ..learning.outlier import Earlier, outlier
from ..learning.training_set import held_out
from ..records.rows import LabelRow
from ..reference.label import Label
from ..system.molecules import Floats, Molecules
from . import rhythm
from .learner import Update, failure
from .parts import Parts
from .scoring import Occasion, score
from .sights import Sight, pick, places_before, places_now, random_places
from .state import State
from .takeover import can_rewind, take_over

#: What calls for labels after an explosion; and the calls that a run must act on.
EXPLOSION = "explosion"
MUST_ACT = ("stop", EXPLOSION)
#: Tells whoever watches what is being done.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A place with its label, and whether that came from the store."""

    sight: Sight
    label: Label
    reused: bool


def turn(parts: Parts, state: State, now: Molecules, sigma: Floats, tell: Tell) -> bool:
    """What comes of a look: labels, perhaps a new model, and when the next look is.

    Args:
        parts: of the run.
        state: of the run; after a rewind it stands at an earlier step.
        now: positions and box.
        sigma: disagreement of what is on the ensemble, eV/Å, shape (a + l,).
        tell: takes the name of the stage.

    Returns:
        Whether another model takes over.
    """
    step = state.step
    kind = trigger(parts, state, sigma)
    # One member has no doubt: its silence says nothing.
    single = parts.surface.ensemble.members == 1
    rhythm.stir(parts, state, hot=single or len(state.region.hot_places) > 0 or _beyond(parts, sigma))
    state.rhythm.unlabelled = state.rhythm.unlabelled + 1 if kind is None else 0
    updated = kind is not None and _learn(parts, state, now, sigma, kind, tell)
    rhythm.rest(parts, state, labels_left=_left(parts))
    if state.step == step:
        rhythm.looked(parts, state)
    parts.stretch.clear()
    return updated


def trigger(parts: Parts, state: State, sigma: Floats) -> str | None:
    """What calls for labels now: `stop`, `event`, `periodic`, `random`, or nothing.

    Args:
        parts: of the run.
        state: of the run, with the region as it is now.
        sigma: disagreement, eV/Å, shape (n,).
    """
    settings, left = parts.config.region, _left(parts)
    # A model that comes at the last step would never move an atom.
    if left <= 0 or state.step == parts.config.dynamics.steps:
        return None
    if parts.surface.ensemble.members == 1:
        return "random" if _due_at_random(parts, state) > 0 else None
    if _beyond(parts, sigma):
        return "stop"
    # Seeds are core without being hot; they call for nothing.
    if state.region.hot_places:
        return "event"
    every = settings.label_every_checks
    return "periodic" if every and not state.rhythm.asleep and state.rhythm.unlabelled + 1 >= every else None


def _beyond(parts: Parts, sigma: Floats) -> bool:
    stop = parts.config.region.stop_eV_per_A
    # What must not enter cannot be labelled, and going back for it would help nothing.
    return stop is not None and bool(sigma[parts.policy.hottest(sigma)] >= stop)


def _left(parts: Parts) -> int:
    """Labels that may still be computed."""
    return parts.config.reference.max_labels - parts.learner.known


def _due_at_random(parts: Parts, state: State) -> int:
    """Labels that a run without disagreement lags behind an even pace of ``max_labels`` over all steps."""
    most, steps = parts.config.reference.max_labels, parts.config.dynamics.steps
    ahead = min(steps, state.step + state.rhythm.interval)
    return -(-most * ahead // steps) - parts.learner.known


def relearn(parts: Parts, state: State, now: Molecules, sigma: Floats, tell: Tell, gone_back: dict[str, int]) -> bool:
    """After an explosion: learn at the commit that the run has gone back to, and from the stretch that led to it.

    Args:
        parts: of the run.
        state: of the run, at that commit.
        now: positions and box there.
        sigma: disagreement there, eV/Å, shape (a + l,).
        tell: takes the name of the stage.
        gone_back: what was discarded.

    Returns:
        Whether another model takes over.
    """
    return _learn(parts, state, now, sigma, EXPLOSION, tell, gone_back)


def _learn(
    parts: Parts,
    state: State,
    now: Molecules,
    sigma: Floats,
    kind: str,
    tell: Tell,
    gone_back: dict[str, int] | None = None,
) -> bool:
    tell("qm")
    # Where the run must act, its labels are trained on whatever is due.
    apart = kind not in MUST_ACT and held_out(state.triggers + 1, parts.config.learning.hold_out_every)
    occasion = Occasion(trigger=kind, held_out=apart)
    found = _label(parts, state, _choose(parts, state, now, sigma, kind), kind)
    if not found:
        return False
    state.triggers += 1
    rows = [score(parts, state, each.sight, each.label, each.reused, occasion) for each in found]
    _book(parts, state, found, rows)
    limit = parts.config.learning.rewind_above_eV_per_A
    state.trusted = kind not in MUST_ACT and all(row.data["force_rmse"] <= limit for row in rows)
    if not state.trusted:
        state.rhythm.quiet = 0
    for each in found:
        parts.learner.remember(each.label, held_out=apart)
    _calibrate(parts, state, rows)
    rhythm.adapt(parts, state, parts.experience.visits())
    if apart or not parts.config.learning.trains:
        return False
    tell("training")
    return _decide(parts, state, kind, float(sigma.max()), tell, gone_back)


def _choose(parts: Parts, state: State, now: Molecules, sigma: Floats, kind: str) -> list[Sight]:
    """What to label, in the order of time; nothing where no cluster can be cut."""
    settings = parts.config.region
    # Where it exploded from is labelled, and a place on the way: the former alone need not show what is wrong.
    least = 2 if kind == EXPLOSION else 1
    count = min(max(least, settings.labels_per_trigger), _left(parts))
    try:
        if kind == "random":
            chosen = random_places(parts, state, now, sigma, min(count, _due_at_random(parts, state)))
        else:
            sights = places_now(parts, state, now, sigma)
            if count > 1:
                sights += places_before(parts, hot_only=kind == "event")
            chosen = pick(parts, sights, count=count, first=kind != "periodic")
            if parts.config.learning.control == "random_picking":
                chosen = random_places(parts, state, now, sigma, len(chosen))
    except RegionError as error:
        _failed(parts, state, failure(error), parts.whole_region(state.region).atoms.tolist())
        return []
    return sorted(chosen, key=lambda sight: sight.step)


def _label(parts: Parts, state: State, sights: list[Sight], kind: str) -> list[Labelled]:
    labelling = parts.learner.labelling
    # An explosion calls for labels at a step that may have had its own.
    labelling.begin_trigger(2 * state.step + (kind == EXPLOSION))
    found: list[Labelled] = []
    for sight in sights:
        try:
            label, reused = labelling.label(sight.cluster, lambda label: _unlike(parts, label))
        except LabelError as error:
            _failed(parts, state, failure(error), sight.region.atoms.tolist(), error)
            continue
        finally:
            for fault in labelling.faults():
                parts.note(state, "label_retried", fault, {"atoms": sight.region.atoms.tolist()})
        # A label of an earlier run that comes again tells nothing new of the model.
        fresh = not parts.learner.knows(label) and all(label.key != each.label.key for each in found)
        if fresh:
            found.append(Labelled(sight=sight, label=label, reused=reused))
    return found


def _unlike(parts: Parts, label: Label) -> str:
    """Why a label is not to be believed, by what the model in use says of it and said of those before."""
    _, forces = cluster_energy_and_forces(parts.surface.ensemble, label.cluster)
    rows = [row.data for row in parts.experience.rows if "force_rms" in row.data]
    earlier = [Earlier(force_rmse=data["force_rmse"], force_rms=data["force_rms"]) for data in rows]
    return outlier(forces, label.forces, earlier)


def _failed(parts: Parts, state: State, message: str, atoms: list[int], error: LabelError | None = None) -> None:
    state.failed += 1
    data: dict[str, Any] = {"atoms": atoms}
    if isinstance(error, BadLabel):
        data |= {"key": error.key, "quarantined": error.reason}
    parts.note(state, "label_failed", message, data)


def _book(parts: Parts, state: State, found: list[Labelled], rows: list[LabelRow]) -> None:
    for each, row in zip(found, rows, strict=True):
        parts.journal.label(row)
        source = "from the store" if each.reused else f"{each.label.wall_time:.0f} s"
        rmse, start, worst = (row.data[key] for key in ("force_rmse", "force_rmse_start", "force_maxresid"))
        where = "" if row.step == state.step else f" of step {row.step}"
        fate = "; held out" if row.data["held_out"] else ""
        message = (
            f"{each.sight.cluster.size} atoms{where}, {source}; before training: force RMSE {rmse:.4f} "
            f"(starting model {start:.4f}), largest {worst:.3f} eV/Å{fate}"
        )
        parts.note(state, "label", message, {"key": row.key, "trigger": row.data["trigger"]})


def _calibrate(parts: Parts, state: State, rows: list[LabelRow]) -> None:
    parts.experience.absorb(rows)
    calibration, policy = parts.experience.calibration, parts.policy
    message = (
        f"from {calibration.labels} labels; an atom is hot from {policy.enter_eV_per_A:.3g} eV/Å, "
        f"and stays so down to {policy.stay_eV_per_A:.3g}"
    )
    parts.note(state, "calibration", message, calibration.plain())


def _decide(parts: Parts, state: State, kind: str, doubt: float, tell: Tell, gone_back: dict[str, int] | None) -> bool:
    """Train and judge; let an accepted model take over, note a refused one. Returns whether another takes over."""
    update = parts.learner.train(parts.surface.ensemble, parts.experience.rows)
    data = update.data()
    if update.model_id == state.model_id:
        state.label_step = state.step
        parts.note(state, "update_unneeded", "the model is within tolerance of all labels as it is", data)
        _stays(parts, state, kind, doubt, "there is no other model to go back with")
        return False
    if not update.verdict.accepted:
        _refuse(parts, state, update, data)
        _stays(parts, state, kind, doubt, "the update is refused, and the old model would go the same way again")
        return False
    if kind == "stop" and not can_rewind(parts, state):
        _stays(parts, state, kind, doubt, "there is no commit to go back to, or it was gone back to too often")
    tell("swap")
    state.label_step = state.step
    take_over(parts, state, update, data, go_back=kind == "stop", gone_back=gone_back)
    return True


def _refuse(parts: Parts, state: State, update: Update, data: dict[str, object]) -> None:
    state.refused += 1
    state.shadow = update.model_id
    parts.note(state, "update_refused", "; ".join(update.verdict.reasons), {**data, "model": update.model_id})


def _stays(parts: Parts, state: State, kind: str, doubt: float, why: str) -> None:
    """Say that the run has left the trust window and carries on."""
    stop = parts.config.region.stop_eV_per_A
    if kind == "stop" and stop is not None:
        message = f"the disagreement of {doubt:.2f} eV/Å is beyond {stop:g}, but {why}: the run carries on"
        parts.note(state, "trust_window", message, {"largest_sigma_eV_per_A": doubt, "stop_eV_per_A": stop})
