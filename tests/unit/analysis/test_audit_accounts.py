"""Ramps, rewinds, heat and velocities: an honest run passes, and each way of booking them wrongly is caught by name."""

import dataclasses

import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Status
from qmml_md.records.books import Account, Entry
from qmml_md.records.database import Commit
from qmml_md.records.rows import Event, Place, SegmentRow
from qmml_md.records.segment import write_segment


def failed(result):
    return {check.name for check in result.checks if check.status == Status.FAIL}


def why(result, name):
    return next(check.why for check in result.checks if check.name == name)


def of(story, account):
    return [k for k, entry in enumerate(story.entries) if entry.account == account]


def change(story, k, **values):
    story.entries[k] = dataclasses.replace(story.entries[k], **values)


def keep_books(story, k, extra):
    """What an engine would have stored that booked ``extra`` too much in entry k: the identity still closes."""

    def shifted(frame):
        return dataclasses.replace(frame, conserved=frame.conserved - (extra if frame.entries > k else 0.0))

    story.every_frame(shifted)


def test_honest_ramp_passes(ramp_story, tell):
    result = audit(tell(ramp_story))
    assert failed(result) == set()
    assert "1 of them ramps" in why(result, "model_updates")


def test_honest_thermostat_and_removals_pass(warm_story, tell):
    assert of(warm_story, Account.HEAT)
    assert len(of(warm_story, Account.COM)) == 3
    assert abs(sum(entry.amount for entry in warm_story.entries if entry.account == Account.COM)) > 0.1
    assert failed(audit(tell(warm_story))) == set()


def test_velocities_drawn_anew_pass_where_they_are_asked_for(walk, tell):
    story = walk(redraw_every=20)
    story.config["dynamics"]["redraw_velocities_every_steps"] = 20
    assert failed(audit(tell(story))) == set()


def ramp_books_too_much(story):
    k = of(story, Account.RAMP)[2]
    change(story, k, before=story.entries[k].before - 0.02)
    keep_books(story, k, 0.02)


def ramp_misses_a_step(story):
    k = of(story, Account.RAMP)[2]
    lost = story.entries.pop(k).amount
    story.every_frame(
        lambda f: dataclasses.replace(f, conserved=f.conserved + lost, entries=f.entries - 1) if f.entries > k else f
    )


def ramp_books_all_at_once(story):
    rows = of(story, Account.RAMP)
    total = sum(story.entries[k].amount for k in rows)
    for k in rows[1:]:
        change(story, k, after=story.entries[k].before)
    change(story, rows[0], after=story.entries[rows[0]].before + total)
    sums = np.concatenate([[0.0], np.cumsum([entry.amount for entry in story.entries])])
    story.every_frame(lambda f: dataclasses.replace(f, conserved=f.kinetic + f.potential_used - float(sums[f.entries])))


def wrong_weight(story):
    block = story.frames[1]
    block[2] = dataclasses.replace(block[2], blend=block[2].blend + 0.1)


def forces_of_the_old_model_alone(story):
    # Blended energies, but the forces of the model that goes: the classic forgotten term.
    from qmml_md.ensemble.model import evaluate

    f = story.frames[1][3]
    out = evaluate(story.models[0], story.particles.numbers, f.positions, None)
    story.frames[1][3] = dataclasses.replace(f, forces_used=out.forces)


def blend_that_is_not_named(story):
    story.segment_blends[1] = None


def ramp_as_if_at_once(story):
    story.ramp = 0


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (ramp_books_too_much, {"model_updates", "ledger"}),
        (ramp_misses_a_step, {"model_updates", "ledger", "balance", "steps"}),
        (ramp_books_all_at_once, {"model_updates"}),
        (wrong_weight, {"models", "replay"}),
        (forces_of_the_old_model_alone, {"replay"}),
        (blend_that_is_not_named, {"models", "replay"}),
        (ramp_as_if_at_once, {"models", "model_updates", "ledger"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_spoilt_ramp_fails_by_name(ramp_story, tell, spoil, expected):
    spoil(ramp_story)
    assert failed(audit(tell(ramp_story))) == expected


def heat_without_a_thermostat(story):
    story.config["dynamics"]["integrator"] = "verlet"


def heat_that_does_not_chain(story):
    k = of(story, Account.HEAT)[5]
    entry = story.entries[k]
    # The amount stays: only what stood before and after tells.
    change(story, k, before=entry.before + 0.5, after=entry.after + 0.5)


def heat_missing_before_a_frame(story):
    k = of(story, Account.HEAT)[5]
    story.entries.pop(k)
    story.every_frame(lambda f: dataclasses.replace(f, entries=f.entries - (f.entries > k)))


def removal_not_booked(story):
    k = of(story, Account.COM)[1]
    story.entries.pop(k)
    story.every_frame(lambda f: dataclasses.replace(f, entries=f.entries - (f.entries > k)))


def removal_nobody_asked_for(story):
    story.config["dynamics"]["remove_com_every_steps"] = 0


def removal_from_another_kinetic_energy(story):
    k = of(story, Account.COM)[1]
    change(story, k, before=story.entries[k].before + 1.0, after=story.entries[k].after + 1.0)


def barostat_without_pressure(story):
    last = story.frames[-1][-1]
    entry = Entry(step=last.step, time=last.time, account=Account.BAROSTAT, before=0.0, after=0.0, cause="volume")
    story.entries.append(entry)


def model_entry_from_another_potential(story):
    k = of(story, Account.MODEL)[0]
    change(story, k, before=story.entries[k].before + 1.0, after=story.entries[k].after + 1.0)


@pytest.mark.parametrize(
    ("spoil", "clause"),
    [
        (heat_without_a_thermostat, "velocity Verlet exchanges no heat"),
        (heat_that_does_not_chain, "the entry before it ended at"),
        (heat_missing_before_a_frame, "heat of the thermostat is not booked before 1 frames"),
        (removal_not_booked, "removals of the centre-of-mass motion were due every 20 steps, 1 are not booked"),
        (removal_nobody_asked_for, "no removals of the centre-of-mass motion were asked for"),
        (removal_from_another_kinetic_energy, "the com entry of step 40 says that the kinetic energy was"),
        (barostat_without_pressure, "no pressure was asked for"),
        (model_entry_from_another_potential, "the model entry of step 40 says that the potential energy was"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_spoilt_ledger_says_what_is_wrong(warm_story, tell, spoil, clause):
    spoil(warm_story)
    result = audit(tell(warm_story))
    assert "ledger" in failed(result)
    assert clause in why(result, "ledger")


def rewound(run, story, *, told_entries=1):
    """A stretch after the last frame that was run, committed and discarded."""
    database = run.open_database()
    place, last = database.place(), story.frames[-1][-1]
    from qmml_md.records.frames import stack

    later = dataclasses.replace(last, step=last.step + 4, time=last.time + 2e-3, potential_used=1e6)
    model = database.models()[-1].id
    digest = write_segment(run.segment(9), stack([later], model), story.particles)
    row = SegmentRow(
        id=9, first_step=later.step, last_step=later.step, frames=1, model=model, file="segments/000009.h5",
        sha256=digest,
    )  # fmt: skip
    heat = Entry(step=later.step, time=later.time, account=Account.HEAT, before=0.0, after=77.0, cause="lost")
    database.commit(Commit(segment=row, entries=[heat]))
    assert isinstance(place, Place)
    lost = {"from_step": later.step, "to_step": last.step, "entries": told_entries, "segments": 1}
    event = Event(step=later.step, time=later.time, kind="rewind", message="back", data=lost)
    database.commit(Commit(rewind_to=place, events=[event]))
    database.close()
    return run


def test_discarded_stretch_counts_no_more(story, tell):
    result = audit(rewound(tell(story), story))
    assert failed(result) == set()


def test_discarded_rows_that_no_rewind_explains_are_caught(story, tell):
    result = audit(rewound(tell(story), story, told_entries=0))
    assert failed(result) == {"ledger"}
    assert "1 entries are marked as discarded, but the run tells of 0" in why(result, "ledger")


def test_forces_on_one_frame_in_three(story, tell):
    run = tell(story)
    result = audit(run, forces_every=3)
    count = sum(map(len, story.frames))
    evaluated = next(f.value for f in result.findings if f.name == "frames_with_forces")
    assert evaluated == -(-count // 3)
    assert f"forces were evaluated on {evaluated:.0f} of {count} frames" in why(result, "replay")
    assert f"{evaluated:.0f} of {count} frames that were evaluated" in why(result, "force_rmse")
    assert failed(result) == set()


def test_energies_are_checked_on_every_frame_whatever_the_forces(story, tell):
    f = story.frames[0][1]
    shift = {"potential_used": f.potential_used + 0.1, "conserved": f.conserved + 0.1}
    story.frames[0][1] = dataclasses.replace(f, **shift)
    story.config["audit"]["forces_every_frames"] = 4
    assert failed(audit(tell(story))) == {"replay"}
