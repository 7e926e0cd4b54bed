"""F1 and F2: a run that is killed at any instant goes on, and ends as the one that was never killed."""

import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from border import VARIABLE, Act, Call, Calls, Fault, calls_in
from figures import Figure
from zygote import Ended, Row, forked, in_zygote, pool

if TYPE_CHECKING:
    from lives import Whole
    from program import Watch

#: Random instants for each variant, and boundaries and torn writes of others than the plain one, in the full form.
INSTANTS = {"plain": 150, "rewind": 35, "ramp": 35, "apart": 25}
SOME_BOUNDARIES = {"rewind": 10, "ramp": 10, "apart": 20}
TORN = 40
#: Every so many of the random ones are killed again while they resume.
AGAIN_EVERY = 4
SHOWN = 25
#: Names one boundary in so many to be tried, where there is no time for all of them.
EVERY = "QMML_FAULTS_EVERY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where a run is killed.

    Attributes:
        variant: of the run.
        fault: at a call; None for an instant.
        shares: instants, as shares of the time of an uninterrupted run: the first while it starts, others while it
            resumes.
    """

    variant: str
    fault: Fault | None = None
    shares: tuple[float, ...] = ()


#: Killed before its first commit, begun anew, and done before the second instant comes.
FASTER = Point(variant="plain", shares=(0.05, 50.0))


def lose(point: Point, whole: "Whole", files: Path, folder: Path) -> Row:
    """Kill a run, look at what it left, and go on until it is done; what came of it."""
    import lives
    import program

    lives.adopt()
    watch, row = lives.watching(folder), {**lives.blank(point.variant), "kills": 0}
    out, config = folder / "run", program.write_config(point.variant, files)
    for share in point.shares or (None,):
        ended = _struck(row, config, watch, point, share, whole, folder)
        killed = ended.signal == signal.SIGKILL and not ended.hung
        row["kills"] += killed
        row["orphans"] += lives.orphans() if killed else 0
        # Also at one that was faster than its twin and ended before the instant: it is finished, not to be begun anew.
        lives.look(row, out, watch, folder)
        if not killed:
            break
    calls = calls_in(folder / "calls")
    row["call"] = f"{calls[-1].name} {calls[-1].path.removeprefix(str(out))} {calls[-1].size}" if calls else ""
    if not killed and ended.code != 0:
        told = {"how": ended.how, "output": ended.output[-1500:]}
        return {**row, **told, "resumed": False, "equal": False, "differs": ["not gone on with"]}
    if not row["kills"]:
        return row
    return lives.go_on(row, config, whole, out, folder)


def _struck(
    row: Row, config: Path, watch: "Watch", point: Point, share: float | None, whole: "Whole", folder: Path
) -> Ended:
    """Begin or go on, and be killed."""
    import lives

    watch.numbers[:] = 0
    begin = lives.onward(row, config, folder / "run")

    def work() -> int:
        watch.begin()
        if point.fault is not None:
            lives.border().arm(folder / "run", point.fault, folder / "calls")
        return begin()

    if share is None:
        return forked(work, folder / "output")
    if point.variant == "apart":
        # The process that computes labels has a processor time of its own.
        return forked(work, folder / "output", kill_at_s=share * whole.seconds)
    return forked(work, folder / "output", kill_at_cpu_s=share * whole.cpu_s)


def points(wholes: "dict[str, Whole]", *, quick: bool) -> list[Point]:
    """Where runs are killed."""
    rng = np.random.default_rng(6)
    plain = len(wholes["plain"].calls)
    if quick:
        found = [_at("plain", Act.KILL_BEFORE, nth) for nth in _spread(plain, 14)]
        found += [_at("plain", Act.KILL_WITHIN, nth) for nth in _spread(plain, 4)]
        return [*found, *(Point(variant="plain", shares=_shares(rng, k)) for k in range(7)), FASTER]
    every = int(os.environ.get(EVERY, "1"))
    found = [_at("plain", Act.KILL_BEFORE, nth) for nth in range(1, plain + 1, every)]
    writes = [n for n, call in enumerate(wholes["plain"].calls, start=1) if _tears(call)]
    found += [_at("plain", Act.KILL_WITHIN, writes[k - 1]) for k in _spread(len(writes), TORN)]
    for variant, count in SOME_BOUNDARIES.items():
        found += [_at(variant, Act.KILL_BEFORE, nth) for nth in _spread(len(wholes[variant].calls), count)]
    for variant, count in INSTANTS.items():
        found += [Point(variant=variant, shares=_shares(rng, k)) for k in range(count)]
    return [*found, FASTER]


def _tears(call: Call) -> bool:
    return call.name in ("write", "pwrite", "pwrite64", "writev", "sendfile", "sendfile64") and call.size > 1


def _at(variant: str, act: Act, nth: int) -> Point:
    return Point(variant=variant, fault=Fault(act=act, nth=nth, calls=Calls.ALL))


def _spread(most: int, count: int) -> list[int]:
    return sorted({int(x) for x in np.linspace(1, most, min(count, most))})


def _shares(rng: np.random.Generator, number: int) -> tuple[float, ...]:
    return tuple(float(x) for x in rng.uniform(0.0, 0.97, 2 if number % AGAIN_EVERY == 0 else 1))


def measure(folder: Path, *, quick: bool) -> Row:
    """Kill and resume everywhere."""
    import scene
    from lives import whole_run
    from results import differing

    variants = ["plain"] if quick else list(scene.VARIANTS)
    wholes = {each: whole_run(each, folder, folder / f"whole-{each}") for each in variants}
    # Numbers of calls and hashes must not depend on the day, or boundaries would not be what they are called.
    twin = whole_run("plain", folder, folder / "twin")
    chosen = points(wholes, quick=quick)
    jobs = [partial(lose, point, wholes[point.variant], folder) for point in chosen]
    rows = pool(jobs, folder)
    apart = folder / "sabotage"
    apart.mkdir()
    noticed = pool([partial(each, wholes["plain"], folder) for each in (_another_run, _a_flipped_bit)], apart)
    for point, row in zip(chosen, rows, strict=True):
        row["kind"] = "instant" if point.fault is None else point.fault.act.name
        row["where"] = f"at {point.shares}" if point.fault is None else f"{point.fault.nth}"
    return {
        "rows": rows,
        "noticed": sum(bool(row.get("noticed")) for row in noticed),
        "exact": VARIABLE in os.environ,
        "calls": len(wholes["plain"].calls),
        "twin": differing(twin.digest, wholes["plain"].digest),
        "twin_calls": len(twin.calls),
    }


def _another_run(whole: "Whole", files: Path, folder: Path) -> Row:
    """Whether a run with another seed is told from this one."""
    from lives import whole_run

    other = whole_run("plain", files, folder, dynamics={"seed": 2})
    return {"noticed": other.digest["segments"] != whole.digest["segments"]}


def _a_flipped_bit(whole: "Whole", files: Path, folder: Path) -> Row:
    """Whether damage to a committed segment of a killed run is seen."""
    import lives
    import program

    watch, row = lives.watching(folder), lives.blank("plain")
    fault = Fault(act=Act.KILL_BEFORE, nth=int(0.85 * len(whole.calls)))
    config = program.write_config("plain", files)
    ended = _struck(row, config, watch, Point(variant="plain", fault=fault), None, whole, folder)
    segment = folder / "run" / "segments" / "000000.h5"
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    lives.look(row, folder / "run", watch, folder)
    # Both the program and the benchmark must see it.
    return {"noticed": ended.signal == signal.SIGKILL and len(row["damage"]) == 2, "damage": row["damage"]}


def figures(*, quick: bool) -> list[Figure]:
    """F1 and F2."""
    found = in_zygote("kills", quick=quick)
    broken = [row for row in found["rows"] if "broken" in row]
    rows = [row for row in found["rows"] if "resumed" in row]
    _tell(found, rows, broken)
    instants = sum(row["kills"] for row in rows if row["kind"] == "instant")
    kills = sum(row["kills"] for row in rows)
    import scene

    resumed = 100.0 * sum(row["resumed"] for row in rows) / len(rows)
    equal = 100.0 * sum(row["equal"] for row in rows) / len(rows)
    corrupt = sum(bool(row["damage"]) for row in rows) + len(broken)
    twice, orphans = sum(row["twice"] for row in rows), sum(row["orphans"] for row in rows)
    lost = max(row["lost"] for row in rows) / scene.COMMIT_EVERY
    many = quick or kills >= 500
    calls = "of all calls that change a file" if found["exact"] else "of what Python calls"
    return [
        Figure(id="F1.points", what="SIGKILLs", value=kills, unit="", goal="≥ 500", met=None if quick else many),
        Figure(id="F1.boundaries", what=f"of them at boundaries {calls}", value=kills - instants, unit=""),
        Figure(
            id="F1.random", what="of them at random times", value=instants, unit="", goal="≥ 200",
            met=None if quick else instants >= 200,
        ),
        Figure(id="F1.resumed", what="resumed", value=resumed, unit="%", goal="100", met=resumed == 100.0),
        Figure(id="F1.corrupt", what="left damage", value=corrupt, unit="", goal="0", met=corrupt == 0),
        Figure(id="F1.paid_twice", what="labels paid twice", value=twice, unit="", goal="0", met=twice == 0),
        Figure(id="F1.lost", what="most work lost", value=lost, unit="intervals", goal="≤ 1", met=lost <= 1.0),
        Figure(id="F1.orphans", what="processes left", value=orphans, unit="", goal="0", met=orphans == 0),
        Figure(
            id="F1.sabotage", what="of two planted defects, noticed", value=found["noticed"], unit="", goal="2",
            met=found["noticed"] == 2,
        ),
        Figure(id="F2.equal", what="ended as uninterrupted", value=equal, unit="%", goal="100", met=equal == 100.0),
    ]  # fmt: skip


def _tell(found: Row, rows: list[Row], broken: list[Row]) -> None:
    """Every point that failed, for a person."""
    say = partial(print, file=sys.stderr)
    say(f"F1: {found['calls']} calls in an uninterrupted run ({found['twin_calls']} in its twin)")
    if found["twin"]:
        say(f"F1: two uninterrupted runs differ in {', '.join(found['twin'])}")
    bad = [r for r in rows if not (r["resumed"] and r["equal"]) or r["damage"] or r["twice"] or r["orphans"]]
    for row in bad[:SHOWN]:
        where = f"{row['variant']} {row['kind']} {row['where']} ({row['call']})"
        say(f"F1 {where}: committed {row['committed']}, {row['how']}")
        for name in ("damage", "differs", "twice", "orphans", "extra", "missing", "output"):
            if row.get(name):
                say(f"   {name}: {row[name]}")
    for row in broken[:SHOWN]:
        say(row["broken"])
