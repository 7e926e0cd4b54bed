"""What a person sees of a run: a live view on a terminal, plain lines elsewhere and in ``run.log``."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .engine.progress import Status
from .records.rows import Event

#: Seconds between plain status lines; events are always written at once.
LINE_EVERY_S = 15.0
REFRESH_PER_S = 4.0

_STAGES = {"md": "dynamics", "qm": "quantum label", "io": "writing", "swap": "changing the model"}


def duration(seconds: float | None) -> str:
    """A wall time for a person: `42 s`, `3 min 05 s`, `2 h 10 min`; `—` if unknown."""
    if seconds is None:
        return "—"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plain_line(status: Status) -> str:
    """Where a run stands, in one line with units."""
    return (
        f"step {status.step}/{status.steps}  {status.time_ps:.4f} ps  {_STAGES.get(status.stage, status.stage)}  "
        f"{status.temperature_K:.1f} K  H~ drift {status.drift_kj_per_mol:+.4f} kJ/mol  "
        f"region {status.core_atoms} core / {status.region_atoms} atoms  labels {status.labels}  "
        f"updates {status.accepted} accepted / {status.refused} refused  "
        f"{status.ns_per_day:.4f} ns/day  left {duration(status.eta_s)}"
    )


def live_view(status: Status) -> Group:
    """Where a run stands, as a bar and a small table."""
    bar = Table.grid(padding=(0, 1))
    bar.add_column(min_width=max(map(len, _STAGES.values())))
    share = 100 * status.step / status.steps if status.steps else 100.0
    bar.add_row(
        Text(_STAGES.get(status.stage, status.stage), style="bold cyan"),
        ProgressBar(total=max(1, status.steps), completed=status.step, width=40),
        f"{status.step}/{status.steps} steps  {share:.0f} %",
        f"left {duration(status.eta_s)}",
    )
    numbers = Table.grid(padding=(0, 3))
    numbers.add_row(
        f"{status.time_ps:.3f} ps", f"{status.ns_per_day:.3f} ns/day", f"{status.temperature_K:.0f} K",
        f"H~ drift {status.drift_kj_per_mol:+.3f} kJ/mol",
    )  # fmt: skip
    numbers.add_row(
        f"region {status.core_atoms}/{status.region_atoms} (core/all)", f"labels {status.labels}",
        f"accepted {status.accepted}", f"refused {status.refused}",
    )  # fmt: skip
    return Group(bar, numbers)


class ConsoleProgress:
    """Watches a run for a person; a ``Progress``. Use as a context manager."""

    def __init__(
        self, log: Path, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch a run.

        Args:
            log: ``run.log``; lines wait in memory until the engine has made the run beside it.
            console: where to show; by default standard error, so that standard output stays for results.
            clock: seconds, for the spacing of plain lines.
        """
        self._log = log
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._live = (
            Live(console=self._console, refresh_per_second=REFRESH_PER_S) if self._console.is_terminal else None
        )
        self._waiting: list[str] = []
        self._last_line = -float("inf")
        self._last_stage = ""
        self._log_failed = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def status(self, status: Status) -> None:
        """Show where the run stands: at each call on a terminal, every few seconds as a line."""
        if self._live is not None:
            self._live.update(live_view(status))
        now = self._clock()
        if now - self._last_line < LINE_EVERY_S and status.stage != "done":
            return
        self._last_line = now
        line = plain_line(status)
        self._write(line)
        if self._live is None:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Show what happened, at once."""
        line = f"[{event.kind}] step {event.step}  {event.time:.4f} ps  {event.message}"
        self._write(line)
        self._console.print(line, highlight=False, markup=False, soft_wrap=self._live is None)

    def _write(self, line: str) -> None:
        """Append to ``run.log``. The folder may not exist yet: the engine refuses one that is not empty."""
        self._waiting.append(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {line}\n")
        if not (self._log.parent / "run.db").exists():
            return
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.writelines(self._waiting)
            self._waiting.clear()
        except OSError as error:  # a watcher never stops a run; the next commit meets a full disk and says so
            if not self._log_failed:
                self._console.print(f"{self._log} cannot be written: {error.strerror}", markup=False)
            self._log_failed = True


@contextmanager
def counting(what: str, console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that counts itself, as a function of done and total; a few plain lines without a terminal."""
    out = console or Console(stderr=True)
    live = Live(console=out, refresh_per_second=REFRESH_PER_S, transient=True) if out.is_terminal else None
    shown = -1

    def report(done: int, total: int) -> None:
        nonlocal shown
        if live is not None:
            row = Table.grid(padding=(0, 1))
            row.add_row(what, ProgressBar(total=max(1, total), completed=done, width=40), f"{done}/{total}")
            live.update(row)
            return
        quarter = 4 * done // max(1, total)
        if quarter != shown:
            shown = quarter
            out.print(f"{what}: {done}/{total}", highlight=False, markup=False)

    if live is not None:
        live.start()
    try:
        yield report
    finally:
        if live is not None:
            live.stop()
