"""Controls: what learning is compared with, at an equal number of labels."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from qmml_md.config import Config
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("talkative")


def waters(small, two_waters: str, control: str, **learning) -> Config:
    """Two waters, up to two labels at each trigger."""
    return small.configuration(
        system={"structure": two_waters},
        dynamics={"steps": 32, "equilibration_steps": 20, "minimise": False},
        region={"check_every_steps": 8, "labels_per_trigger": 2, "max_qm_atoms": 3, "buffer_A": 0.0},
        reference={"max_labels": 6},
        learning={"control": control, "max_epochs": 30, "anchor_frames": 8, **learning},
        output={"frame_every_steps": 2, "commit_every_steps": 8},
    )


def told(run: RunDirectory):
    """Labels, models, and kinds of events."""
    database = run.open_database()
    try:
        return database.labels(), database.models(), [event.kind for event in database.events()]
    finally:
        database.close()


def pace(rows: list) -> list[tuple[int, int]]:
    """Step and number of labels of each trigger."""
    return [(step, len(list(group))) for step, group in groupby(rows, key=lambda row: row.data["looked_at"])]


@pytest.fixture(scope="module")
def runs(small, two_waters: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """The same run under each control."""
    out = tmp_path_factory.mktemp("controls")
    return {
        name: start(waters(small, two_waters, name), config_dir=ROOT, out=out / name, progress=Silent())
        for name in ("none", "no_retraining", "single_member", "random_picking")
    }


def test_all_take_equally_many_labels(runs: dict[str, RunDirectory]) -> None:
    assert {name: len(told(run)[0]) for name, run in runs.items()} == dict.fromkeys(runs, 6)


def test_without_retraining_one_model_moves_all_atoms(small, two_waters: str, runs, tmp_path: Path) -> None:
    rows, models, kinds = told(runs["no_retraining"])
    assert len(models) == 1
    assert not [kind for kind in kinds if kind.startswith("update_")]
    # Labels are scored all the same, and by the model that the run began with.
    assert all(row.data["force_rmse"] == row.data["force_rmse_start"] for row in rows)
    assert all(row.data["steps_since"] is None for row in rows)
    learned = [row for row in told(runs["none"])[0] if row.model != models[0].id]
    assert any(row.data["force_rmse"] != row.data["force_rmse_start"] for row in learned)
    # `enabled: false` is the same control by its older name.
    config = waters(small, two_waters, "none", enabled=False)
    alias = start(config, config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert small.everything(alias) == small.everything(runs["no_retraining"])


def test_a_single_member_moves_the_atoms_and_has_no_doubt(runs: dict[str, RunDirectory]) -> None:
    run = runs["single_member"]
    rows, models, _ = told(run)
    whole = weights.load(str(ROOT / "tests" / "data" / "ani_mini.safetensors"))
    alone = weights.load(str(run.model(models[0].id)))
    assert (whole.members, alone.members) == (4, 1)
    for mine, theirs in zip(alone.parameters(), whole.parameters(), strict=True):
        assert (mine[0] == theirs[0]).all()
    assert len(models) > 1
    frames = read_trajectory(run).frames
    seen = np.isfinite(frames.disagreement).all(axis=1)
    assert (frames.disagreement[seen] == 0.0).all()
    assert {row.data["trigger"] for row in rows} == {"random"}
    # At an even pace over the run: six labels in 32 steps, looked for at every eighth.
    assert pace(rows) == [(0, 2), (8, 1), (16, 2), (24, 1)]
    # One member has no disagreement to calibrate.
    assert all(row.data["expected"] is None for row in rows)


def test_random_picking_keeps_the_times_and_draws_the_places(runs: dict[str, RunDirectory]) -> None:
    rows, own = told(runs["random_picking"])[0], told(runs["none"])[0]
    assert pace(rows) == pace(own)
    # What is drawn is not what is hottest: other frames or other molecules.
    assert [(row.step, row.data["parents"]) for row in rows] != [(row.step, row.data["parents"]) for row in own]
    assert len({row.key for row in rows}) == 6


@pytest.mark.parametrize("control", ["single_member", "random_picking"])
def test_controls_are_resumed_exactly(small, two_waters: str, runs, tmp_path: Path, control: str) -> None:
    out = tmp_path / "run"
    start(waters(small, two_waters, control), config_dir=ROOT, out=out, progress=small.StopAt(13))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(runs[control])
