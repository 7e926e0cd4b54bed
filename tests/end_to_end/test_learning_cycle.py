"""What calls for labels, which are taken, what is held out, and what becomes of a model that was refused."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Kind, Status
from qmml_md.config import Config
from qmml_md.engine import learner
from qmml_md.engine.checkpoint import read_checkpoint
from qmml_md.engine.experience import Experience, sample_of, thresholds
from qmml_md.engine.learner import Learner
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.learning.calibration import fit_calibration
from qmml_md.learning.gate import cluster_forces
from qmml_md.learning.training_set import bootstrap as draw
from qmml_md.records.rows import Event, LabelRow
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.reference.store import LabelStore

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("talkative")


def waters(small, two_waters: str, **changes: dict) -> Config:
    """Two waters, several labels at each trigger, everything that adapts switched on."""
    plain: dict[str, dict] = {
        "system": {"structure": two_waters},
        "dynamics": {"steps": 40, "equilibration_steps": 4},
        "region": {
            "check_every_steps": 8, "labels_per_trigger": 3, "adapt_interval": True, "shortest_check_steps": 4,
            "max_qm_atoms": 3, "buffer_A": 0.0,
        },
        "reference": {"max_labels": 9},
        "learning": {"hold_out_every": 2, "max_epochs": 30, "anchor_frames": 8},
        "output": {"frame_every_steps": 2, "commit_every_steps": 8},
    }  # fmt: skip
    for section, values in changes.items():
        plain[section] = {**plain[section], **values}
    return small.configuration(**plain)


def go(config: Config, out: Path) -> RunDirectory:
    return start(config, config_dir=ROOT, out=out, progress=Silent())


def told(run: RunDirectory) -> tuple[list[LabelRow], list[Event]]:
    database = run.open_database()
    try:
        return database.labels(), database.events()
    finally:
        database.close()


def triggers(rows: list[LabelRow]) -> list[list[LabelRow]]:
    """The labels of each trigger."""
    return [list(group) for _, group in groupby(rows, key=lambda row: row.data["looked_at"])]


@pytest.fixture(scope="module")
def busy(small, two_waters: str, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with everything switched on that was never interrupted."""
    return go(waters(small, two_waters), tmp_path_factory.mktemp("busy") / "run")


def strays(rows: list[LabelRow], looked: list[int], stored: list[int]) -> list[int]:
    """Steps of labels that are not of a stored frame of the stretch before their look."""
    before = {step: ([-1, *looked])[i] for i, step in enumerate(looked)}
    return [
        row.step
        for row in rows
        if row.step not in stored or not before[row.data["looked_at"]] < row.step <= row.data["looked_at"]
    ]


def test_labels_are_chosen_over_the_stretch_just_run(small, busy: RunDirectory) -> None:
    rows, _ = told(busy)
    stored = read_trajectory(busy).frames.step.tolist()
    assert strays(rows, small.looks(busy), stored) == []
    groups = triggers(rows)
    assert max(len(group) for group in groups) == 3
    for group in groups:
        steps = [row.step for row in group]
        assert steps == sorted(steps)
        # The frame of now is among them: it is what called.
        assert steps[-1] == group[0].data["looked_at"]
    assert len(rows) == 9


def test_a_label_from_elsewhere_would_be_seen(small, busy: RunDirectory) -> None:
    rows, _ = told(busy)
    stored = read_trajectory(busy).frames.step.tolist()
    late = rows[-1]
    moved = LabelRow(key=late.key, step=2, model=late.model, region_epoch=0, data=late.data)
    assert strays([moved], small.looks(busy), stored) == [2]


def test_a_budget_leaves_the_first_label(small, two_waters: str, tmp_path: Path) -> None:
    config = waters(small, two_waters, region={"label_budget_s": 1e-3}, reference={"max_labels": 3})
    rows, _ = told(go(config, tmp_path / "run"))
    assert [len(group) for group in triggers(rows)] == [1, 1, 1]


def test_disjoint_places_of_one_frame_become_labels_of_their_own(small, two_waters: str, tmp_path: Path) -> None:
    changes = {"clusters_per_frame": 2, "labels_per_trigger": 2}
    rows, _ = told(go(waters(small, two_waters, region=changes, reference={"max_labels": 2}), tmp_path / "run"))
    # At step 0 there is no stretch: both labels are of one frame, and share no atom.
    assert [row.step for row in rows] == [0, 0]
    assert sorted(atom for row in rows for atom in row.data["parents"]) == list(range(6))


def trained_on(events: list[Event]) -> set[str]:
    return {key for event in events if event.kind.startswith("update_") for key in event.data.get("labels", ())}


def test_held_out_labels_are_never_trained_on(busy: RunDirectory) -> None:
    rows, events = told(busy)
    groups = triggers(rows)
    assert [{row.data["held_out"] for row in group} for group in groups] == [
        {number % 2 == 0} for number in range(1, len(groups) + 1)
    ]
    apart = {row.key for row in rows if row.data["held_out"]}
    assert len(apart) >= 3
    assert trained_on(events) == {row.key for row in rows} - apart
    updates = [event for event in events if event.kind.startswith("update_")]
    assert [event.step for event in updates] == [
        group[0].data["looked_at"] for group in groups if not group[0].data["held_out"]
    ]
    # They are what the gate judges by, from the first update after them on.
    assert updates[0].data["held_out_after"] is None
    assert updates[1].data["held_out_after"] > 0.0


def test_training_on_a_held_out_label_is_caught(
    small, two_waters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Learner.remember

    def careless(self, label, *, held_out: bool) -> None:
        honest(self, label, held_out=held_out)
        if held_out:
            self.labels.append(label)

    monkeypatch.setattr(Learner, "remember", careless)
    with pytest.raises(ValueError, match="held-out labels would be trained on"):
        go(waters(small, two_waters), tmp_path / "run")


@pytest.mark.parametrize("bootstrap", [True, False])
def test_each_member_weighs_the_labels_by_its_own_draw(
    small, two_waters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bootstrap: bool
) -> None:
    seen: list[tuple[int, np.ndarray | None]] = []
    honest = learner.finetune

    def overheard(start, images, anchors, settings, rng, bulk, weights, base_set, base):
        seen.append((len(images), weights))
        return honest(start, images, anchors, settings, rng, bulk, weights, base_set, base)

    monkeypatch.setattr(learner, "finetune", overheard)
    config = waters(small, two_waters, learning={"hold_out_every": 0, "bootstrap": bootstrap})
    rows, _ = told(go(config, tmp_path / "run"))
    assert [count for count, _ in seen] == np.cumsum([len(group) for group in triggers(rows)]).tolist()
    for count, drawn in seen:
        if not bootstrap:
            assert drawn is None
            continue
        assert np.array_equal(drawn, draw([row.key for row in rows[:count]], 4, config.dynamics.seed))
        assert (drawn.sum(axis=1) > 0).all()
    # Another seed would have drawn other weights.
    assert not np.array_equal(draw([row.key for row in rows], 4, 1), draw([row.key for row in rows], 4, 2))


def test_scores_are_foretold_by_the_calibration_known_before(small, two_waters: str, busy: RunDirectory) -> None:
    rows, events = told(busy)
    noted = [event for event in events if event.kind == "calibration"]
    groups = triggers(rows)
    assert len(noted) == len(groups)
    seen = []
    for group, event in zip(groups, noted, strict=True):
        known = fit_calibration(seen)
        fresh = [sample_of(row.data) for row in group]
        for row, sample in zip(group, fresh, strict=True):
            assert known.expected(sample.sigma, sample.elements).tolist() == row.data["expected"]
            assert known.bound(sample.sigma, sample.elements, sample.novelty).tolist() == row.data["bound"]
        seen += fresh
        assert fit_calibration(seen).plain() == event.data
    # A calibration that had seen the labels would have said something else.
    hindsight, last = fit_calibration(seen), sample_of(rows[-1].data)
    assert hindsight.expected(last.sigma, last.elements).tolist() != rows[-1].data["expected"]
    # What a resumed run knows is what the rows say.
    known_again = Experience(config=waters(small, two_waters))
    known_again.absorb(rows)
    assert known_again.calibration == hindsight


def test_a_target_error_sets_the_thresholds(small, two_waters: str, busy: RunDirectory) -> None:
    calibration = fit_calibration([sample_of(row.data) for row in told(busy)[0]])
    target = 3.0 * float(calibration.expected(np.array([0.1]), np.array([8]))[0])
    settings = waters(small, two_waters, region={"target_force_error_eV_per_A": target}).region
    policy = thresholds(settings, calibration)
    assert policy.enter_eV_per_A == calibration.sigma_at(target) > 0.1
    assert policy.stay_eV_per_A == pytest.approx(2.0 / 3.0 * policy.enter_eV_per_A, rel=1e-12)
    plain = waters(small, two_waters).region
    assert thresholds(plain, calibration).enter_eV_per_A == plain.enter_eV_per_A


def test_a_generous_target_asks_for_no_label(small, two_waters: str, tmp_path: Path) -> None:
    rows, _ = told(go(waters(small, two_waters, region={"target_force_error_eV_per_A": 50.0}), tmp_path / "run"))
    assert rows == []


@pytest.mark.parametrize("step", [5, 9, 17, 27])
def test_all_of_it_is_resumed_exactly(small, two_waters: str, busy: RunDirectory, tmp_path: Path, step: int) -> None:
    """Stops lie before, between and after triggers, and within stretches whose frames are chosen from later."""
    out = tmp_path / "run"
    start(waters(small, two_waters), config_dir=ROOT, out=out, progress=small.StopAt(step))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(busy)


def test_the_audit_finds_the_record_true(busy: RunDirectory) -> None:
    # The auditor shares no code with the engine. Forty steps cannot decide on a drift.
    failed = [
        c for c in audit(busy).checks if c.status == Status.FAIL and c.kind in (Kind.INTEGRITY, Kind.CONSERVATION)
    ]
    assert [f"{check.name}: {check.why}" for check in failed if check.name != "drift"] == []


def both(clusters, labels) -> list[str]:
    """Keys of labels whose geometry is among the anchors."""
    held = {(c.numbers.tobytes(), c.positions.tobytes()) for c in clusters}
    return [x.key for x in labels if (x.cluster.numbers.tobytes(), x.cluster.positions.tobytes()) in held]


def test_no_anchor_stands_where_a_label_was_taken(busy: RunDirectory) -> None:
    database = busy.open_database()
    newest = database.last_checkpoint()
    database.close()
    assert newest is not None
    clusters = read_checkpoint(busy.checkpoint(newest.id)).clusters
    labels = LabelStore(busy.labels).all()
    assert len(clusters) > 4
    assert both(clusters, labels) == []
    assert both([*clusters, labels[3].cluster], labels) == [labels[3].key]


REFUSED = {"force_rmse_eV_per_A": 1e-6, "force_maxresid_eV_per_A": 1e-6, "max_epochs": 3, "hold_out_every": 0}


def test_a_refused_candidate_is_scored_on_the_next_labels(small, two_waters: str, tmp_path: Path) -> None:
    config = waters(small, two_waters, learning=REFUSED, reference={"max_labels": 7})
    whole = go(config, tmp_path / "whole")
    rows, events = told(whole)
    refused = [event.data["model"] for event in events if event.kind == "update_refused"]
    groups = triggers(rows)
    assert len(refused) == len(groups) >= 3
    assert all(row.data["shadow"] is None for row in groups[0])
    for number, group in enumerate(groups[1:]):
        assert {row.data["shadow"]["model"] for row in group} == {refused[number]}
    # Only the last one is kept, apart from the models that moved atoms; it is scored again here from its file.
    assert {path.stem for path in (whole.root / "refused").iterdir()} == {refused[-1]}
    assert len(list(whole.models.glob("*.safetensors"))) == 1
    out = tmp_path / "parts"
    start(config, config_dir=ROOT, out=out, progress=small.StopAt(groups[1][0].data["looked_at"] - 1))
    held = weights.load(str(out / "refused" / f"{refused[0]}.safetensors"))
    row = groups[1][0]
    label = LabelStore(whole.labels).get(row.key)
    wrong = cluster_forces(held, label.cluster) - label.forces
    assert np.sqrt((wrong**2).mean()) == pytest.approx(row.data["shadow"]["force_rmse"], rel=1e-6)
    # The starting model is another one, and its score another number.
    assert row.data["shadow"]["force_rmse"] != pytest.approx(row.data["force_rmse_start"], rel=1e-6)
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(whole)
