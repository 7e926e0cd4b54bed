"""One process that has loaded everything, and makes each run as a fork of itself: a run then takes seconds, not twenty.

``python zygote.py PART FOLDER OUT [--quick]`` measures a part and writes what it found as JSON. It has one thread when
it forks, and no GPU; what runs in a fork is the command line of the program itself, without the audit at the end.
"""

import gc
import io
import json
import math
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
#: Runs at a time.
AT_ONCE = 2
#: A run that takes longer hangs, s.
LIMIT_S = 120.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a forked process ended.

    Attributes:
        code: exit code; None if a signal ended it.
        signal: that ended it; None if none did.
        output: what it wrote to both of its streams.
        seconds: wall time.
        cpu_s: processor time, s.
        hung: whether it had to be killed because it took too long.
    """

    code: int | None
    signal: int | None
    output: str
    seconds: float
    cpu_s: float
    hung: bool

    @property
    def how(self) -> str:
        """In words."""
        if self.hung:
            return "hung"
        return f"exit code {self.code}" if self.signal is None else f"signal {self.signal}"


def forked(
    work: Callable[[], int],
    output: Path,
    *,
    kill_at_cpu_s: float = math.inf,
    kill_at_s: float = math.inf,
    limit_s: float = LIMIT_S,
) -> Ended:
    """Do something in a process of its own.

    Args:
        work: gives the exit code.
        output: file for what it writes.
        kill_at_cpu_s: kill it when it has used so much processor time, s.
        kill_at_s: kill it after so long, s.
        limit_s: it hangs if it takes longer, s.
    """
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _live(work, output)
    hung = False
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        past = time.monotonic() - began
        hung = hung or past > limit_s
        if hung or past >= kill_at_s or (kill_at_cpu_s < math.inf and _used(child) >= kill_at_cpu_s):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    code = os.waitstatus_to_exitcode(status)
    text = output.read_text(errors="replace") if output.exists() else ""
    return Ended(
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        output=text,
        seconds=time.monotonic() - began,
        cpu_s=used.ru_utime + used.ru_stime,
        hung=hung,
    )


def _used(process: int) -> float:
    """Processor time of a process, s; 0 once it is gone."""
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        return 0.0


def _live(work: Callable[[], int], output: Path) -> None:
    """The life of a forked process; it ends here."""
    code = 99
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        into = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(into, 1)
        os.dup2(into, 2)
        code = work()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def pool(jobs: Sequence[Callable[[Path], Row]], folder: Path, at_once: int = AT_ONCE) -> list[Row]:
    """Do jobs, some at a time, each in a process and a folder of its own that goes when it is done.

    Args:
        jobs: each takes its folder and gives what it found.
        folder: for theirs.
        at_once: most jobs at a time.
    """
    rows: list[Row | None] = [None] * len(jobs)
    running: dict[int, int] = {}
    began, told = time.monotonic(), 0
    for number in range(len(jobs)):
        while len(running) >= at_once:
            told = _collect(rows, running, folder, began, told)
        running[_begin(jobs[number], folder / f"job{number}")] = number
    while running:
        told = _collect(rows, running, folder, began, told)
    return [row if row is not None else {"lost": True} for row in rows]


def _begin(job: Callable[[Path], Row], folder: Path) -> int:
    folder.mkdir()
    child = os.fork()
    if child:
        return child
    try:
        row = job(folder)
    except BaseException:
        row = {"broken": traceback.format_exc()}
    (folder / "row.json").write_text(json.dumps(row))
    os._exit(0)


def _collect(rows: list[Row | None], running: dict[int, int], folder: Path, began: float, told: int) -> int:
    """Wait for one job; tells how many are done now and then."""
    child, _ = os.wait()
    number = running.pop(child, None)
    if number is None:
        return told
    place = folder / f"job{number}"
    written = place / "row.json"
    rows[number] = json.loads(written.read_text()) if written.exists() else {"broken": "its process died"}
    subprocess.run(["rm", "-rf", str(place)], check=False)
    done = sum(row is not None for row in rows)
    if done * 10 // len(rows) != told:
        told = done * 10 // len(rows)
        print(f"  {done} of {len(rows)}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return told


def shared(count: int) -> np.ndarray:
    """Whole numbers that a process shares with its forks, shape (count,)."""
    return np.frombuffer(mmap.mmap(-1, 8 * count), dtype=np.int64)


def warm(folder: Path) -> None:
    """Load everything and run once, so that forks need not."""
    import program
    import scene
    import torch

    torch.set_num_threads(1)
    scene.lay_out(folder)
    program.remember_base_anchors()
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = program.start(program.write_config("plain", folder), folder / "warm")
        code = code or program.check(folder / "warm")
    if code:
        raise RuntimeError(f"a run without any fault ended with exit code {code}:\n{said.getvalue()}")
    gc.collect()
    gc.freeze()


def in_zygote(part: str, *, quick: bool) -> Row:
    """Measure a part in a zygote; what it found.

    Args:
        part: module with a function ``measure``.
        quick: the small form, which needs no compiler.
    """
    from border import compiled, environment

    with tempfile.TemporaryDirectory(prefix="qmml-faults-") as name:
        folder = Path(name).resolve()
        library = None if quick else compiled(folder)
        out = folder / "found.json"
        work = folder / "work"
        work.mkdir()
        command = [sys.executable, str(Path(__file__)), part, str(work), str(out), *(["--quick"] if quick else [])]
        subprocess.run(command, env=environment(library), check=True)
        found: Row = json.loads(out.read_text())
        return found


def main(arguments: Iterable[str]) -> None:
    """Measure a part."""
    from importlib import import_module

    part, folder, out, *rest = arguments
    sys.path.insert(0, str(HERE))
    began = time.monotonic()
    warm(Path(folder))
    print(f"{part}: warm after {time.monotonic() - began:.0f} s", file=sys.stderr)
    found = import_module(part).measure(Path(folder), quick="--quick" in rest)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
