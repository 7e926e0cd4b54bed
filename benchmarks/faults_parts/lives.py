"""What every part does with runs: let one live undisturbed, look at what another left, and go on with it to its end."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import program
import results
import scene
from border import VARIABLE, Border, Call, Shim, calls_in
from patched import Patched
from zygote import Row, forked, shared

from qmml_md.records.run_directory import RunDirectory

_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The run that was never interrupted.

    Attributes:
        digest: of its results.
        files: names of its files.
        calls: that changed its files, in order.
        seconds, cpu_s: that it took.
    """

    digest: dict[str, str]
    files: set[str]
    calls: list[Call]
    seconds: float
    cpu_s: float


def border() -> Border:
    """How faults are made in this process."""
    return Shim() if VARIABLE in os.environ else Patched()


def whole_run(variant: str, files: Path, folder: Path, **changes: scene.Plain) -> Whole:
    """Run a variant without a fault, perhaps changed in something.

    Raises:
        RuntimeError: it does not reach its end.
    """
    folder.mkdir(exist_ok=True)
    out, log = folder / "run", folder / "calls"
    config = program.write_config(variant, files, **changes)

    def work() -> int:
        border().arm(out, None, log)
        return program.start(config, out)

    ended = forked(work, folder / "output")
    if ended.code != 0:
        raise RuntimeError(f"the uninterrupted run `{variant}` ended with {ended.how}:\n{ended.output}")
    run = RunDirectory(out)
    digest, names = results.results_digest(run), results.files_of(run)
    return Whole(digest=digest, files=names, calls=calls_in(log), seconds=ended.seconds, cpu_s=ended.cpu_s)


def adopt() -> None:
    """From now on processes whose parent has died are this one's, so that none can be left unseen."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def watching(folder: Path) -> program.Watch:
    """Watches the processes of one job."""
    return program.Watch(shared(1 + program.MOST_CHECKPOINTS), folder / "paid")


def blank(variant: str) -> Row:
    """What is found out about a run that is disturbed."""
    return {"variant": variant, "lost": 0, "damage": [], "twice": 0, "orphans": 0, "committed": None, "stored": []}


def look(row: Row, out: Path, watch: program.Watch, folder: Path) -> None:
    """What the killed process left: whether it is whole, how far it is committed, which labels it has paid for."""
    run = RunDirectory(out)
    row["committed"], row["stored"] = None, []
    last = results.last_commit(run)
    if last is not None:
        row["committed"], row["stored"] = last.step, sorted(results.stored_labels(run))
        row["damage"] += results.damage(run)
        checked = forked(partial(program.check, out), folder / "checked")
        if checked.code != 0:
            row["damage"].append(f"qmml check: {checked.how}: {checked.output[-600:]}")
    row["lost"] = max(row["lost"], watch.lost(None if last is None else last.id))
    row["begun"] = len(program.begun(folder / "paid"))


def onward(row: Row, config: Path, out: Path) -> Callable[[], int]:
    """The command that goes on with a run: start it once more where nothing was committed."""
    return partial(program.start, config, out) if row["committed"] is None else partial(program.resume, out)


def go_on(row: Row, config: Path, whole: Whole, out: Path, folder: Path) -> Row:
    """Resume to the end, and compare."""
    watch, begin = watching(folder), onward(row, config, out)

    def work() -> int:
        watch.begin()
        return begin()

    ended = forked(work, folder / "resumed")
    row["twice"] = len(set(row["stored"]) & set(program.begun(folder / "paid")[row["begun"] :]))
    ends = program.computed(folder / "paid")
    row["wasted"] = len(ends) - len(set(ends))
    finished = ended.code == 2 and "is finished" in ended.output
    row["resumed"], row["how"] = ended.code == 0 or finished, ended.how
    if not row["resumed"]:
        return {**row, "equal": False, "differs": ["not resumed"], "output": ended.output[-1500:]}
    run = RunDirectory(out)
    digest = results.results_digest(run)
    row["differs"] = results.differing(digest, whole.digest)
    row["equal"] = not row["differs"]
    row["extra"], row["missing"] = (
        sorted(results.files_of(run) - whole.files),
        sorted(whole.files - results.files_of(run)),
    )
    after = forked(partial(program.check, out), folder / "checked-after")
    if after.code != 0:
        row["damage"].append(f"qmml check after the end: {after.how}: {after.output[-600:]}")
    return row


def orphans(patience_s: float = 8.0) -> int:
    """Processes that outlive the one that was killed; they are ended."""
    until = time.monotonic() + patience_s
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0 and time.monotonic() > until:
                break
        except ChildProcessError:
            return 0
        time.sleep(0.02)
    left = [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == os.getpid()]
    for process in left:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return len(left)


def _parent(process: str) -> int:
    try:
        return int(Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
