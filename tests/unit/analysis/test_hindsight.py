"""Which stretch the final model disowns, and from where it must be run again."""

import dataclasses
import json

import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Status


def rows(result):
    return json.loads(result.path.read_text())["hindsight"]


def why(result):
    return next(check.why for check in result.checks if check.name == "force_rmse")


def test_each_model_has_its_row(ramp_story, tell):
    found = rows(audit(tell(ramp_story)))
    assert [(row["first_step"], row["last_step"]) for row in found] == [(0, 40), (41, 46), (48, 80)]
    assert [row["frames"] for row in found] == [11, 6, 9]
    assert [row["first_segment"] for row in found] == [0, 1, 2]
    assert found[1]["model"] == found[0]["model"]
    assert found[1]["blend"] == found[2]["model"]
    # The final model disowns the first one by its whole change, the blend by ever less, and itself not at all.
    assert found[0]["force_rmse"] > found[1]["force_rmse"] > 1e3 * found[2]["force_rmse"]


def test_run_within_tolerance_asks_for_nothing(story, tell):
    result = audit(tell(story))
    assert result.resimulate_from is None
    assert "qmml run --from" not in why(result)
    assert all(row["out"] == 0 and row["first_out"] is None for row in rows(result))


def test_first_frame_out_of_tolerance_has_none_before_it(story, tell):
    story.config["audit"]["force_rmse_eV_per_A"] = 1e-4
    result = audit(tell(story))
    assert (result.first_out_of_tolerance, result.resimulate_from) == (0, 0)
    assert why(result).endswith("run@0`")
    assert (rows(result)[0]["out"], rows(result)[1]["out"]) == (11, 0)


@pytest.mark.parametrize(("every", "out", "good"), [(1, 20, 16), (3, 24, 12)])
def test_last_frame_that_is_known_to_be_right_is_named(story, tell, tmp_path, every, out, good):
    # From the sixth frame (step 20) on the forces used differ by 50 eV/Å. Of one frame in three (steps 0, 12, 24) the
    # first that shows it is that of step 24, and what lies between it and step 12 is not known to be right.
    extra = 50.0 * 964.8533
    story.frames[0][5:] = [dataclasses.replace(f, forces_used=f.forces_used + extra) for f in story.frames[0][5:]]
    story.config["audit"]["forces_every_frames"] = every
    result = audit(tell(story))
    assert result.first_out_of_tolerance == out
    assert result.resimulate_from == json.loads(result.path.read_text())["resimulate_from"] == good
    assert f"`qmml run --from {tmp_path / 'run'}@{good}`" in why(result)
    assert result.verdict == Status.FAIL
    first = rows(result)[0]
    assert (first["first_out"], first["out"], first["evaluated"]) == (
        out,
        6 if every == 1 else 2,
        11 if every == 1 else 4,
    )
