"""Labels of a run that is killed between them, or whose labels are wrong."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qmml_md.config import Config
from qmml_md.config_file import dump_config
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.records.rows import Event
from qmml_md.records.run_directory import RunDirectory
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.store import LabelStore

ROOT = Path(__file__).resolve().parents[2]
#: Starts a run and kills it where label number N has just been stored.
KILLED = """
import os, signal, sys
from pathlib import Path
from qmml_md.config_file import load_config
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.reference.store import LabelStore
put, left = LabelStore.put, int(sys.argv[3])
def killing(self, label):
    global left
    put(self, label)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
LabelStore.put = killing
path = Path(sys.argv[1])
start(load_config(path), config_dir=path.parent, out=Path(sys.argv[2]), progress=Silent())
"""


def several(small: SimpleNamespace, isolate: bool = True) -> Config:
    """Three labels at a time, which start from one another."""
    return small.configuration(
        dynamics={"steps": 40},
        region={"labels_per_trigger": 3, "label_every_checks": 1},
        reference={"max_labels": 6, "isolate": isolate},
        learning={"max_epochs": 20},
        output={"frame_every_steps": 5, "commit_every_steps": 40},
    )


@pytest.fixture(scope="module")
def whole(small: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that was never killed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return start(several(small), config_dir=ROOT, out=out, progress=Silent())


def events(run: RunDirectory, kind: str) -> list[Event]:
    database = run.open_database()
    try:
        return [event for event in database.events() if event.kind == kind]
    finally:
        database.close()


def rungs(run: RunDirectory) -> list[str]:
    database = run.open_database()
    try:
        return [row.data["rung"] for row in database.labels()]
    finally:
        database.close()


def test_labels_of_one_trigger_start_from_one_another(whole: RunDirectory) -> None:
    assert "guess" in rungs(whole)
    assert not any((whole.root / "pending").iterdir())


def test_where_labels_are_computed_changes_nothing(small: SimpleNamespace, whole: RunDirectory, tmp_path: Path) -> None:
    here = start(several(small, isolate=False), config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert small.everything(here) == small.everything(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_is_killed_between_two_labels_is_the_same_run(
    small: SimpleNamespace, whole: RunDirectory, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(several(small)))
    done = subprocess.run([sys.executable, "-P", "-c", KILLED, str(config), str(out), str(number)], check=False)
    assert done.returncode == -signal.SIGKILL
    run = RunDirectory(out)
    before = {label.key: label.wall_time for label in LabelStore(run.labels).all()}
    assert len(before) == number
    resume(out, progress=Silent())
    # All that they have in common, and that the run paid for each of them: `reused` is among the scores.
    assert small.everything(run) == small.everything(whole)
    after = {label.key: label.wall_time for label in LabelStore(run.labels).all()}
    assert {key: after[key] for key in before} == before
    assert len(after) == len(LabelStore(whole.labels).all())
    assert not any((out / "pending").iterdir())


def test_wrong_labels_are_booked_and_kept_apart_and_never_trained_on(
    small: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = PyscfReference.compute

    def turned(self, cluster, start):
        label, density = true(self, cluster, start)
        return replace(label, forces=np.roll(label.forces, 1, axis=0)), density

    monkeypatch.setattr(PyscfReference, "compute", turned)
    run = start(several(small, isolate=False), config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    failed = events(run, "label_failed")
    assert failed
    store = LabelStore(run.labels)
    assert len(store) == 0
    for event in failed:
        assert "turn it" in event.data["quarantined"]
        assert store.quarantined(event.data["key"]) == event.data["quarantined"]
    database = run.open_database()
    try:
        assert database.labels() == []
        assert len(database.models()) == 1
    finally:
        database.close()


def test_a_process_for_labels_that_is_killed_is_replaced_and_the_run_is_the_same(
    small: SimpleNamespace, whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qmml_md.reference.process import Process

    true, asked = Process.ask, []

    def ask(self, request, patience):
        if request.kind == "label":
            asked.append(request.id)
            if len(asked) == 2:
                os.kill(self.pid, signal.SIGKILL)
        return true(self, request, patience)

    monkeypatch.setattr(Process, "ask", ask)
    run = start(several(small), config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert small.everything(run) == small.everything(whole)
    (event,) = events(run, "label_retried")
    assert "SIGKILL" in event.message
