"""How a new model takes over from the old one, and what that costs in the books.

- ``abrupt``: at once; ΔU = U_new(x) − U_old(x) at fixed positions is one entry.
- ``ramp``: over n steps ``U = (1 − λ) U_old + λ U_new``, with λ going up by 1/n at the end of each, positions fixed.
  Each switch is one entry, ``(U_new − U_old)(x)/n``: the work ∫ ∂U/∂λ dλ of switching, exact for these stairs.
- ``rewind``, or beyond the trust window: back to the last commit that could be trusted; what came after it is
  discarded, its entries voided; the stretch is run again on the new model, whose ΔU is booked where it begins. A commit
  can be trusted if the last labels before it were met within ``rewind_above_eV_per_A``, or have been learned since.
  After an explosion (``recovery.py``) the same from the last commit.
"""

from dataclasses import replace
from typing import Any

from ..records.books import Account
from ..records.rows import ModelRow, Place, RegionRow
from ..region.policy import Region
from . import rhythm
from .checkpoint import read_checkpoint
from .learner import Update
from .parts import Parts
from .state import Ramp, State, unpack


def take_over(
    parts: Parts,
    state: State,
    update: Update,
    data: dict[str, Any],
    *,
    go_back: bool = False,
    gone_back: dict[str, int] | None = None,
) -> None:
    """Begin to move on an accepted model, in the way that the configuration asks for.

    Args:
        parts: of the run.
        state: of the run; after a rewind it stands at an earlier step.
        update: the accepted model.
        data: what the row of the model says.
        go_back: whether the run must go back whatever the policy: it has left the trust window.
        gone_back: what was discarded where the run has gone back already.
    """
    settings = parts.config.learning
    if gone_back is not None:
        _at_once(parts, state, update, {**data, "policy": "rewind", "rewind": gone_back})
        return
    policy = "rewind" if go_back and can_rewind(parts, state) else settings.update_policy
    if policy == "ramp" and state.step + settings.ramp_steps <= parts.config.dynamics.steps:
        _begin_ramp(parts, state, update, data)
    elif policy == "rewind" and not state.trusted and can_rewind(parts, state):
        _rewind(parts, state, update, data)
    else:
        _at_once(parts, state, update, {**data, "policy": "abrupt"})


def can_rewind(parts: Parts, state: State) -> bool:
    """Whether there is a commit to go back to, and it was not gone back to too often."""
    return state.good is not None and state.rewinds < parts.config.learning.max_rewinds


def ramp_on(parts: Parts, state: State) -> bool:
    """The next switch of a ramp that is under way. Returns whether it ended: the new model moves the atoms alone."""
    ramp, coming = state.ramp, parts.surface.coming
    if ramp is None or coming is None:
        return False
    if ramp.done < ramp.steps:
        _switch(parts, state, ramp)
        return False
    before, after = parts.simulation.swap(coming)
    if after != before:
        # Equal arithmetic gives equal numbers; a device that sums in another order each time may not.
        parts.book(state, Account.RAMP, before, after, "rounding at the end of the ramp")
    parts.surface.ensemble, parts.surface.coming, state.ramp = coming, None, None
    data = {"policy": "ramp", "ramp_from_step": ramp.from_step, "ramp_steps": ramp.steps, **ramp.data}
    _accept(parts, state, ramp.model_id, data)
    return True


def _begin_ramp(parts: Parts, state: State, update: Update, data: dict[str, Any]) -> None:
    steps = parts.config.learning.ramp_steps
    ramp = Ramp(model_id=update.model_id, from_step=state.step, steps=steps, data={**data, "delta_u_kj_per_mol": 0.0})
    with parts.journal.timings.measure("swap"):
        parts.simulation.swap(parts.surface.ensemble, update.ensemble)
    parts.surface.coming, state.ramp = update.ensemble, ramp
    message = f"model {state.model_id[:12]} → {update.model_id[:12]} over {steps} steps"
    parts.note(state, "ramp", message, {"model": update.model_id, "steps": steps})
    _switch(parts, state, ramp)


def _switch(parts: Parts, state: State, ramp: Ramp) -> None:
    ramp.done += 1
    before, after = parts.simulation.set_blend(ramp.done / ramp.steps)
    ramp.data["delta_u_kj_per_mol"] += after - before
    cause = f"model {state.model_id[:12]} → {ramp.model_id[:12]}, {ramp.done} of {ramp.steps}"
    parts.book(state, Account.RAMP, before, after, cause)


def _at_once(parts: Parts, state: State, update: Update, data: dict[str, Any]) -> None:
    with parts.journal.timings.measure("swap"):
        before, after = parts.simulation.swap(update.ensemble)
    cause = f"model {state.model_id[:12]} → {update.model_id[:12]}"
    parts.book(state, Account.MODEL, before, after, cause)
    parts.surface.ensemble = update.ensemble
    _accept(parts, state, update.model_id, {**data, "delta_u_kj_per_mol": after - before})


def _accept(parts: Parts, state: State, model_id: str, data: dict[str, Any]) -> None:
    old, state.model_id = state.model_id, model_id
    # Its labels are within tolerance now, the last one included.
    state.accepted, state.trusted, state.shadow = state.accepted + 1, True, None
    parts.journal.model(ModelRow(id=model_id, step=state.step, parent=old, data=data))
    message = (
        f"{data['epochs']} epochs on {len(data['labels'])} labels: force RMSE {data['force_rmse']:.4f}, "
        f"largest {data['force_maxresid']:.3f} eV/Å; ΔU {data['delta_u_kj_per_mol']:+.3f} kJ/mol"
    )
    parts.note(state, "update_accepted", message, {**data, "model": model_id})


def _rewind(parts: Parts, state: State, update: Update, data: dict[str, Any]) -> None:
    if state.good is None:
        return
    lost = go_back(parts, state, state.good)
    state.rewinds += 1
    # The labels that the model has learned are those of the stretch that comes.
    state.label_step = state.step
    _at_once(parts, state, update, {**data, "policy": "rewind", "rewind": lost})


def go_back(parts: Parts, state: State, number: int) -> dict[str, int]:
    """Stand at an earlier commit, no ramp under way there; with the next commit all after it is discarded.

    Args:
        parts: of the run.
        state: of the run; what was learned since then stays.
        number: of the checkpoint.

    Returns:
        What is discarded: `from_step`, `to_step`, `entries`, `segments`.
    """
    checkpoint = read_checkpoint(parts.journal.run.checkpoint(number))
    then, place, from_step = unpack(checkpoint.state, checkpoint.step), Place(**checkpoint.state["place"]), state.step
    entries, segments = parts.journal.rewind(place)
    if then.model_id != state.model_id or state.ramp is not None:
        # The ledger goes on from the model of that commit: ΔU must be measured against it.
        parts.surface.ensemble, parts.surface.coming = parts.learner.model(then.model_id), None
        parts.simulation.swap(parts.surface.ensemble)
    parts.simulation.restore(checkpoint.openmm)
    lost = {"from_step": from_step, "to_step": then.step, "entries": entries, "segments": segments}
    parts.note(state, "rewind", f"back to step {then.step}, to run {from_step - then.step} steps again", lost)
    state.step, state.model_id, state.heat_booked = then.step, then.model_id, then.heat_booked
    state.barostat, state.ramp, state.memory = then.barostat, None, then.memory
    state.rhythm.next_look = then.rhythm.next_look
    rhythm.gone_back(parts, state)
    parts.stretch.clear()
    _restore_region(parts, state, then.region)
    return lost


def _restore_region(parts: Parts, state: State, region: Region) -> None:
    """The region of then under a new epoch: epochs are never used twice."""
    state.region = replace(region, epoch=state.region.epoch + 1)
    core, atoms = tuple(region.core.tolist()), tuple(region.atoms.tolist())
    parts.journal.region(RegionRow(epoch=state.region.epoch, step=state.step, core=core, atoms=atoms))
