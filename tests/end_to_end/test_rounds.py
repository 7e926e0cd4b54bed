"""`qmml learn` and `qmml controls`: several runs in one folder, each from where the first stood at step 0."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from qmml_md.cli import main
from qmml_md.config import Audit
from qmml_md.config_file import dump_config, load_config
from qmml_md.engine.checkpoint import read_checkpoint
from qmml_md.engine.progress import Silent
from qmml_md.engine.rounds import Standing, again, carry_out, labels_of, standing
from qmml_md.records.database import RunDatabase
from qmml_md.records.rows import LabelRow
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.reference.store import LabelStore

STEPS, LABELS = 8, 2


@pytest.fixture(scope="module")
def configure(small):
    """Writes a configuration of 8 steps with a label every 4; every second trigger is held out."""

    def write(folder: Path, **changes: dict) -> Path:
        plain = {
            "dynamics": {"steps": STEPS, "equilibration_steps": 5},
            "region": {"check_every_steps": 4},
            "reference": {"max_labels": LABELS},
            "learning": {"hold_out_every": 2, "max_epochs": 40},
            "output": {"frame_every_steps": 2, "commit_every_steps": 4},
        }
        config = small.configuration(**{name: {**values, **changes.get(name, {})} for name, values in plain.items()})
        audit = Audit(**{"force_rmse_eV_per_A": 1e-12, **changes.get("audit", {})})
        path = folder / "config.yaml"
        path.write_text(dump_config(config.model_copy(update={"audit": audit})))
        return path

    return write


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module", autouse=True)
def without_pages() -> Iterator[None]:
    """Drawing the report takes half of the time here, and other tests look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qmml_md.analysis.report.page.write_report", lambda run: run.audit / "report.html")
        yield


@pytest.fixture(scope="module")
def series(configure, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two rounds; an audit tolerance below rounding lets none pass."""
    folder = tmp_path_factory.mktemp("series")
    config = configure(folder)
    code = main(["learn", str(config), "--rounds", "2", "--out", str(folder / "out")])
    return SimpleNamespace(config=config, out=folder / "out", code=code)


def rows_of(folder: Path) -> list[LabelRow]:
    database = RunDirectory(folder).open_database()
    try:
        return database.labels()
    finally:
        database.close()


def summary_of(folder: Path, name: str = "rounds.json") -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_a_round_begins_on_the_final_model_where_the_first_began(series) -> None:
    assert series.code == 1
    rounds = summary_of(series.out)["rounds"]
    assert [each["number"] for each in rounds] == [1, 2]
    first, second = (each["summary"] for each in rounds)
    assert second["first_model"] == first["final_model"]
    assert load_config(series.out / "round-02" / "config.yaml").ensemble.weights.endswith(
        f"{first['final_model']}.safetensors"
    )
    one, two = (read_trajectory(RunDirectory(series.out / f"round-0{n}")).frames for n in (1, 2))
    for name in ("positions", "velocities", "box"):
        assert getattr(one, name)[0].tobytes() == getattr(two, name)[0].tobytes(), name
    assert two.step[-1] == STEPS


def test_labels_are_replayed_and_not_paid_again(series) -> None:
    first, second = series.out / "round-01", series.out / "round-02"
    known = {label.key for label in LabelStore(RunDirectory(first).labels).all()}
    assert len(known) == LABELS
    assert known <= {label.key for label in LabelStore(RunDirectory(second).labels).all()}
    paid = [row.key for folder in (first, second) for row in rows_of(folder) if not row.data["reused"]]
    assert len(paid) == len(set(paid))
    rows = [each["summary"] for each in summary_of(series.out)["rounds"]]
    assert [row["replayed"] for row in rows] == [0, LABELS]
    assert sum(row["paid"] for row in rows) == len(paid)
    # Each round may compute max_labels on top of what it knows, and the scores are of new labels only.
    assert rows[1]["labels"] <= LABELS
    assert {row.key for row in rows_of(second)} - known == set(paid) - known


def test_what_was_held_out_stays_out(series) -> None:
    first, second = (labels_of(series.out / f"round-0{n}") for n in (1, 2))
    assert first[1]
    assert set(first[1]) <= set(second[1])
    assert not set(first[1]) & set(second[0])
    checkpoint = RunDirectory(series.out / "round-02").open_database()
    number = checkpoint.last_checkpoint().id
    checkpoint.close()
    state = read_checkpoint(RunDirectory(series.out / "round-02").checkpoint(number)).state
    assert not set(first[1]) & set(state["label_keys"])


def test_a_finished_series_is_not_run_again(series, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in series.out.rglob("*.h5")}
    assert main(["learn", str(series.config), "--rounds", "2", "--out", str(series.out)]) == series.code
    text = capsys.readouterr().out
    assert text.count("finished before") == 2
    assert "the audit did not pass within 2 rounds" in text
    assert {p: p.stat().st_mtime_ns for p in series.out.rglob("*.h5")} == before


def test_an_interrupted_round_is_resumed(series, small, tmp_path: Path, talkative: None) -> None:
    """Killed before the first commit, stopped in the middle, resumed: the same round as without all that."""
    folder = tmp_path / "round-02"
    # What a kill leaves while a run minimises.
    RunDirectory(folder).create()
    RunDatabase(folder / "run.db", create=True).close()
    assert standing(folder) is Standing.TO_DO
    config, base, origin = again(series.out / "round-01", LABELS)
    assert config.reference.max_labels == 2 * LABELS
    carry_out(config, base, folder, progress=small.StopAt(5), origin=origin)
    assert standing(folder) is Standing.INTERRUPTED
    run = carry_out(config, base, folder, progress=Silent(), origin=origin)
    assert standing(folder) is Standing.FINISHED
    whole = small.everything(RunDirectory(series.out / "round-02"))
    assert small.everything(run) == whole
    # Sabotaged: the round before it is another run.
    assert small.everything(RunDirectory(series.out / "round-01")) != whole


def test_another_configuration_needs_another_folder(
    series, configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = configure(tmp_path, dynamics={"steps": STEPS + 1})
    assert main(["learn", str(other), "--rounds", "2", "--out", str(series.out)]) == 2
    assert "another configuration" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("data")
    assert main(["learn", str(other), "--rounds", "1", "--out", str(tmp_path / "full")]) == 2
    assert main(["learn", str(other), "--rounds", "0", "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_lost_labels_are_named(series, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "out"
    shutil.copytree(series.out, copy)
    shutil.rmtree(copy / "round-02")
    (copy / "round-01" / "labels.db").unlink()
    assert main(["learn", str(series.config), "--rounds", "2", "--out", str(copy)]) == 2
    assert "has lost the label" in capsys.readouterr().err


@pytest.mark.parametrize(("tolerance", "code", "why"), [(1e3, 0, "passed in round 1"), (1e-12, 1, "same run")])
def test_a_series_ends_when_it_passes_or_nothing_can_change(
    tolerance: float, code: int, why: str, configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without labels the model stays: the audit passes at once, or never."""
    audit = {"force_rmse_eV_per_A": tolerance, "force_maxresid_eV_per_A": 1e3, "drift_kT_per_ns_per_dof": 1e9}
    # A slope of H̃ with an error bar needs some frames.
    still = {"reference": {"max_labels": 0}, "dynamics": {"steps": 40}}
    config = configure(tmp_path, **still, audit=audit, output={"frame_every_steps": 1})
    assert main(["learn", str(config), "--rounds", "3", "--out", str(tmp_path / "out")]) == code
    assert why in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["round-01", "rounds.json"]


@pytest.fixture(scope="module")
def compared(configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration and its three controls."""
    folder = tmp_path_factory.mktemp("controls")
    config = configure(folder, dynamics={"steps": 9}, learning={"hold_out_every": 0})
    assert main(["controls", str(config), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_controls_differ_in_what_they_say(compared: Path) -> None:
    document = summary_of(compared, "controls.json")
    rows = {row["control"]: row for row in document["controls"]}
    assert list(rows) == ["none", "no_retraining", "single_member", "random_picking"]
    assert document["max_labels"] == rows["none"]["summary"]["labels"] == LABELS
    frames = [read_trajectory(RunDirectory(compared / name)).frames for name in rows if name != "single_member"]
    for name, row in rows.items():
        config = load_config(compared / name / "config.yaml")
        assert config.learning.control == name
        assert config.reference.max_labels == LABELS
        assert row["summary"]["labels"] <= LABELS
        assert row["unseen"] > 0
    assert len({f.positions[0].tobytes() + f.velocities[0].tobytes() for f in frames}) == 1
    still = rows["no_retraining"]
    assert still["summary"]["accepted"] == still["summary"]["refused"] == 0
    assert still["unseen_ratio"] == 1.0
    assert rows["none"]["summary"]["accepted"] > 0
    assert rows["none"]["unseen_ratio"] != 1.0


def test_unseen_labels_are_unseen(compared: Path) -> None:
    """The labels that a run is measured on are those of the others without its own."""
    rows = {row["control"]: row for row in summary_of(compared, "controls.json")["controls"]}
    keys = {name: {row.key for row in rows_of(compared / name)} for name in rows}
    for name, row in rows.items():
        others = set().union(*(keys[other] for other in rows if other != name))
        assert row["unseen"] == len(others - set(labels_of(compared / name)[0]))
    # Sabotaged: with its own labels among them there would be more.
    everything = set().union(*keys.values())
    assert rows["none"]["unseen"] < len(everything)


def test_controls_train_with_the_same_anchors(compared: Path) -> None:
    """What was met on the way to step 0 holds the first update: without it, one label spoils what comes."""
    pools = []
    for name in ("none", "random_picking"):
        database = RunDirectory(compared / name).open_database()
        events, number = database.events(), database.last_checkpoint().id
        database.close()
        assert "from" not in next(event for event in events if event.kind == "start").message
        pools.append(read_checkpoint(RunDirectory(compared / name).checkpoint(number)).clusters[:2])
    first, second = ([cluster.positions.tobytes() for cluster in pool] for pool in pools)
    assert first == second
    assert len(first) == 2


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"learning": {"control": "random_picking"}}, "does not learn as it stands"),
        ({"learning": {"enabled": False}}, "does not learn as it stands"),
        ({"reference": {"max_labels": 0}}, "nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    changes: dict, needle: str, configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, **changes)
    assert main(["controls", str(config), "--out", str(tmp_path / "out")]) == 2
    assert needle in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
