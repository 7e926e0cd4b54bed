"""Stopping and going on: what comes out is what an uninterrupted run would have given."""

import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.errors import DynamicsError, RunDirectoryError
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("talkative")


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return start(small.configuration(), config_dir=ROOT, out=out, progress=Silent())


def test_the_run_learned_something(small, whole: RunDirectory) -> None:
    assert len(small.everything(whole)["models"]) == 2


def test_equal_seeds_give_equal_runs(small, whole: RunDirectory, tmp_path: Path) -> None:
    again = start(small.configuration(), config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert small.everything(again) == small.everything(whole)


def test_another_seed_gives_another_run(small, whole: RunDirectory, tmp_path: Path) -> None:
    other = start(small.configuration(dynamics={"seed": 2}), config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert small.everything(other)["positions"] != small.everything(whole)["positions"]


@pytest.mark.parametrize(("step", "number"), [(7, signal.SIGTERM), (33, signal.SIGINT), (40, signal.SIGTERM)])
def test_resumed_equals_uninterrupted(small, whole: RunDirectory, tmp_path: Path, step: int, number: int) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(), config_dir=ROOT, out=out, progress=small.StopAt(step, number))
    database = run.open_database()
    last, checkpoint = database.events()[-1], database.last_checkpoint()
    database.close()
    assert (last.kind, last.step) == ("stop", step)
    assert checkpoint is not None
    assert checkpoint.step == step
    resume(out, progress=Silent())
    assert small.everything(run) == small.everything(whole)


def test_many_stops(small, whole: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(), config_dir=ROOT, out=out, progress=small.StopAt(3))
    stops = 1
    for step in (4, 19, 20, 21, 47):
        resume(out, progress=small.StopAt(step))
        stops += 1
    resume(out, progress=Silent())
    database = run.open_database()
    kinds = [event.kind for event in database.events()]
    database.close()
    assert kinds.count("stop") == stops
    assert kinds[-1] == "finish"
    assert small.everything(run) == small.everything(whole)
    kept = sorted(int(folder.name) for folder in (out / "checkpoints").iterdir())
    # The last two, and the newest of the model that the run began with.
    assert len(kept) == 3
    assert kept[0] < kept[1] == kept[2] - 1


def test_a_finished_run_is_not_resumed(whole: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match="is finished"):
        resume(whole.root, progress=Silent())


def test_damaged_checkpoint_is_refused(small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(reference={"max_labels": 0}), config_dir=ROOT, out=out, progress=small.StopAt(0))
    newest = sorted((out / "checkpoints").iterdir())[-1] / "state.json"
    newest.write_text(newest.read_text().replace("0", "1", 1))
    assert run.root == out
    with pytest.raises(RunDirectoryError, match=r"state\.json damaged"):
        resume(out, progress=Silent())


def test_exploding_dynamics_stop_with_a_reason(small, tmp_path: Path) -> None:
    # A surface ten thousand times too steep.
    ensemble = weights.load(str(ROOT / "tests" / "data" / "ani_mini.safetensors"))
    for network in ensemble.networks:
        network.last.weight.data.mul_(1e4)
    weights.save(ensemble, tmp_path / "steep.safetensors")
    config = small.configuration(
        ensemble={"weights": str(tmp_path / "steep.safetensors")},
        dynamics={"minimise": False, "equilibration_steps": 0},
        reference={"max_labels": 0},
    )
    with pytest.raises(DynamicsError, match="exploded"):
        start(config, config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


def test_handlers_are_given_back(small, tmp_path: Path) -> None:
    # Whatever they were: a shell may start its background jobs with SIGINT ignored.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    config = small.configuration(dynamics={"steps": 2, "equilibration_steps": 0}, reference={"max_labels": 0})
    start(config, config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert threading.current_thread() is threading.main_thread()
    assert [signal.getsignal(number) for number in numbers] == before


def test_looking_more_often_does_not_change_the_run(small, whole: RunDirectory, tmp_path: Path) -> None:
    often = small.configuration(output={"frame_every_steps": 1}, reference={"max_labels": 0})
    seldom = small.configuration(output={"frame_every_steps": 20}, reference={"max_labels": 0})
    ends = []
    for name, config in (("often", often), ("seldom", seldom)):
        run = start(config, config_dir=ROOT, out=tmp_path / name, progress=Silent())
        ends.append(read_trajectory(run).frames.positions[-1])
    assert np.array_equal(*ends)


def test_both_forces_give_the_same_run(small, tmp_path: Path) -> None:
    ends = []
    for kind in ("torchforce", "pythonforce"):
        changes = {"force": kind, "precision": "double"}
        config = small.configuration(ensemble=changes, dynamics={"steps": 20}, reference={"max_labels": 0})
        run = start(config, config_dir=ROOT, out=tmp_path / kind, progress=Silent())
        ends.append(read_trajectory(run).frames.positions[-1])
    # Forces equal to float64 rounding, 1e-12 relative; 5 fs is too short for chaos to raise that above 1e-9 nm.
    assert np.abs(ends[0] - ends[1]).max() < 1e-9


def test_resolved_configuration_stands_alone(whole: RunDirectory) -> None:
    plain = yaml.safe_load(whole.config.read_text())
    assert (whole.root / plain["system"]["structure"]).exists()
    assert (whole.root / plain["ensemble"]["weights"]).exists()
