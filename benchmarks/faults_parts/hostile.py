"""F6: hostile files. Nothing in them runs, each is refused by name, and none fills the memory."""

import contextlib
import gc
import io
import resource
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile_files
import hostile_hdf5
import hostile_more
import hostile_runs
from figures import Figure
from hostile_files import SECRET, Trap
from probe import Case, Hung, Outcome, measured, patience

from qmml_md.cli import main
from qmml_md.commands.failure import show_failure

#: Traps of each kind in the quick form.
QUICK_OF_A_KIND = 2
#: Growth of the memory that a refusal may take, MB: reading and naming what is wrong takes some.
MOST_MB = 256.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprung:
    """What came of a trap.

    Attributes:
        trap: that was walked into.
        outcome: exit code, message and time.
        executed: whether the canary was there afterwards.
        told: whether the message shows what it must not.
        megabytes: growth of the largest memory.
    """

    trap: Trap
    outcome: Outcome
    executed: bool
    told: bool
    megabytes: float


def all_traps() -> list[Trap]:
    """Every trap there is."""
    return [*in_files(), *hostile_hdf5.traps(), *hostile_runs.traps()]


def in_files() -> list[Trap]:
    """Traps in single files."""
    return [*hostile_files.traps(), *hostile_more.traps()]


def figures(*, quick: bool) -> list[Figure]:
    """Walk into every trap, and see that the bait of those that carry a program is live."""
    traps = chosen(all_traps()) if quick else all_traps()
    sprung = [spring(trap) for trap in traps]
    live = [fires(trap) for trap in traps if trap.unsafe is not None]
    for each in sprung:
        if each.executed or each.told or not each.outcome.rejected or not each.outcome.named:
            print(f"{each.trap.kind}, {each.trap.name}: {each.outcome.code} {each.outcome.text[:300]}", file=sys.stderr)
    kinds = {trap.kind for trap in traps}
    executed = sum(each.executed for each in sprung)
    told = sum(each.told for each in sprung)
    refused = 100.0 * sum(each.outcome.rejected and each.outcome.named for each in sprung) / len(sprung)
    memory = max(each.megabytes for each in sprung)
    slowest = max(each.outcome.seconds for each in sprung)
    return [
        Figure(id="F6.kinds", what=f"kinds of hostile files, {len(sprung)} in all", value=len(kinds), unit="",
               goal="≥ 12", met=len(kinds) >= 12),
        Figure(id="F6.executed", what="executed", value=executed, unit="", goal="0", met=executed == 0),
        Figure(id="F6.live", what=f"of {len(live)} payloads, run by a careless reader",
               value=100.0 * sum(live) / len(live), unit="%", goal="100", met=all(live)),
        Figure(id="F6.rejected", what="refused by a named error", value=refused, unit="%", goal="100",
               met=refused == 100.0),
        Figure(id="F6.told", what="messages that show a file from elsewhere", value=told, unit="", goal="0",
               met=told == 0),
        Figure(id="F6.slowest", what="longest time to refuse", value=slowest, unit="s"),
        Figure(id="F6.memory", what="largest growth of memory", value=memory, unit="MB", goal=f"≤ {MOST_MB:g}",
               met=memory <= MOST_MB),
    ]  # fmt: skip


def chosen(traps: list[Trap]) -> list[Trap]:
    """Some of each kind; those with a live payload first."""
    by_kind: dict[str, list[Trap]] = {}
    for trap in sorted(traps, key=lambda trap: trap.unsafe is None):
        by_kind.setdefault(trap.kind, []).append(trap)
    return [trap for kind in by_kind.values() for trap in kind[:QUICK_OF_A_KIND]]


def spring(trap: Trap) -> Sprung:
    """Read a hostile file as the package does."""
    case = Case(name=trap.name, build=lambda folder: [], names=trap.names, codes=trap.codes)
    with tempfile.TemporaryDirectory(prefix="qmml-hostile-") as name:
        folder, canary = Path(name) / "inside", Path(name) / "canary"
        folder.mkdir()
        act = trap.build(folder, canary)
        said = io.StringIO()
        silence = contextlib.redirect_stdout(io.StringIO())
        with _memory() as grown, measured() as seconds, patience(), contextlib.redirect_stderr(said), silence:
            try:
                code = _call(act) if callable(act) else main([str(each) for each in act])
            except Hung:
                code = -1
        executed = canary.exists()
    text = " ".join(said.getvalue().split())
    outcome = Outcome(case=case, code=code, text=text, seconds=seconds[0], changed=())
    told = SECRET in text or "root:x:0" in text
    return Sprung(trap=trap, outcome=outcome, executed=executed, told=told, megabytes=grown[0])


def _call(act: object) -> int:
    """A function of the package, under the same handling of errors as a command."""
    try:
        act()  # type: ignore[operator]
    except Exception as error:
        return show_failure(error)
    return 0


def fires(trap: Trap) -> bool:
    """Whether a careless reader would have run what is in the file."""
    with tempfile.TemporaryDirectory(prefix="qmml-hostile-") as name:
        folder, canary = Path(name) / "inside", Path(name) / "canary"
        folder.mkdir()
        trap.build(folder, canary)
        if canary.exists() or trap.unsafe is None:
            return False
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            # What was run opens the canary and leaves it to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            trap.unsafe(folder, canary)
            gc.collect()
        return canary.exists()


@contextlib.contextmanager
def _memory() -> Iterator[list[float]]:
    """Growth of the resident memory within, MB, at its highest; the system refuses what is asked for without end."""
    before, limit = _reset_peak(), resource.getrlimit(resource.RLIMIT_AS)
    grown = [0.0]
    address = _status_mb("VmSize") + 8 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (int(address * 1024**2), limit[1]))
    try:
        yield grown
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        grown[0] = max(0.0, _status_mb("VmHWM") - before)


def _reset_peak() -> float:
    """Make the highest memory so far the present one, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024.0 for line in lines if line.startswith(f"{name}:"))
