"""Turning an exception into one screen for a person: what happened, and what to do."""

import errno
import sqlite3
import traceback
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from .. import __version__
from ..errors import QmmlError

DEFECT = 70
_MAPPED = ("qmml_md.integrators", "qmml_md.analysis")

_RESUME = "; then `qmml resume RUN` continues from the last commit"
_OS_CURES = {
    errno.ENOSPC: "make room on that disk" + _RESUME,
    errno.EDQUOT: "make room in your quota" + _RESUME,
    errno.EACCES: "change the permissions, or give a folder that you may write to (--out)",
    errno.EPERM: "change the permissions, or give a folder that you may write to (--out)",
    errno.EROFS: "give a folder on a disk that can be written to (--out)",
    errno.ENOENT: "check the path",
    errno.EIO: "check the disk; `qmml resume RUN` continues from the last commit",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENOMEM: "free memory, or choose a smaller system",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a person is told.

    Attributes:
        title: kind of failure.
        what: cause.
        cure: what to do; empty if nothing is known.
        exit_code: of the process.
    """

    title: str
    what: str
    cure: str
    exit_code: int


def explain(error: BaseException) -> Failure:
    """Say what went wrong and what to do about it."""
    if isinstance(error, QmmlError):
        return Failure(title=_title(error), what=error.what, cure=error.cure, exit_code=error.exit_code)
    code = _errno(error)
    if code is not None:
        name = getattr(error, "filename", None)
        where = f": {name}" if name else ""
        what = f"{getattr(error, 'strerror', None) or error}{where}"
        return Failure(title="System error", what=what, cure=_OS_CURES[code], exit_code=2)
    if isinstance(error, sqlite3.DatabaseError):
        cure = "restore run.db from a copy of the run directory; if another process uses the run, wait for its end"
        return Failure(title="Run database", what=f"run.db cannot be used: {error}", cure=cure, exit_code=2)
    if isinstance(error, MemoryError):
        return Failure(title="System error", what="out of memory", cure=_OS_CURES[errno.ENOMEM], exit_code=2)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("qmml_md"):
        what = f"the library {error.name} is not installed"
        return Failure(title="Installation", what=what, cure="`qmml doctor` says what to install", exit_code=2)
    if isinstance(error, ModuleNotFoundError) and error.name in _MAPPED:
        # The folders integrators/ and analysis/ stand elsewhere in the sources than in the installed package.
        what = f"{error.name} is missing: Python found the sources of qmml-md before the installed package"
        cure = "run it from another folder, or with `python -P`, or install with `pip install -e .`"
        return Failure(title="Installation", what=what, cure=cure, exit_code=2)
    return Failure(title="Defect of qmml-md", what=_origin(error), cure=_report(), exit_code=DEFECT)


def show_failure(error: BaseException, console: Console | None = None) -> int:
    """Print a failure on standard error.

    Returns:
        Exit code of the process.
    """
    failure = explain(error)
    body = Text(failure.what)
    if failure.cure:
        body.append("\n\nCure: ", style="bold green").append(failure.cure)
    out = console or Console(stderr=True)
    if out.is_terminal:
        out.print(Panel(body, title=failure.title, title_align="left", border_style="red"))
    else:
        out.print(Text(f"{failure.title}: ").append(body), soft_wrap=True)
    return failure.exit_code


def _title(error: QmmlError) -> str:
    """Kind of an error in words: `RunDirectoryError` becomes `Run directory error`."""
    name = type(error).__name__
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return words.capitalize()


def _errno(error: BaseException) -> int | None:
    """The operating system's code, also where a library only quotes it; None if it is not one with a known cure."""
    if isinstance(error, OSError):
        if error.errno in _OS_CURES:
            return error.errno
        quoted = [code for code in _OS_CURES if f"errno = {code}," in str(error)]  # HDF5 writes it so
        return quoted[0] if quoted else None
    if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
        return errno.ENOSPC
    return None


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}{where}"


def _report() -> str:
    return (
        "this should not happen. Please report it to the developers with the command and what it prints with --debug, "
        f"what `qmml doctor` prints, and this version: {__version__}"
    )
