"""Faults without a compiler: what Python calls to change files is replaced in the process that is to fail."""

import builtins
import io
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from border import Act, Calls, Fault

#: What SQLite says of an error number.
_SAID = {28: "database or disk is full", 5: "disk I/O error", 30: "attempt to write a readonly database"}
_CHANGES = ("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE", "CREATE", "REPLACE")


class Patched:
    """Faults made by replacing functions; see ``border.Border``."""

    def __init__(self) -> None:
        self._folder, self._fault, self._seen, self._short = "", Fault(act=Act.PASS, nth=0), 0, False
        self._log = -1
        self._write = os.write

    def arm(self, folder: Path, fault: Fault | None, log: Path) -> None:
        """See ``border.Border``; this process cannot be disarmed."""
        self._folder, self._fault = str(folder), fault or self._fault
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._replace_os()
        self._replace_files()
        self._replace_sqlite()

    def meet(self, kind: Calls, name: str, path: Any, size: int = 0) -> Act:
        """What is to happen at this call; an act that kills before it is done at once."""
        try:
            text = os.fspath(path)
        except TypeError:
            return Act.PASS
        if not kind & self._fault.calls or not (text == self._folder or text.startswith(self._folder + os.sep)):
            return Act.PASS
        self._seen += 1
        self._write(self._log, f"{name}\t{text}\t{size}\n".encode())
        if self._short and kind is Calls.WRITE:
            self._short = self._fault.lasting
            return Act.FAIL
        wanted = self._fault.nth
        if self._seen != wanted and not (self._fault.lasting and 0 < wanted < self._seen):
            return Act.PASS
        if self._fault.act is Act.KILL_BEFORE:
            die()
        self._short = self._fault.act is Act.SHORT
        return self._fault.act

    def failure(self, path: Any) -> OSError:
        """The error of a call that fails."""
        return OSError(self._fault.errno, os.strerror(self._fault.errno), str(path))

    def sqlite_failure(self) -> sqlite3.OperationalError:
        """The same as SQLite says it."""
        return sqlite3.OperationalError(_SAID.get(self._fault.errno, "disk I/O error"))

    def _replace_os(self) -> None:
        for name, kind, which in (
            ("rename", Calls.RENAME, 1), ("replace", Calls.RENAME, 1), ("unlink", Calls.REMOVE, 0),
            ("remove", Calls.REMOVE, 0), ("rmdir", Calls.REMOVE, 0), ("mkdir", Calls.CREATE, 0),
        ):  # fmt: skip
            setattr(os, name, self._around(getattr(os, name), kind, name, which))
        for name in ("fsync", "fdatasync"):
            real = getattr(os, name)

            def sync(fd: int, real: Callable[[int], None] = real, name: str = name) -> None:
                path = os.readlink(f"/proc/self/fd/{fd}") if os.path.exists("/proc/self/fd") else self._folder
                self._do(self.meet(Calls.SYNC, name, path), path, lambda: real(fd))

            setattr(os, name, sync)

    def _around(self, real: Callable[..., Any], kind: Calls, name: str, which: int) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            act = Act.PASS if options.get("dir_fd") is not None else self.meet(kind, name, args[which])
            return self._do(act, args[which], lambda: real(*args, **options))

        return call

    def _do(self, act: Act, path: Any, work: Callable[[], Any]) -> Any:
        if act in (Act.FAIL, Act.SHORT):
            raise self.failure(path)
        if act is Act.KILL_WITHIN:
            die()
        result = work()
        if act is Act.KILL_AFTER:
            die()
        return result

    def _replace_files(self) -> None:
        real = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            changes = any(letter in mode for letter in "wax+")
            if changes and not isinstance(file, int):
                self._do(self.meet(Calls.CREATE, "open", file), file, lambda: None)
                return Watched(real(file, mode, *args, **options), file, self)
            return real(file, mode, *args, **options)

        io.open = builtins.open = opened  # type: ignore[assignment]

    def _replace_sqlite(self) -> None:
        border = self

        class Connection(sqlite3.Connection):
            path = ""

            def execute(self, statement: str, *args: Any) -> Any:
                border.statement(statement, self.path)
                return super().execute(statement, *args)

            def executemany(self, statement: str, rows: Any) -> Any:
                border.statement(statement, self.path)
                return super().executemany(statement, rows)

            def commit(self) -> None:
                border.statement("COMMIT", self.path)
                super().commit()

        real = sqlite3.connect

        def connect(database: Any, *args: Any, **options: Any) -> Any:
            connection = real(database, *args, **{**options, "factory": Connection})
            connection.path = str(database)
            return connection

        sqlite3.connect = connect

    def statement(self, statement: str, path: str) -> None:
        """A statement of SQLite is one call that writes."""
        verb = statement.lstrip().split(" ", 1)[0].rstrip(";").upper()
        if verb not in _CHANGES:
            return
        act = self.meet(Calls.SYNC if verb == "COMMIT" else Calls.WRITE, f"sqlite {verb}", path)
        if act in (Act.FAIL, Act.SHORT):
            raise self.sqlite_failure()
        if act in (Act.KILL_AFTER, Act.KILL_WITHIN):
            die()


class Watched:
    """A file whose writes are calls."""

    def __init__(self, file: Any, path: Any, border: Patched) -> None:
        self._file, self._path, self._border = file, path, border

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Watched":
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._file)

    def writelines(self, lines: Any) -> None:
        """As one write for each line."""
        for line in lines:
            self.write(line)

    def write(self, data: Any) -> int:
        """A write that may be cut off in the middle, may fail, or be the last thing that the process does."""
        act = self._border.meet(Calls.WRITE, "write", self._path, len(data))
        if act in (Act.SHORT, Act.KILL_WITHIN, Act.KILL_AFTER):
            self._file.write(data if act is Act.KILL_AFTER else data[: len(data) // 2])
            self._file.flush()
            if act is not Act.SHORT:
                die()
        if act in (Act.FAIL, Act.SHORT):
            raise self._border.failure(self._path)
        return int(self._file.write(data))


def die() -> None:
    """End at once, as by the power that nothing can catch."""
    os.kill(os.getpid(), signal.SIGKILL)
