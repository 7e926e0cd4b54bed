"""Faults where a process meets the disk, one interface for two ways of making them.

``Shim`` is the exact one: a library in C, loaded before libc, that sees every call that changes a file. ``Patched``
needs no compiler: it sees what Python itself calls (files, `os`, statements of SQLite), and is what the tests use.
"""

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Protocol

SOURCE = Path(__file__).with_name("shim.c")
#: Names the library to the process that was started with it.
VARIABLE = "QMML_FAULTS_SHIM"


class Calls(IntFlag):
    """Kinds of calls, as in ``shim.c``."""

    WRITE = 1
    SYNC = 2
    RENAME = 4
    REMOVE = 8
    CREATE = 16
    RESIZE = 32
    ALL = 63


class Act(IntEnum):
    """What happens at a call, as in ``shim.c``."""

    PASS = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    KILL_WITHIN = 3
    FAIL = 4
    SHORT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        act: what happens.
        nth: at which call of the kinds named, from 1.
        calls: kinds of calls that count.
        errno: of a call that fails.
        lasting: whether all such calls fail from then on.
    """

    act: Act
    nth: int
    calls: Calls = Calls.ALL
    errno: int = 0
    lasting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that was made: its name, the file, and how many bytes."""

    name: str
    path: str
    size: int


class Border(Protocol):
    """Makes faults in the process that calls ``arm``."""

    def arm(self, folder: Path, fault: Fault | None, log: Path) -> None:
        """From now on write down all calls below a folder, and make the fault.

        Args:
            folder: whose files count.
            fault: to make; None only writes down.
            log: file for the calls, outside the folder.
        """


class Shim:
    """Faults made by the library that this process was started with."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[VARIABLE])

    def arm(self, folder: Path, fault: Fault | None, log: Path) -> None:
        """See ``Border``."""
        chosen = fault or Fault(act=Act.PASS, nth=0)
        self._library.shim_log(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
        name = ctypes.c_char_p(os.fsencode(folder))
        nth = ctypes.c_long(chosen.nth)
        self._library.shim_arm(name, int(chosen.calls), nth, int(chosen.act), chosen.errno, int(chosen.lasting))


def compiled(folder: Path) -> Path | None:
    """The library, made in a folder; None where there is no C compiler or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/proc/self/fd").exists():
        return None
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    return library if made.returncode == 0 else None


def environment(library: Path | None, *, gpu: bool = False) -> dict[str, str]:
    """What processes that make runs are started with: one thread, the benchmarks' path, the library, a GPU or none."""
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}
    single |= {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    found = os.pathsep.join([str(SOURCE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    plain = {**os.environ, **single, "PYTHONPATH": found}
    if library is None:
        return plain
    return {**plain, "LD_PRELOAD": str(library), VARIABLE: str(library)}


def calls_in(log: Path) -> list[Call]:
    """The calls that were written down."""
    rows = [line.rsplit("\t", 2) for line in log.read_text(errors="replace").splitlines()] if log.exists() else []
    return [Call(name=row[0], path=row[1], size=int(row[2])) for row in rows if len(row) == 3]
