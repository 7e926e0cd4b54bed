"""`qmml train`, `learn`, `controls` and `weights migrate`: what they say before anything runs, and what they sum up."""

import json
from pathlib import Path

import numpy as np
import pytest

from qmml_md.cli import main
from qmml_md.commands.files import read_json, write_json
from qmml_md.commands.series import bind
from qmml_md.config import Config
from qmml_md.engine.checkpoint import Checkpoint, write_checkpoint
from qmml_md.engine.offline import label_keys
from qmml_md.engine.rounds import Standing, labels_of, standing, summarise
from qmml_md.errors import ConfigError, RunDirectoryError
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.rows import CheckpointRow, Event, LabelRow, ModelRow
from qmml_md.records.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (["train"], ["learn"], ["controls"], ["weights", "migrate"])
CONFIG = Config.model_validate({"system": {"structure": "x.pdb"}})


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert f"qmml {' '.join(command)}" in capsys.readouterr().out
    assert main(["--help"] if len(command) == 1 else [command[0], "--help"]) == 0
    assert f" {command[-1]} " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"], ["learn", "x.yaml"], ["learn", "x.yaml", "--rounds", "2"], ["learn", "x.yaml", "--out", "x"],
        ["learn", "x.yaml", "--rounds", "two", "--out", "x"], ["controls", "x.yaml"], ["weights", "migrate", "ani1x"],
        ["train", "x", "--epochs", "many"],
    ],
)  # fmt: skip
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{x}"],
        ["learn", "{x}/config.yaml", "--rounds", "1", "--out", "{x}/out"],
        ["controls", "{x}/config.yaml", "--out", "{x}/out"],
        ["weights", "migrate", "ani1x", "--labels", "{x}/labels.db", "--out", "{x}/w.safetensors"],
        ["weights", "migrate", "ani1x", "--labels", "{x}/labels.db", "--out", "{x}/w.pt"],
    ],
)
def test_what_is_missing_is_named_with_a_cure(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([a.format(x=tmp_path) for a in arguments]) == 2
    text = capsys.readouterr().err
    assert "Cure:" in text
    assert "Traceback" not in text
    assert list(tmp_path.iterdir()) == []


def label_row(key: str, rmse: float, atoms: int = 3, *, reused: bool = False, held_out: bool = False) -> LabelRow:
    data = {
        "parents": list(range(atoms)), "error": [0.1] * atoms, "force_rmse": rmse, "force_rmse_start": 2 * rmse,
        "wall_time_s": 2.0, "reused": reused, "held_out": held_out,
    }  # fmt: skip
    return LabelRow(key=key, step=0, model="m0", region_epoch=1, data=data)


def recorded(folder: Path, rows: list[LabelRow], *, keys: list[str], apart: list[str], kinds: tuple[str, ...]) -> Path:
    """The database and the last checkpoint of a run that learned from ``keys``."""
    (folder / "checkpoints").mkdir(parents=True)
    run = RunDirectory(folder)
    checkpoint = Checkpoint(
        step=5, openmm=b"", openmm_xml="", state={"label_keys": keys, "held_out_keys": apart}, clusters=(),
        snapshots=np.zeros((0, 1, 3)), boxes=np.zeros((0, 3, 3)),
    )  # fmt: skip
    write_checkpoint(run.checkpoint(0), checkpoint)
    database = RunDatabase(run.database, create=True)
    events = [Event(step=0, time=0.0, kind=kind, message="") for kind in kinds]
    models = [ModelRow(id=f"m{i}", step=0, parent="", data={}) for i in range(1 + kinds.count("update_accepted"))]
    checkpoint = CheckpointRow(id=0, step=5, folder="000000", sha256="", model="m")
    database.commit(Commit(events=events, models=models, labels=rows, checkpoint=checkpoint))
    database.close()
    return folder


def test_a_round_is_summed_up(tmp_path: Path) -> None:
    rows = [label_row("a", 0.3, atoms=1), label_row("b", 0.1, atoms=3, held_out=True), label_row("c", 9.0, reused=True)]
    kinds = ("start", "update_accepted", "update_refused", "update_refused", "finish")
    folder = recorded(tmp_path / "run", rows, keys=["c", "a"], apart=["b"], kinds=kinds)
    found = summarise(folder, known=["c"])
    assert (found.labels, found.held_out, found.replayed, found.paid, found.paid_s) == (2, 1, 1, 2, 4.0)
    assert (found.accepted, found.refused, found.first_model, found.final_model) == (1, 2, "m0", "m1")
    # Pooled over force components: 1 atom at 0.3 and 3 atoms at 0.1.
    assert found.force_rmse == pytest.approx(np.sqrt((1 * 0.09 + 3 * 0.01) / 4), rel=1e-12)
    assert found.force_rmse_start == pytest.approx(2 * found.force_rmse, rel=1e-12)
    assert not found.idle
    # Sabotaged: labels that were known before would pass for unseen ones.
    assert summarise(folder).force_rmse != found.force_rmse
    # Sabotaged: a mean over labels is another number.
    assert found.force_rmse != pytest.approx(np.sqrt((0.09 + 0.01) / 2), rel=0.05)


@pytest.mark.parametrize(
    ("rows", "kinds", "idle"),
    [
        ([], (), True),
        ([label_row("a", 0.1, reused=True)], (), True),
        ([label_row("a", 0.1)], ("update_refused",), False),
        ([], ("update_accepted",), False),
    ],
)
def test_a_round_is_idle_that_paid_nothing_and_kept_its_model(
    rows: list[LabelRow], kinds: tuple[str, ...], idle: bool, tmp_path: Path
) -> None:
    assert summarise(recorded(tmp_path / "run", rows, keys=[], apart=[], kinds=kinds)).idle == idle


def test_how_far_a_run_is(tmp_path: Path) -> None:
    assert standing(tmp_path / "none") is Standing.TO_DO
    (tmp_path / "begun").mkdir()
    RunDatabase(tmp_path / "begun" / "run.db", create=True).close()
    assert standing(tmp_path / "begun") is Standing.TO_DO
    assert standing(recorded(tmp_path / "a", [], keys=[], apart=[], kinds=("start", "stop"))) is Standing.INTERRUPTED
    assert standing(recorded(tmp_path / "b", [], keys=[], apart=[], kinds=("start", "finish"))) is Standing.FINISHED


def test_labels_of_earlier_rounds_are_known_and_held_out_ones_stay_out(tmp_path: Path) -> None:
    """Labels that a run only recalled stand in its checkpoint; what its rows or its checkpoint hold out stays out."""
    rows = [label_row("c", 0.1), label_row("d", 0.1, held_out=True)]
    folder = recorded(tmp_path / "run", rows, keys=["a", "c"], apart=["b"], kinds=())
    trained, apart = labels_of(folder)
    assert trained == ["a", "c"]
    assert sorted(apart) == ["b", "d"]
    # A record that contradicts itself trains on less, not on more.
    checkpoint = Checkpoint(
        step=0, openmm=b"", openmm_xml="", state={"label_keys": ["d", "a"]}, clusters=(), snapshots=np.zeros((0, 1, 3)),
        boxes=np.zeros((0, 3, 3)),
    )  # fmt: skip
    assert label_keys(checkpoint, rows) == (["a", "c"], ["d"])


def test_json_is_whole_and_plain(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [float("nan"), (1, 2.5)], "b": {"c": float("inf")}, "d": "å"})
    assert read_json(path) == {"a": [None, [1, 2.5]], "b": {"c": None}, "d": "å"}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    for content in ("[1]", "{"):
        path.write_text(content)
        with pytest.raises(RunDirectoryError):
            read_json(path)


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    out = tmp_path / "out"
    head = bind(out, "s.json", CONFIG)
    assert bind(out, "s.json", CONFIG) == head
    other = CONFIG.model_copy(update={"title": "another"})
    with pytest.raises(ConfigError, match="another configuration"):
        bind(out, "s.json", other)
    # A key that came with a later version of this program has its default.
    plain = json.loads((out / "s.json").read_text())
    del plain["config"]["region"]["buffer_A"]
    write_json(out / "s.json", plain)
    assert bind(out, "s.json", CONFIG) == head
    write_json(out / "s.json", {"config": {"system": {"no_such_key": 1}}})
    with pytest.raises(RunDirectoryError, match="no configuration of this version"):
        bind(out, "s.json", CONFIG)


def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(RunDirectoryError, match="not empty"):
        bind(tmp_path, "s.json", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]
