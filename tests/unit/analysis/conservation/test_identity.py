"""Work of the force difference against the change of the energy difference: closes where all is true, only there."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Status


def check(result):
    return next(check for check in result.checks if check.name == "drift_identity")


def value(result, name):
    return next(finding.value for finding in result.findings if finding.name == name)


def test_dense_frames_close_the_identity(dense_story, tell):
    result = audit(tell(dense_story))
    assert check(result).status == Status.PASS
    # The spline converges with the fourth power of the interval, 0.5 fs: what is left of 8 kJ/mol is far below the bar.
    assert value(result, "drift_identity_size") > 5.0
    assert value(result, "drift_identity_residual") < 0.01 * value(result, "drift_identity_size")
    # Frames 0 to 40 ran on the first model; what ran on the final one has nothing to explain.
    assert value(result, "drift_identity_frames") == 41


def test_stretch_after_a_swap_begins_on_the_model_that_came(walk, shift, tell):
    # Two swaps: the middle stretch begins at a frame that still holds the first model.
    story = walk(stride=1)
    third = shift(story.models[1], 3, 0.005)
    story.models.append(third)
    story.swaps.append(story.frames[-1][-1].step)
    from qmml_md.ensemble.model import evaluate
    from qmml_md.records.books import Account, Entry

    last = story.frames[-1][-1]
    after = evaluate(third, story.particles.numbers, last.positions, None).energy
    story.entries.append(
        Entry(
            step=last.step,
            time=last.time,
            account=Account.MODEL,
            before=last.potential_used,
            after=after,
            cause="update",
        )
    )
    result = audit(tell(story))
    assert check(result).status == Status.PASS
    assert "2 stretches" in check(result).why
    assert value(result, "drift_identity_frames") == 82


def test_ramp_and_exchanges_of_velocities_end_stretches(walk, tell):
    story = walk(stride=1, ramp=6, heat=1.001, com_every=20)
    story.config["dynamics"] |= {"integrator": "bussi", "remove_com_every_steps": 20}
    story.config["learning"] = {"update_policy": "ramp", "ramp_steps": 6}
    result = audit(tell(story))
    assert check(result).status == Status.PASS
    assert value(result, "drift_identity_frames") == 21 + 20


def test_sparse_frames_and_thinned_forces_are_not_judged(story, dense_story, tell, tmp_path):
    assert check(audit(tell(story))).status == Status.NOT_APPLICABLE
    from shutil import rmtree

    rmtree(tmp_path / "run")
    result = audit(tell(dense_story), forces_every=4)
    assert check(result).status == Status.NOT_APPLICABLE
    assert "at most 1.1 fs apart" in check(result).why


def velocities_are_backward(story):
    story.every_frame(lambda f: dataclasses.replace(f, velocities=-f.velocities))


def velocities_in_other_units(story):
    story.every_frame(lambda f: dataclasses.replace(f, velocities=f.velocities * 10.0, kinetic=f.kinetic * 100.0))


def velocities_a_half_step_behind(story):
    """As leap-frog integrators store them: v(t − Δt/2), about half way between two frames."""
    for block in story.frames:
        shifted = [dataclasses.replace(b, velocities=0.5 * (a.velocities + b.velocities)) for a, b in pairwise(block)]
        block[1:] = shifted


def forces_of_the_wrong_sign(story):
    story.every_frame(lambda f: dataclasses.replace(f, forces_used=-f.forces_used))


def forces_half_as_large_with_another_sign(story):
    story.every_frame(lambda f: dataclasses.replace(f, forces_used=-0.5 * f.forces_used))


def energies_that_do_not_belong(story):
    # Stored potentials wander away from the forces by 3 kJ/mol over the first stretch, as if heat had leaked in.
    story.every_frame(
        lambda f: dataclasses.replace(f, potential_used=f.potential_used + 3.0 * f.step / 40.0) if f.step <= 40 else f
    )


@pytest.mark.parametrize(
    "spoil",
    [
        velocities_are_backward,
        velocities_in_other_units,
        forces_of_the_wrong_sign,
        forces_half_as_large_with_another_sign,
        energies_that_do_not_belong,
    ],
)
def test_spoilt_record_breaks_the_identity(dense_story, tell, spoil):
    spoil(dense_story)
    assert check(audit(tell(dense_story))).status == Status.FAIL


def test_half_step_velocities_lie_within_the_bar(dense_story, tell):
    # Honest about what it cannot see: half a step of 0.5 fs shifts the work by less than the bar of 4 %. The kinetic
    # energy and the continuity of the motion are there for this.
    velocities_a_half_step_behind(dense_story)
    result = audit(tell(dense_story))
    residual, size = value(result, "drift_identity_residual"), value(result, "drift_identity_size")
    assert np.isfinite(residual)
    assert residual > 0.0005 * size
    assert "kinetic" in {c.name for c in result.checks if c.status == Status.FAIL}
