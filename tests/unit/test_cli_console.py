"""What a person sees of a run, on a terminal and in files."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from qmml_md.console import LINE_EVERY_S, ConsoleProgress, counting, duration, plain_line
from qmml_md.engine.progress import Progress, Status
from qmml_md.records.rows import Event

STATUS = Status(
    stage="md", step=1200, steps=2000, time_ps=0.6, temperature_K=298.34, drift_kj_per_mol=-0.0123, core_atoms=3,
    region_atoms=18, labels=4, accepted=2, refused=1, ns_per_day=0.4321, eta_s=185.0,
)  # fmt: skip
EVENT = Event(step=40, time=0.02, kind="label", message="18 atoms [water], prequential error 0.07 eV/Å")


class Clock:
    """Seconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def paper(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, _environ={})


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "—"), (0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_duration_in_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_a_plain_line_carries_every_number_with_its_unit() -> None:
    line = plain_line(STATUS)
    for part in ("1200/2000", "0.6000 ps", "dynamics", "298.3 K", "-0.0123 kJ/mol", "3 core / 18 atoms", "labels 4",
                 "2 accepted / 1 refused", "0.4321 ns/day", "3 min 05 s"):  # fmt: skip
        assert part in line
    assert "\n" not in line


def test_lines_are_spaced_and_events_are_not(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    clock, console = Clock(), paper(terminal=False)
    with ConsoleProgress(tmp_path / "run.log", console, clock=clock) as progress:
        watcher: Progress = progress
        watcher.status(STATUS)
        watcher.status(STATUS)
        watcher.event(EVENT)
        clock.now = LINE_EVERY_S
        watcher.status(STATUS)
    lines = (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()
    assert [("step 1200" in line, EVENT.message in line) for line in lines] == [
        (True, False), (False, True), (True, False)
    ]  # fmt: skip
    assert written(console).count("step 1200/2000") == 2
    assert EVENT.message in written(console)  # its brackets are not taken for markup


def test_log_waits_until_the_run_exists(tmp_path: Path) -> None:
    """The engine refuses a folder that is not empty, so the log must not be the first file in it."""
    run = tmp_path / "run"
    run.mkdir()
    with ConsoleProgress(run / "run.log", paper(terminal=False), clock=Clock()) as progress:
        progress.event(EVENT)
        assert list(run.iterdir()) == []
        (run / "run.db").touch()
        progress.event(EVENT)
    assert len((run / "run.log").read_text(encoding="utf-8").splitlines()) == 2


def test_a_log_that_cannot_be_written_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    (tmp_path / "run.log").mkdir()
    console = paper(terminal=False)
    with ConsoleProgress(tmp_path / "run.log", console, clock=Clock()) as progress:
        progress.event(EVENT)
        progress.event(EVENT)
    assert written(console).count("cannot be written") == 1


def test_terminal_shows_stage_bar_and_numbers(tmp_path: Path) -> None:
    console = paper(terminal=True)
    with ConsoleProgress(tmp_path / "run.log", console, clock=Clock()) as progress:
        progress.status(STATUS)
        progress.event(EVENT)
    text = written(console)
    for part in (
        "dynamics",
        "1200/2000",
        "60 %",
        "0.432 ns/day",
        "-0.012 kJ/mol",
        "region 3/18",
        "refused 1",
        "[label]",
    ):
        assert part in text


def test_counting_without_a_terminal_is_a_few_lines() -> None:
    console = paper(terminal=False)
    with counting("audit: frames", console) as report:
        for done in range(101):
            report(done, 100)
    assert len(written(console).splitlines()) == 5
    assert "audit: frames: 100/100" in written(console)


def test_counting_on_a_terminal_shows_a_bar() -> None:
    console = paper(terminal=True)
    with counting("audit: frames", console) as report:
        report(50, 100)
    assert "50/100" in written(console)
