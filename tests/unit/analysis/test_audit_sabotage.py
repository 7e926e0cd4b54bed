"""Every way of spoiling a record is caught by the check that is there for it: proof that the checks can fail."""

import dataclasses

import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Status
from qmml_md.records.books import Account, Entry


def failed(result):
    return {check.name for check in result.checks if check.status == Status.FAIL}


def forget_delta_u(story):
    story.entries.clear()
    story.every_frame(lambda f: dataclasses.replace(f, entries=0, conserved=f.kinetic + f.potential_used))


def book_wrong_delta_u(story):
    # The same wrong amount in the ledger and in H̃, as an engine would that computes ΔU wrongly.
    story.entries[0] = dataclasses.replace(story.entries[0], after=story.entries[0].after + 0.01)
    story.every_frame(lambda f: dataclasses.replace(f, conserved=f.conserved - (0.01 if f.entries else 0.0)))


def change_a_row_of_the_ledger(story):
    story.entries[0] = dataclasses.replace(story.entries[0], after=story.entries[0].after + 1e-5)


def duplicate_a_frame(story):
    story.frames[0].insert(4, story.frames[0][3])


def swap_two_frames(story):
    block = story.frames[0]
    block[3], block[4] = block[4], block[3]


def swap_what_two_frames_hold(story):
    # Each frame stays consistent in itself: only the motion gives it away.
    block = story.frames[0]
    a, b = block[3], block[6]
    block[3] = dataclasses.replace(b, step=a.step, time=a.time, region_epoch=a.region_epoch)
    block[6] = dataclasses.replace(a, step=b.step, time=b.time, region_epoch=b.region_epoch)


def name_the_wrong_model(story):
    story.segment_models[0] = 1


def velocities_in_another_unit(story):
    story.every_frame(lambda f: dataclasses.replace(f, velocities=f.velocities * 10.0))


def velocities_and_kinetic_energy_in_another_unit(story):
    def change(f):
        kinetic = f.kinetic * 100.0
        return dataclasses.replace(
            f, velocities=f.velocities * 10.0, kinetic=kinetic, conserved=f.conserved + kinetic - f.kinetic
        )

    story.every_frame(change)


def positions_in_another_unit(story):
    story.every_frame(lambda f: dataclasses.replace(f, positions=f.positions * 10.0))


def scale_forces(story):
    story.every_frame(lambda f: dataclasses.replace(f, forces_used=f.forces_used * 1.01))


def scale_forces_of_one_frame(story):
    f = story.frames[0][5]
    story.frames[0][5] = dataclasses.replace(f, forces_used=f.forces_used * 1.01)


def energies_in_electronvolt(story):
    story.every_frame(lambda f: dataclasses.replace(f, potential_used=f.potential_used / 96.48533212))


def miscount_the_entries(story):
    f = story.frames[1][0]
    story.frames[1][0] = dataclasses.replace(f, entries=0)


def book_heat_in_nve(story):
    last = story.frames[-1][-1]
    heat = Entry(step=last.step, time=last.time, account=Account.HEAT, before=0.0, after=1e-3, cause="O substep")
    story.entries.append(heat)


def clock_runs_wrong(story):
    story.every_frame(lambda f: dataclasses.replace(f, time=f.time * 1e3))


def region_that_nobody_knows(story):
    f = story.frames[0][0]
    story.frames[0][0] = dataclasses.replace(f, region_epoch=7)


SABOTAGE = [
    (forget_delta_u, {"ledger", "model_updates", "balance"}),
    (book_wrong_delta_u, {"model_updates"}),
    (change_a_row_of_the_ledger, {"identity"}),
    (duplicate_a_frame, {"order", "cadence"}),
    (swap_two_frames, {"order"}),
    (swap_what_two_frames_hold, {"continuity"}),
    (name_the_wrong_model, {"models", "replay", "retrace"}),
    (velocities_in_another_unit, {"kinetic", "identity", "continuity", "retrace"}),
    (velocities_and_kinetic_energy_in_another_unit, {"continuity", "retrace", "fluctuation", "balance"}),
    (positions_in_another_unit, {"replay", "continuity", "model_updates", "retrace"}),
    (scale_forces, {"replay"}),
    (scale_forces_of_one_frame, {"replay"}),
    (energies_in_electronvolt, {"identity", "replay", "ledger"}),
    (miscount_the_entries, {"ledger", "identity"}),
    (book_heat_in_nve, {"ledger"}),
    (clock_runs_wrong, {"order"}),
    (region_that_nobody_knows, {"order"}),
]


@pytest.mark.parametrize(("spoil", "expected"), SABOTAGE, ids=[spoil.__name__ for spoil, _ in SABOTAGE])
def test_spoilt_record_fails_by_name(story, tell, spoil, expected):
    spoil(story)
    result = audit(tell(story))
    assert failed(result) == expected
    assert result.verdict == Status.FAIL


def test_another_model_than_the_one_that_moved_the_atoms_is_caught(story, tell, shift):
    # Consistent hashes and names, but other weights, moved by one part in a thousand of their size.
    story.models[0] = shift(story.models[0], 7, 1e-4)
    assert failed(audit(tell(story))) == {"replay", "model_updates", "retrace"}


def test_segment_that_was_changed_is_caught(run):
    path = run.segment(0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert "files" in failed(audit(run))


def test_earlier_model_that_is_missing_is_caught(run):
    final = run.open_database()
    first = final.models()[0].id
    final.close()
    run.model(first).unlink()
    assert failed(audit(run)) == {"files", "replay", "model_updates"}


def test_update_step_without_a_frame_is_caught(story, tell):
    del story.frames[0][-1]
    assert failed(audit(tell(story))) == {"model_updates", "cadence"}


def test_noise_below_single_precision_is_not_blamed(story, tell):
    # One unit in the last place of single precision, relative: what another implementation of the same sums may give.
    rng = np.random.default_rng(3)

    def change(f):
        return dataclasses.replace(f, forces_used=f.forces_used * (1 + 6e-8 * rng.normal(size=f.forces_used.shape)))

    story.every_frame(change)
    assert failed(audit(tell(story))) == set()
