"""Restarting: commits on request, limits of time, another platform, and runs that never began."""

import gc
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent, Status
from qmml_md.errors import RunDirectoryError
from qmml_md.records.lock import locked
from qmml_md.records.run_directory import NEWBORN, RunDirectory, read_trajectory
from qmml_md.records.seal import read_seal
from qmml_md.records.verify import resumable_from, verify

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("talkative")


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("whole") / "run"
    return start(small.configuration(), config_dir=ROOT, out=out, progress=Silent())


def unwhole(run: RunDirectory) -> list[str]:
    return [line for group in verify(run) for line in group.problems]


def test_a_run_at_rest_is_sealed_and_whole(whole: RunDirectory) -> None:
    assert unwhole(whole) == []
    seal = read_seal(whole)
    assert seal is not None
    assert {"run.db", "labels.db", "config.yaml", "structure.pdb"} <= set(seal)
    assert resumable_from(whole) == 60


def test_sigusr1_commits_and_goes_on(small, whole: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(), config_dir=ROOT, out=out, progress=small.StopAt(33, signal.SIGUSR1))
    database = run.open_database()
    steps = [row.step for row in database.checkpoints()]
    database.close()
    assert 33 in steps
    assert steps[-1] == 60
    assert small.everything(run) == small.everything(whole)


def test_a_wall_clock_limit_stops_it_resumably(small, whole: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Step 0 takes longer than that: its label and its training are finished, or nothing of them is.
    run = start(small.configuration(), config_dir=ROOT, out=out, progress=Silent(), max_wall_s=3.0)
    database = run.open_database()
    last = database.last_checkpoint()
    database.close()
    assert last is not None
    assert last.step < 60
    resume(out, progress=Silent())
    assert small.everything(run) == small.everything(whole)


class KillBefore(Silent):
    """Raises what nothing catches when a stage is reached: what is on the disk is what a kill would leave."""

    def __init__(self, stage: str, step: int = 0) -> None:
        self.stage, self.step = stage, step

    def status(self, status: Status) -> None:
        if status.stage == self.stage and status.step >= self.step:
            os._exit(9)


def in_child(work) -> int:
    """Exit status of a forked process that does some work."""
    child = os.fork()
    if child == 0:
        # Contexts of its parent are not its to destroy: their threads are not in this process, and would be waited for.
        gc.freeze()
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_run_that_is_killed_before_its_first_commit_is_started_again(
    small, whole: RunDirectory, tmp_path: Path
) -> None:
    out, config = tmp_path / "run", small.configuration()
    killed = in_child(lambda: start(config, config_dir=ROOT, out=out, progress=KillBefore("minimise")))
    assert killed == 9
    assert (out / NEWBORN).exists()
    with pytest.raises(RunDirectoryError, match="before its first commit"):
        resume(out, progress=Silent())
    assert small.everything(start(config, config_dir=ROOT, out=out, progress=Silent())) == small.everything(whole)
    assert not (out / NEWBORN).exists()


def test_what_step_0_asks_for_is_done_after_a_kill(small, whole: RunDirectory, tmp_path: Path) -> None:
    out, config = tmp_path / "run", small.configuration()
    assert in_child(lambda: start(config, config_dir=ROOT, out=out, progress=KillBefore("training"))) == 9
    run = RunDirectory(out)
    assert resumable_from(run) == 0
    assert unwhole(run) == []
    resume(out, progress=Silent())
    assert small.everything(run) == small.everything(whole)


def test_other_folders_are_left_alone(small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="not empty"):
        start(small.configuration(), config_dir=ROOT, out=out, progress=Silent())
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_work_on_one_run(small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(), config_dir=ROOT, out=out, progress=small.StopAt(7))
    with locked(run.lock), pytest.raises(RunDirectoryError, match=f"in use by process {os.getpid()}"):
        resume(out, progress=Silent())


def test_a_restart_on_another_platform_says_that_it_is_not_exact(small, tmp_path: Path) -> None:
    config = small.configuration(dynamics={"integrator": "verlet"}, reference={"max_labels": 0})
    same = start(config, config_dir=ROOT, out=tmp_path / "same", progress=Silent())
    run = start(config, config_dir=ROOT, out=tmp_path / "run", progress=small.StopAt(30))
    resume(run.root, progress=Silent(), platform="CPU")
    database = run.open_database()
    told = [event for event in database.events() if event.kind == "resume"]
    database.close()
    assert [event.data["exact"] for event in told] == [False]
    assert "Reference" in told[0].message
    assert "CPU" in told[0].message
    frames, exact = read_trajectory(run).frames, read_trajectory(same).frames
    assert frames.step.tolist() == exact.step.tolist()
    # The portable state holds every digit, forces come from the same network, and this integrator draws no numbers.
    assert np.array_equal(frames.positions, exact.positions)
    assert np.array_equal(frames.conserved, exact.conserved)


def test_an_exact_restart_says_so(small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(reference={"max_labels": 0}), config_dir=ROOT, out=out, progress=small.StopAt(30))
    resume(out, progress=Silent())
    database = run.open_database()
    assert [event.data["exact"] for event in database.events() if event.kind == "resume"] == [True]
    database.close()


def test_a_damaged_model_is_not_moved_on(small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start(small.configuration(reference={"max_labels": 0}), config_dir=ROOT, out=out, progress=small.StopAt(7))
    path = next(run.models.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    # The last weight, in its lowest bit.
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=f"model {path.stem[:12]} .* is damaged"):
        resume(out, progress=Silent())


@pytest.mark.parametrize("name", ["config.yaml", "structure.pdb"])
def test_another_input_is_another_run(small, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    start(small.configuration(reference={"max_labels": 0}), config_dir=ROOT, out=out, progress=small.StopAt(7))
    (out / name).write_text((out / name).read_text() + "\n")
    with pytest.raises(RunDirectoryError, match=f"{name} is not what the run began with"):
        resume(out, progress=Silent())
