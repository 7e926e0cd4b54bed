"""Dynamics that explode: the run goes back to its last commit, learns there, and goes on; or stops cleanly."""

from pathlib import Path

import pytest

from qmml_md.analysis.record import read_record
from qmml_md.analysis.truth.ledger import ledger_problems
from qmml_md.config import Config
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.errors import DynamicsError
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.records.verify import verify

ROOT = Path(__file__).resolve().parents[2]
#: Ethanol on a surface so many times too steep explodes after some ten steps of 1 fs.
STEEPNESS = 8.0


@pytest.fixture(scope="module")
def steep(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of that surface."""
    ensemble = weights.load(str(ROOT / "tests" / "data" / "ani_mini.safetensors"))
    for network in ensemble.networks:
        network.last.weight.data.mul_(STEEPNESS)
    path = tmp_path_factory.mktemp("steep") / "steep.safetensors"
    weights.save(ensemble, path)
    return str(path)


def configured(small, steep: str, **learning: object) -> Config:
    return small.configuration(
        ensemble={"weights": steep},
        dynamics={"timestep_fs": 1.0, "equilibration_steps": 0},
        # Nothing is hot: only an explosion calls for labels.
        region={"enter_eV_per_A": 1e3, "stay_eV_per_A": 1e3, "label_every_checks": 0},
        reference={"max_labels": 20},
        learning={
            "max_epochs": 400,
            "anchor_weight": 0.0,
            "max_anchor_shift_eV_per_A": 1e3,
            "max_worsening": 1e6,
            "force_maxresid_eV_per_A": 5.0,
            **learning,
        },
    )


def events(run: RunDirectory) -> list[str]:
    database = run.open_database()
    try:
        return [event.kind for event in database.events()]
    finally:
        database.close()


@pytest.fixture(scope="module")
def survivor(small, steep: str, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that explodes, and learns its way out."""
    out = tmp_path_factory.mktemp("survivor") / "run"
    return start(configured(small, steep, max_rewinds=8), config_dir=ROOT, out=out, progress=Silent())


def test_it_goes_back_learns_and_finishes(survivor: RunDirectory) -> None:
    told = events(survivor)
    explosions = told.count("explosion")
    assert explosions >= 1
    assert told.count("rewind") == explosions
    assert told.count("update_accepted") == explosions
    assert told[-1] == "finish"
    frames = read_trajectory(survivor).frames
    assert frames.step.tolist() == list(range(0, 61, 5))
    database = survivor.open_database()
    rows, discarded = database.labels(), database.segments(void=True)
    database.close()
    assert {row.data["trigger"] for row in rows} == {"explosion"}
    # Where it exploded from, and a place on the way, at each of them unless a place was known already.
    assert any(row.step > row.data["looked_at"] for row in rows)
    assert discarded


def test_its_books_close_and_all_of_it_is_whole(survivor: RunDirectory) -> None:
    # A single-precision network of this steepness gives energies to some 1e-2 kJ/mol.
    assert list(ledger_problems(read_record(survivor), 0.05)) == []
    assert [group.problems for group in verify(survivor) if not group.whole] == []


def test_the_same_run_explodes_in_the_same_way(small, steep: str, survivor: RunDirectory, tmp_path: Path) -> None:
    again = start(configured(small, steep, max_rewinds=8), config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    assert small.everything(again) == small.everything(survivor)


@pytest.mark.parametrize(
    ("learning", "message"),
    [({"enabled": False}, "does not learn"), ({"max_rewinds": 1}, "gone back to 1 times, and the models learned")],
)
def test_where_learning_does_not_help_it_stops_cleanly(
    small, steep: str, tmp_path: Path, learning: dict[str, object], message: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(DynamicsError, match=message) as caught:
        start(configured(small, steep, **learning), config_dir=ROOT, out=out, progress=Silent())
    assert "temperature" in caught.value.what
    assert "at step" in caught.value.what
    run = RunDirectory(out)
    assert events(run)[-1] == "stop"
    assert [group.problems for group in verify(run) if not group.whole] == []
    # It can be resumed, and would go the same way again.
    with pytest.raises(DynamicsError, match="exploded"):
        resume(out, progress=Silent())
    assert events(run)[-1] == "stop"
