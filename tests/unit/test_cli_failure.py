"""Every failure is one screen: cause, cure, exit code, no traceback."""

import errno
import io
import os
import sqlite3

import pytest
from rich.console import Console

from qmml_md.commands.failure import DEFECT, explain, show_failure
from qmml_md.errors import ConfigError, QmmlError, RunDirectoryError


def screen(error: BaseException, *, terminal: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, _environ={})
    code = show_failure(error, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_error_with_a_cure() -> None:
    code, text = screen(ConfigError("config.yaml has 1 mistake:\n  line 3, [x]: bad", cure="mend it"))
    assert code == 2
    assert text.startswith("Config error: config.yaml has 1 mistake:\n  line 3, [x]: bad")
    assert "Cure: mend it" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_one_screen_without_traceback(terminal: bool) -> None:
    code, text = screen(RunDirectoryError("run exists already", cure="give another"), terminal=terminal)
    assert code == 2
    assert "Run directory error" in text
    assert "Traceback" not in text
    assert len(text.splitlines()) < 24


@pytest.mark.parametrize(
    ("error", "needle"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/segments/000001.h5.part"), "make room"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/etc/run"), "permissions"),
        (OSError("Unable to write (file write failed: errno = 28, error message = 'No space left')"), "make room"),
        (sqlite3.OperationalError("database or disk is full"), "make room"),
        (sqlite3.DatabaseError("file is not a database"), "restore run.db"),
        (MemoryError(), "free memory"),
        (ModuleNotFoundError("No module named 'pyscf'", name="pyscf"), "qmml doctor"),
        (ModuleNotFoundError("No module named 'qmml_md.analysis'", name="qmml_md.analysis"), "python -P"),
    ],
)
def test_failures_of_the_machine_have_a_cure(error: BaseException, needle: str) -> None:
    failure = explain(error)
    assert failure.exit_code == 2
    assert needle in failure.cure


def test_full_disk_names_the_file() -> None:
    failure = explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/run.db"))
    assert "No space left on device: run/run.db" in failure.what


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("division by zero"), OSError("odd"), ModuleNotFoundError("x", name="qmml_md.lost"), KeyError()],
)
def test_what_should_not_happen_says_how_to_report(error: Exception) -> None:
    try:
        raise error
    except Exception as caught:
        failure = explain(caught)
    assert failure.exit_code == DEFECT
    assert type(error).__name__ in failure.what
    assert "test_cli_failure.py" in failure.what
    assert "--debug" in failure.cure


def test_every_leaf_of_the_error_tree_has_a_title_in_words() -> None:
    leaves = [QmmlError]
    for leaf in leaves:
        leaves += leaf.__subclasses__()
        assert explain(leaf("x", cure="y")).title.count(" ") >= 1
