"""``qmml status``: where a run stands, read from its database."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..config_file import load_config
from ..console import duration
from ..records.books import Account, Books
from ..records.database import RunDatabase
from ..records.rows import Event
from ..records.run_directory import RunDirectory
from ..units import PS_PER_FS

LAST_EVENTS = 6
#: Events that begin or end the work of a process on a run, and what the last of them says.
_STATES = {
    "start": "running, or ended without notice (`qmml resume` continues)",
    "resume": "running, or ended without notice (`qmml resume` continues)",
    "stop": "stopped (`qmml resume` continues)",
    "finish": "finished",
}


def last_mark(events: list[Event]) -> str:
    """The last of `start`, `resume`, `stop` and `finish`; empty if there is none."""
    return next((event.kind for event in reversed(events) if event.kind in _STATES), "")


def is_finished(run: RunDirectory) -> bool:
    """Whether a run reached its last step.

    Raises:
        RunDirectoryError: this is no run directory.
    """
    database = run.open_database()
    try:
        return last_mark(database.events()) == "finish"
    finally:
        database.close()


def show_status(path: Path, console: Console | None = None) -> None:
    """Print where a run stands.

    Args:
        path: run directory.
        console: where to print; by default standard output.

    Raises:
        RunDirectoryError: this is no run directory.
        ConfigError: its configuration cannot be read.
    """
    run = RunDirectory(path)
    database = run.open_database()
    out = console or Console()
    try:
        out.print(_overview(run, database))
        out.print(_ledger(database))
        if timings := database.timings():
            out.print(_timings(timings))
        for event in database.events()[-LAST_EVENTS:]:
            line = f"step {event.step}  {event.kind}: {event.message}"
            out.print(line, highlight=False, markup=False, soft_wrap=True)
    finally:
        database.close()


def _overview(run: RunDirectory, database: RunDatabase) -> Table:
    config = load_config(run.config)
    segments, regions, models, labels = database.segments(), database.regions(), database.models(), database.labels()
    events = database.events()
    count = Counter(event.kind for event in events)
    checkpoint = database.last_checkpoint()
    step = max([checkpoint.step if checkpoint else 0, *(row.last_step for row in segments)])
    last = regions[-1] if regions else None
    table = Table(title=config.title or run.root.name, title_justify="left", show_header=False)
    rows = {
        "state": _STATES.get(last_mark(events), "nothing committed yet"),
        "steps": f"{step} of {config.dynamics.steps} ({step * config.dynamics.timestep_fs * PS_PER_FS:.4f} ps)",
        "stored": f"{sum(row.frames for row in segments)} frames in {len(segments)} segments",
        "region": f"{len(last.core)} core / {len(last.atoms)} atoms, epoch {last.epoch}" if last else "none yet",
        "labels": f"{len(labels)} ({count['label_failed']} failed) of at most {config.reference.max_labels}",
        "updates": f"{count['update_accepted']} accepted, {count['update_refused']} refused",
        "model": models[-1].id[:12] if models else "none yet",
        "audit": str(run.audit / "report.html") if (run.audit / "report.html").exists() else "none yet",
    }
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def _ledger(database: RunDatabase) -> Table:
    books = Books(tuple(database.entries()))
    table = Table(title="Ledger", title_justify="left")
    table.add_column("account")
    table.add_column("entries", justify="right")
    table.add_column("sum, kJ/mol", justify="right")
    for account in Account:
        entries = [entry for entry in books.entries if entry.account == account]
        if entries:
            table.add_row(account.value, str(len(entries)), f"{books.total(account):+.6f}")
    table.add_row("all", str(books.count), f"{books.total():+.6f}")
    return table


def _timings(timings: dict[str, tuple[float, int]]) -> Table:
    table = Table(title="Where the time went", title_justify="left")
    for name in ("part", "time", "calls"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part, (seconds, calls) in sorted(timings.items(), key=lambda item: -item[1][0]):
        table.add_row(part, duration(seconds) if seconds >= 60 else f"{seconds:.2f} s", str(calls))
    return table
