"""``qmml check``: whether a run directory is whole, and from where it could go on."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..errors import QmmlError, RunDirectoryError
from ..records.lock import holder
from ..records.run_directory import RunDirectory
from ..records.verify import Group, resumable_from, verify

#: Problems of each kind that are shown.
MOST_LINES = 10


def check_run(path: Path, console: Console | None = None) -> int:
    """Verify every hash of a run, and every label; print what is whole and what is not.

    Args:
        path: run directory.
        console: where to print; by default standard output.

    Returns:
        0 if everything is whole, 1 if something is not.

    Raises:
        RunDirectoryError: this is no run directory, or a process works on it.
    """
    run, out = RunDirectory(path), console or Console()
    if who := holder(run.lock):
        raise RunDirectoryError(
            f"the run in {path} is in use by {who}", cure="wait for its end: files come and go while it works"
        )
    try:
        groups = [*verify(run), _labels(run)]
    except RunDirectoryError as error:
        if not run.database.exists():
            raise
        groups = [Group(name="database", files=1, problems=(error.what,))]
    out.print(_table(groups, path))
    for line in _problems(groups):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    whole = all(group.whole for group in groups)
    out.print(_outlook(run, whole), highlight=False, markup=False, soft_wrap=True)
    return 0 if whole else 1


def _labels(run: RunDirectory) -> Group:
    """Every label that the run learned from is there, and holds the numbers that were computed."""
    from ..reference.pending import PENDING, PendingDensities
    from ..reference.store import LabelStore
    from ..reference.store_rows import label_digest

    damaged = PendingDensities(run.root / PENDING).damaged()
    problems = [f"{PENDING}/{path.name} is not what was written" for path in damaged]
    try:
        database = run.open_database()
        try:
            rows = database.labels()
        finally:
            database.close()
        if not run.labels.exists():
            missing = [f"labels.db is missing; {len(rows)} labels were in it"] if rows else []
            return Group(name="labels", files=len(rows), problems=(*problems, *missing))
        store = LabelStore(run.labels)
        problems += store.problems()
        for row in rows:
            label, told = store.get(row.key), row.data.get("digest")
            if label is None:
                problems.append(f"labels.db has lost the label {row.key[:12]} of step {row.step}")
            elif told is not None and label_digest(label) != told:
                problems.append(f"labels.db: the label {row.key[:12]} of step {row.step} is not what was computed")
    except QmmlError as error:
        return Group(name="labels", files=1, problems=(*problems, error.what))
    return Group(name="labels", files=len(rows), problems=tuple(problems))


def _table(groups: list[Group], path: Path) -> Table:
    table = Table(title=f"Is {path} whole?", title_justify="left")
    table.add_column("what")
    table.add_column("files", justify="right")
    table.add_column("state")
    for group in groups:
        unsealed = group.name == "seal" and group.whole and not group.files
        state = "none: the run ended without notice, or goes on" if unsealed else "whole"
        table.add_row(group.name, str(group.files), state if group.whole else f"{len(group.problems)} damaged")
    return table


def _problems(groups: list[Group]) -> Iterator[str]:
    for group in groups:
        yield from group.problems[:MOST_LINES]
        if len(group.problems) > MOST_LINES:
            yield f"… and {len(group.problems) - MOST_LINES} more of {group.name}"


def _outlook(run: RunDirectory, whole: bool) -> str:
    try:
        step = resumable_from(run)
    except RunDirectoryError:
        step = None
    goes_on = "it cannot be resumed" if step is None else f"its last commit is that of step {step}"
    if whole:
        return f"everything is whole; {goes_on}"
    return f"not whole; {goes_on}. Restore the files named above from a copy"
