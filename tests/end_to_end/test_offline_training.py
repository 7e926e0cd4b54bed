"""`qmml train`: weights from the labels of a finished run, which itself is only read. Tiny ensemble, tiny basis."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md.cli import main
from qmml_md.config_file import dump_config, load_config
from qmml_md.engine import learner, offline
from qmml_md.engine.inputs import read_simulated
from qmml_md.engine.journal import Timings
from qmml_md.engine.offline import read_material, score, train_offline
from qmml_md.ensemble import weights
from qmml_md.errors import MixedLabels, RunDirectoryError
from qmml_md.records.run_directory import RunDirectory
from qmml_md.reference.label import Embedded, Label, label_key
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.store import LabelStore
from qmml_md.region.cluster import Surroundings


@pytest.fixture(scope="module", autouse=True)
def the_gate_of_the_run() -> Iterator[None]:
    """The tests of this folder judge runs leniently; what is trained outside is judged alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offline, "judge", learner.judge)
        # Drawing the report of the run takes most of its time, and other tests look at it.
        patch.setattr("qmml_md.analysis.report.page.write_report", lambda run: run.audit / "report.html")
        yield


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three triggers of one label each; every second is held out."""
    folder = tmp_path_factory.mktemp("learned")
    config = small.configuration(
        dynamics={"steps": 16, "equilibration_steps": 10},
        region={"check_every_steps": 4},
        reference={"max_labels": 3},
        learning={"hold_out_every": 2, "max_epochs": 60},
        output={"frame_every_steps": 4, "commit_every_steps": 8},
    )
    (folder / "config.yaml").write_text(dump_config(config))
    assert main(["run", str(folder / "config.yaml")]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file of a run that holds its record."""
    # SQLite makes and removes its own helpers when a database is only read.
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_weights_are_written_and_a_configuration_can_name_them(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = contents(finished), tmp_path / "new"
    assert main(["train", str(finished), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "the gate: accepted" in text
    assert "2 trained on" in text
    assert "1 held out" in text
    assert contents(finished) == before
    summary = json.loads((out / "training.json").read_text())
    assert summary["accepted"]
    assert summary["written"]
    path = out / "trained.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == summary["model"]
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == summary["model"]
    config = tmp_path / "again.yaml"
    config.write_text(dump_config(load_config(finished / "config.yaml")).replace(_weights(finished), str(path)))
    shutil.copy(finished / "structure.pdb", tmp_path)
    assert main(["validate", str(config), "--dry-run"]) == 0
    # The scores of the summary are those of the file that was written.
    material = read_material(finished)
    again = score(weights.load(str(path)), material.labels)
    assert again.force_rmse == pytest.approx(summary["scores"]["trained"]["new"]["force_rmse"], rel=1e-6)
    assert summary["scores"]["trained"]["new"]["force_rmse"] < summary["scores"]["trained"]["start"]["force_rmse"]


def _weights(run: Path) -> str:
    return load_config(run / "config.yaml").ensemble.weights


def test_refused_weights_are_not_written(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One optimiser step does not reach the tolerance."""
    before = contents(finished)
    assert main(["train", str(finished), "--out", str(tmp_path / "a"), "--epochs", "1"]) == 1
    text = capsys.readouterr().out
    assert "the gate: refused" in text
    assert "on the labels exceeds 0.3" in text
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["training.json"]
    summary = json.loads((tmp_path / "a" / "training.json").read_text())
    assert not summary["written"]
    assert summary["reasons"]
    assert main(["train", str(finished), "--out", str(tmp_path / "b"), "--epochs", "1", "--even-if-refused"]) == 1
    assert (tmp_path / "b" / "trained.safetensors").exists()
    assert contents(finished) == before


def test_held_out_labels_are_never_trained_on(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training is given are the labels of the run without those that it held out."""
    seen: list[int] = []
    true = offline.finetune

    def spying(start, images, *rest):
        seen.extend(hash(image.forces.numpy().tobytes()) for image in images)
        return true(start, images, *rest)

    monkeypatch.setattr(offline, "finetune", spying)
    material = read_material(finished)
    database = material.run.open_database()
    held = {row.key for row in database.labels() if row.data["held_out"]}
    database.close()
    assert {label.key for label in material.held_out} == held
    assert held
    train_offline(material, epochs=5)
    labels = {x.key: hash(x.forces.astype(np.float32).tobytes()) for x in LabelStore(material.run.labels).all()}
    assert set(seen) == {value for key, value in labels.items() if key not in held}
    # Sabotaged: a held-out label among those trained on is seen by the same comparison.
    seen.clear()
    material.labels.extend(material.held_out)
    train_offline(material, epochs=5)
    assert set(seen) != {value for key, value in labels.items() if key not in held}


def embedded_twin(label: Label) -> Label:
    """The same numbers as of a cluster among charges."""
    own = np.zeros(label.cluster.size)
    around = Surroundings(positions=np.full((1, 3), 9.0), charges=np.ones(1), parent=np.array([99]), own=own)
    level = replace(label.level, embedding="electrostatic")
    cluster = replace(label.cluster, surroundings=around)
    embedding = Embedded(energy=label.energy, forces=label.forces, on_charges=np.zeros((1, 3)))
    return replace(label, cluster=cluster, level=level, key=label_key(cluster, level), embedding=embedding)


@pytest.mark.parametrize("group", ["labels", "held_out"])
def test_embedded_and_unembedded_labels_are_not_trained_on_together(finished: Path, group: str) -> None:
    material = read_material(finished)
    train_offline(material, epochs=1)
    labels = getattr(material, group)
    labels[0] = embedded_twin(labels[0])
    with pytest.raises(MixedLabels, match="embedding electrostatic and mechanical"):
        train_offline(material, epochs=1)


def test_a_run_refuses_labels_that_are_embedded_otherwise(finished: Path) -> None:
    """Its learner takes labels from a store by their keys, as it does when a run goes on or begins from another one."""
    material = read_material(finished)
    run, config, store = material.run, material.config, LabelStore(material.run.labels)
    one = store.all()[0]
    two = embedded_twin(one)
    store.put(two)
    made = learner.Learner(
        config,
        run,
        material.base,
        material.base_id,
        lambda: PyscfReference(config.reference, 1),
        Timings(),
        np.random.default_rng(1),
        read_simulated(config, run.root).molecules,
    )
    made.recall([one.key])
    with pytest.raises(MixedLabels, match="embedding electrostatic and mechanical"):
        made.recall([two.key])
    assert made.known == 1


def test_training_is_the_same_each_time_and_begins_where_it_is_told(finished: Path) -> None:
    material = read_material(finished)
    first, second = (train_offline(material, epochs=5) for _ in range(2))
    assert first.model_id == second.model_id
    last = train_offline(material, epochs=5, from_final=True)
    assert last.model_id != first.model_id
    # Five small steps lead not far from where training began.
    assert last.fit.curve[0] != first.fit.curve[0]


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--out", "{run}/models/x"], "inside the run"),
        (["--out", "{run}/.."], "exists already"),
    ],
)
def test_wrong_wishes_are_named(
    finished: Path, arguments: list[str], needle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(finished), *(a.format(run=finished) for a in arguments)]) == 2
    assert needle in capsys.readouterr().err


def test_a_run_that_cannot_be_trained_from_is_named(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tmp_path)]) == 2
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (copy / "labels.db").unlink()
    assert main(["train", str(copy)]) == 2
    assert "labels.db" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    with pytest.raises(RunDirectoryError):
        offline.stored_labels(RunDirectory(finished), ["0" * 64])
