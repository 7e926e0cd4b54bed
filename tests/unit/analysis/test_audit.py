"""An honest run passes, and what the audit writes is what a program can read."""

import dataclasses
import json

import h5py
import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Status
from qmml_md.errors import AuditError, RunDirectoryError
from qmml_md.records.run_directory import RunDirectory, read_trajectory


def read(path):
    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def values(result, name):
    return [finding.value for finding in result.findings if finding.name == name]


def test_honest_run_passes_every_check(run):
    result = audit(run)
    others = {check.name: check.status for check in result.checks if check.status != Status.PASS}
    # Frames are 2 fs apart: too sparse for an integral of the power, and no single steps. Constant energy has no
    # temperature to be held to.
    apply_not = {"drift_identity", "gradient", "chirality", "kinetic_energy", "equipartition", "reweighting"}
    apply_not |= {"steps", "heat"}
    assert others == dict.fromkeys(apply_not, Status.NOT_APPLICABLE)
    assert result.verdict == Status.PASS
    assert result.exit_code == 0
    names = [check.name for check in result.checks]
    assert len(names) == len(set(names))


def test_identity_closes_in_every_frame(run):
    # Sums of about thirty doubles below 1e3 kJ/mol: rounding stays below 1e-11; the promise to the user is 1e-6.
    document = read(audit(run).path)
    assert max(abs(row["identity_residual"]) for row in document["frames"]) < 1e-6
    booked = document["updates"][0]["booked"]
    assert abs(booked) > 1.0
    assert document["frames"][-1]["exchanged"] == pytest.approx(booked, abs=1e-12)


def test_final_model_agrees_where_it_moved_the_atoms_and_not_before(run, told):
    result = audit(run)
    document = read(result.path)
    swap = told.swaps[1]
    before = [row["force_rmse"] for row in document["frames"] if row["step"] <= swap]
    after = [row["force_rmse"] for row in document["frames"] if row["step"] > swap]
    assert min(before) > 1e-3
    # Batches add in another order: what is left is rounding of single precision, far below the tolerance for it.
    assert max(after) <= values(result, "replay_force_tolerance")[0]


def test_arrays_of_the_final_model_reproduce_the_force_errors(run):
    result = audit(run)
    frames = read_trajectory(run).frames
    with h5py.File(run.audit / "final_model.h5") as file:
        difference = (file["forces"][...] - frames.forces_used) / 964.8533212331002
        assert file["step"][...].tolist() == file["forces_step"][...].tolist() == frames.step.tolist()
        assert len(file["potential"]) == len(frames)
    assert values(result, "force_rmse")[0] == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-9)
    assert values(result, "force_maxresid")[0] == pytest.approx(np.abs(difference).max(), rel=1e-9)
    exact = np.percentile(np.abs(difference), 95, method="inverted_cdf")
    # The upper end of a bin, a thousand of which make a decade: at most 10^0.001 − 1 = 0.23 % above.
    assert exact <= values(result, "force_p95")[0] * (1 + 1e-12)
    assert values(result, "force_p95")[0] <= exact * 1.00231
    assert values(result, "force_C_rmse")[0] == pytest.approx(np.sqrt((difference[:, :2] ** 2).mean()), rel=1e-9)


def test_classes_of_atoms_follow_the_regions(run):
    rows = {row["step"]: row for row in read(audit(run).path)["frames"]}
    assert (rows[0]["core_atoms"], rows[0]["region_atoms"]) == (0, 0)
    assert (rows[20]["core_atoms"], rows[20]["region_atoms"]) == (1, 3)
    assert (rows[60]["core_atoms"], rows[60]["region_atoms"]) == (1, 4)
    assert rows[0]["force_rmse_core"] is None
    assert rows[20]["force_rmse_core"] is not None


def test_first_frame_out_of_tolerance_is_named(story, tell):
    story.config["audit"]["force_rmse_eV_per_A"] = 1e-4
    result = audit(tell(story))
    assert result.first_out_of_tolerance == 0
    assert {check.name for check in result.checks if check.status == Status.FAIL} == {"force_rmse", "force_rmse_core"}
    assert result.exit_code == 1


def test_drift_that_cannot_be_told_is_undecided(story, tell):
    story.config["audit"]["drift_kT_per_ns_per_dof"] = 1e-3
    story.frames, story.entries, story.swaps = [story.frames[0][:6]], [], [0]
    story.segment_models, story.models = [0], story.models[:1]
    # A run that was stopped: nobody says that it reached its last step.
    story.tables = False
    result = audit(tell(story))
    assert result.verdict == Status.UNDECIDED
    assert result.exit_code == 2


def test_double_precision_tightens_the_replay(story, tell):
    story.config["ensemble"] = {"precision": "double"}
    result = audit(tell(story))
    # The frames were made in single precision: a run that claims double must be caught by the difference.
    assert {check.name for check in result.checks if check.status == Status.FAIL} >= {"replay"}
    assert values(result, "replay_force_tolerance")[0] == 1e-7


def test_progress_is_told_of_every_frame(run, told):
    seen = []
    audit(run, progress=lambda done, total: seen.append((done, total)))
    count = sum(map(len, told.frames))
    assert seen == [(i + 1, count) for i in range(count)]


def test_units_of_all_columns_are_stated(run):
    document = read(audit(run).path)
    unitless = {
        "step",
        "model",
        "region_epoch",
        "blend",
        "core_atoms",
        "region_atoms",
        "forces_evaluated",
        "out_of_tolerance",
    }
    assert set(document["frames"][0]) == set(document["frame_units"]) | unitless
    assert all(finding["unit"] for finding in document["findings"])


def test_final_model_that_was_changed_is_refused(run, told):
    final = sorted(run.root.glob("models/*.safetensors"))
    for path in final:
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(AuditError, match="it is not the model that the run ended with"):
        audit(run)
    assert not (run.audit / "audit.json").exists()


def test_final_model_that_is_missing_is_refused(run):
    for path in run.root.glob("models/*.safetensors"):
        path.unlink()
    with pytest.raises(AuditError, match="is missing"):
        audit(run)


def test_missing_configuration_is_refused(run):
    run.config.unlink()
    with pytest.raises(AuditError, match=r"config\.yaml"):
        audit(run)


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="does not exist"):
        audit(RunDirectory(tmp_path))


def test_frame_that_is_not_finite_fails_and_still_writes_json(story, tell):
    bad = story.frames[1][2]
    story.frames[1][2] = dataclasses.replace(bad, forces_used=bad.forces_used * np.nan)
    result = audit(tell(story))
    failed = {check.name for check in result.checks if check.status == Status.FAIL}
    assert failed >= {"order", "replay", "force_rmse", "force_maxresid"}
    assert result.first_out_of_tolerance == bad.step
    document = read(result.path)
    assert next(row for row in document["frames"] if row["step"] == bad.step)["force_rmse"] is None
