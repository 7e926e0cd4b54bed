"""When a run looks, when it goes back, when learning sleeps and wakes up, and what periodic labels are for."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from qmml_md.config import Config
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.engine.rhythm import rest, stir
from qmml_md.engine.state import Rhythm, State
from qmml_md.records.rows import Event
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("talkative")

COLD = {"enter_eV_per_A": 1e3, "stay_eV_per_A": 1e3}


def waters(small, two_waters: str, **changes: dict) -> Config:
    """Two waters, one label at each trigger, looks at every 8 steps."""
    plain: dict[str, dict] = {
        "system": {"structure": two_waters},
        "dynamics": {"steps": 48, "equilibration_steps": 4},
        "region": {"check_every_steps": 8, "max_qm_atoms": 3, "buffer_A": 0.0},
        "reference": {"max_labels": 6},
        "learning": {"max_epochs": 30, "anchor_frames": 8},
        "output": {"frame_every_steps": 4, "commit_every_steps": 4},
    }
    for section, values in changes.items():
        plain[section] = {**plain[section], **values}
    return small.configuration(**plain)


def go(config: Config, out: Path) -> RunDirectory:
    return start(config, config_dir=ROOT, out=out, progress=Silent())


def told(run: RunDirectory, *kinds: str) -> list[Event]:
    database = run.open_database()
    try:
        return [event for event in database.events() if event.kind in kinds]
    finally:
        database.close()


def labels(run: RunDirectory) -> list:
    database = run.open_database()
    try:
        return database.labels()
    finally:
        database.close()


def hottest(run: RunDirectory) -> dict[int, float]:
    """Largest disagreement at each look, eV/Å."""
    frames = read_trajectory(run).frames
    seen = np.isfinite(frames.disagreement).all(axis=1)
    return dict(zip(frames.step[seen].tolist(), frames.disagreement[seen].max(axis=1).tolist(), strict=True))


@pytest.fixture(scope="module")
def cold(small, two_waters: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """What a run that never labels sees at every step: the largest disagreement, eV/Å."""
    config = waters(small, two_waters, region={**COLD, "check_every_steps": 1}, reference={"max_labels": 0})
    return hottest(go(config, tmp_path_factory.mktemp("cold") / "run"))


def test_beyond_the_trust_window_the_run_goes_back(small, two_waters: str, cold, tmp_path: Path) -> None:
    # Above every disagreement of the first look, below that of a later one.
    stop = float(np.mean([cold[0], max(cold[step] for step in (8, 16, 24))]))
    assert cold[0] < stop
    config = waters(
        small, two_waters, region={**COLD, "enter_eV_per_A": stop, "stay_eV_per_A": stop, "stop_eV_per_A": stop},
        learning={"hold_out_every": 1, "update_policy": "abrupt"},
    )  # fmt: skip
    run = go(config, tmp_path / "run")
    back = told(run, "rewind")
    rows = labels(run)
    first = min(step for step in (8, 16, 24) if cold[step] >= stop)
    # The last commit before the look is the good one: four steps earlier. The policy says `abrupt`, and every trigger
    # but those of the trust window would be held out.
    assert (back[0].data["from_step"], back[0].data["to_step"]) == (first, first - 4)
    assert rows[0].data["trigger"] == "stop"
    assert not rows[0].data["held_out"]
    times = [(event.data["from_step"], event.data["to_step"]) for event in back]
    # Not more often to one place than learning.max_rewinds.
    assert max(times.count(x) for x in times) <= 2
    frames = read_trajectory(run).frames
    assert (np.diff(frames.step) > 0).all()
    out = tmp_path / "parts"
    start(config, config_dir=ROOT, out=out, progress=small.StopAt(first + 3))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(run)


def test_a_refused_update_is_no_reason_to_go_back(small, two_waters: str, cold, tmp_path: Path) -> None:
    stop = float(np.mean([cold[0], max(cold[step] for step in (8, 16, 24))]))
    config = waters(
        small, two_waters, region={"enter_eV_per_A": stop, "stay_eV_per_A": stop, "stop_eV_per_A": stop},
        reference={"max_labels": 1}, learning={"force_rmse_eV_per_A": 1e-6, "max_epochs": 2},
    )  # fmt: skip
    run = go(config, tmp_path / "run")
    assert told(run, "rewind") == []
    (event,) = told(run, "trust_window")
    assert "the update is refused" in event.message
    assert event.data["largest_sigma_eV_per_A"] >= stop
    assert [e.kind for e in told(run, "update_refused", "finish")] == ["update_refused", "finish"]


def off_beat(looked: list[int], changes: dict[int, int], first: int) -> list[int]:
    """Looks that do not come one interval after the look before; ``changes`` are intervals by step."""
    interval, found = first, []
    for before, after in pairwise(looked):
        interval = changes.get(before, interval)
        if after - before != interval:
            found.append(after)
    return found


def test_looks_follow_the_interval(small, two_waters: str, tmp_path: Path) -> None:
    config = waters(
        small, two_waters, region={"adapt_interval": True, "labels_per_trigger": 3, "shortest_check_steps": 3},
        reference={"max_labels": 15},
    )  # fmt: skip
    run = go(config, tmp_path / "run")
    changes = {event.step: event.data["interval"] for event in told(run, "interval")}
    assert changes
    assert all(3 <= interval <= 32 for interval in changes.values())
    assert off_beat(small.looks(run), changes, 8) == []
    # Each label says which interval held when it was taken.
    assert {row.data["interval"] for row in labels(run)} <= {8, *changes.values()}
    # A run that looked at the old pace would be seen.
    assert off_beat(list(range(0, 49, 8)), changes, 8)


def test_without_adapting_the_interval_stays(small, two_waters: str, tmp_path: Path) -> None:
    run = go(waters(small, two_waters, region={"labels_per_trigger": 3}), tmp_path / "run")
    assert told(run, "interval") == []
    assert small.looks(run) == list(range(0, 49, 8))


def test_learning_sleeps_after_quiet_looks(small, two_waters: str, tmp_path: Path) -> None:
    region = {**COLD, "adapt_interval": True, "check_every_steps": 4, "label_every_checks": 2}
    learning = {"sleep_after_checks": 3, "rewind_above_eV_per_A": 10.0}
    run = go(waters(small, two_waters, region=region, learning=learning), tmp_path / "run")
    (sleep,) = told(run, "sleep")
    assert told(run, "wake") == []
    # Asleep no periodic label is taken.
    assert [(row.data["looked_at"], row.data["trigger"]) for row in labels(run)] == [(4, "periodic")]
    looked = small.looks(run)
    after = [step for step in looked if step >= sleep.step]
    assert off_beat(after, {}, 16) == []
    assert off_beat([step for step in looked if step <= sleep.step], {}, 4) == []


def test_a_label_that_errs_keeps_learning_awake(small, two_waters: str, tmp_path: Path) -> None:
    """Members can agree and be wrong: a periodic label finds that out, and the look was not a quiet one."""
    region = {**COLD, "check_every_steps": 4, "label_every_checks": 2}
    learning = {"sleep_after_checks": 3, "rewind_above_eV_per_A": 1e-3}
    config = waters(small, two_waters, region=region, learning=learning, dynamics={"steps": 24})
    run = go(config, tmp_path / "run")
    assert told(run, "sleep") == []
    assert [row.data["looked_at"] for row in labels(run)] == [4, 12, 20]


def test_a_hot_atom_wakes_learning_up(small, two_waters: str, cold, tmp_path: Path) -> None:
    # Two quiet looks at 0 and 1, asleep from there on: the next look is at 4.
    enter = float(np.mean([max(cold[0], cold[1]), cold[4]]))
    assert max(cold[0], cold[1]) < enter < cold[4]
    region = {
        "enter_eV_per_A": enter, "stay_eV_per_A": enter, "adapt_interval": True, "check_every_steps": 1,
        "longest_check_steps": 3,
    }  # fmt: skip
    config = waters(small, two_waters, region=region, learning={"sleep_after_checks": 2})
    run = go(config, tmp_path / "run")
    sleep, wake = told(run, "sleep", "wake")[:2]
    assert (sleep.kind, sleep.step) == ("sleep", 1)
    assert (wake.kind, wake.step) == ("wake", 4)
    assert labels(run)[0].data["looked_at"] == wake.step
    out = tmp_path / "parts"
    start(config, config_dir=ROOT, out=out, progress=small.StopAt(3))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(run)


def test_periodic_labels_come_at_every_so_many_looks(small, two_waters: str, tmp_path: Path) -> None:
    config = waters(small, two_waters, region={**COLD, "label_every_checks": 2}, learning={"sleep_after_checks": 0})
    rows = labels(go(config, tmp_path / "run"))
    assert [row.data["looked_at"] for row in rows] == [8, 24, 40]
    assert {row.data["trigger"] for row in rows} == {"periodic"}


@pytest.mark.parametrize(
    ("region", "blame"),
    [
        ({"stop_eV_per_A": 0.01}, "stop_eV_per_A must not be below enter_eV_per_A"),
        ({"adapt_interval": True, "shortest_check_steps": 21}, "must lie between"),
        ({"adapt_interval": True, "longest_check_steps": 19}, "must lie between"),
    ],
)
def test_a_rhythm_that_contradicts_itself_is_refused(small, region: dict, blame: str) -> None:
    with pytest.raises(ValueError, match=blame):
        small.configuration(region=region)
    # Thresholds that follow a target are not known beforehand.
    small.configuration(region={"stop_eV_per_A": 0.01, "target_force_error_eV_per_A": 0.1})


def test_nobody_sleeps_who_may_not_learn(small) -> None:
    """Without labels left there is nothing to wake up for: looks go on as before."""
    heard = []

    class Listener:
        config = small.configuration(learning={"sleep_after_checks": 1})

        def note(self, _state, kind: str, *_rest) -> None:
            heard.append(kind)

    state = State(model_id="", rhythm=Rhythm(interval=5))
    stir(Listener(), state, hot=False)
    rest(Listener(), state, labels_left=0)
    assert heard == []
    rest(Listener(), state, labels_left=1)
    assert heard == ["sleep"]
    stir(Listener(), state, hot=True)
    rest(Listener(), state, labels_left=1)
    assert heard == ["sleep", "wake"]
