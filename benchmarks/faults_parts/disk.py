"""F3: a disk that is full, broken or read-only ends a run by name, at its last commit; no flipped bit is overlooked."""

import errno
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from border import Act, Call, Calls, Fault, calls_in
from figures import Figure
from zygote import Row, forked, in_zygote, pool

if TYPE_CHECKING:
    from lives import Whole

#: Bits that are flipped, and copies of a run that they are flipped in, in the full form and in the quick one.
FLIPS, COPIES = (320, 30), (8, 2)
#: What an ended run may say: an error with a cure, or that it can be resumed.
NAMED = (2, 75)
#: A watcher's file: a run goes on without it, and says so.
OF_THE_WATCHER = "/run.log"
SHOWN = 25

Injected = tuple[str, Fault]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: for a person.
        calls: that may fail so.
        act: fails, or is done by half before it fails.
        errno: what the system says.
        lasting: whether it stays so.
        count: how often it is injected, in the full form and in the quick one.
    """

    name: str
    calls: Calls
    errno: int
    act: Act = Act.FAIL
    lasting: bool = False
    count: tuple[int, int]


KINDS = (
    Kind(
        name="full disk",
        calls=Calls.WRITE | Calls.CREATE | Calls.RESIZE,
        errno=errno.ENOSPC,
        lasting=True,
        count=(45, 4),
    ),
    Kind(name="full disk for once", calls=Calls.WRITE, errno=errno.ENOSPC, count=(20, 1)),
    Kind(name="I/O error", calls=Calls.WRITE, errno=errno.EIO, count=(40, 2)),
    Kind(name="short write", calls=Calls.WRITE, errno=errno.ENOSPC, act=Act.SHORT, count=(30, 2)),
    Kind(name="failing fsync", calls=Calls.SYNC, errno=errno.EIO, count=(40, 2)),
    Kind(name="failing rename", calls=Calls.RENAME, errno=errno.EIO, count=(25, 2)),
    Kind(name="read-only folder", calls=Calls.ALL, errno=errno.EROFS, lasting=True, count=(30, 2)),
    Kind(name="broken disk", calls=Calls.ALL, errno=errno.EIO, lasting=True, count=(15, 1)),
)


def points(calls: list[Call], kind_of: "dict[str, Calls]", *, quick: bool) -> list[Injected]:
    """Where faults are injected: spread over the calls of each kind in an uninterrupted run."""
    found: list[Injected] = []
    for kind in KINDS:
        mine = [call for call in calls if kind_of[call.name] & kind.calls]
        places = [n for n, call in enumerate(mine, start=1) if not call.path.endswith(OF_THE_WATCHER)]
        count = min(kind.count[quick], len(places))
        for k in sorted({int(x) for x in np.linspace(0, len(places) - 1, count)}):
            fault = Fault(act=kind.act, nth=places[k], calls=kind.calls, errno=kind.errno, lasting=kind.lasting)
            found.append((kind.name, fault))
    return found


#: Kinds of calls by their names, of the library and of Python.
KIND_OF = {
    **dict.fromkeys(("write", "pwrite", "pwrite64", "writev", "sendfile", "sendfile64"), Calls.WRITE),
    **dict.fromkeys(("fsync", "fdatasync", "sqlite COMMIT"), Calls.SYNC),
    **dict.fromkeys(("rename", "renameat", "replace"), Calls.RENAME),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir", "remove"), Calls.REMOVE),
    **dict.fromkeys(("open", "open64", "openat", "openat64", "mkdir", "mkdirat"), Calls.CREATE),
    **dict.fromkeys(("ftruncate", "ftruncate64"), Calls.RESIZE),
    **{f"sqlite {verb}": Calls.WRITE for verb in ("BEGIN", "INSERT", "UPDATE", "DELETE", "CREATE", "REPLACE")},
}


def break_disk(injected: Injected, whole: "Whole", files: Path, folder: Path) -> Row:
    """Inject one fault, look at what it left, and go on without it; what came of it."""
    import lives
    import program

    name, fault = injected
    lives.adopt()
    watch, row = lives.watching(folder), {**lives.blank("plain"), "kind": name, "nth": fault.nth}
    out, config = folder / "run", program.write_config("plain", files)

    def work() -> int:
        watch.begin()
        lives.border().arm(out, fault, folder / "calls")
        return program.start(config, out)

    ended = forked(work, folder / "output")
    calls = [call for call in calls_in(folder / "calls") if KIND_OF[call.name] & fault.calls]
    struck = len(calls) >= fault.nth
    row["struck"], row["ended"] = struck, ended.how
    row["call"] = f"{calls[fault.nth - 1].name} {calls[fault.nth - 1].path.removeprefix(str(out))}" if struck else ""
    row["said"] = ended.output[-700:]
    clean = "Traceback" not in ended.output and "Defect" not in ended.output
    row["survived"] = ended.code == 0 and clean
    row["named"] = clean and (ended.code in NAMED or ended.code == 0)
    lives.look(row, out, watch, folder)
    row["whole"] = not row["damage"]
    return lives.go_on(row, config, whole, out, folder)


def flip(number: int, copies: int, count: int, run: Path, folder: Path) -> Row:
    """Flip bits of a finished run, one at a time, and ask whether it is whole."""
    import program

    rng = np.random.default_rng([6, number])
    copy = folder / "run"
    _copied(run, copy)
    files = sorted(p for p in copy.rglob("*") if p.is_file() and p.stat().st_size and p.name != "run.lock")
    untouched = forked(partial(program.check, copy), folder / "untouched")
    overlooked, done = [], 0
    for k in range(count):
        # Every file in turn, so that small ones are not left out.
        path = files[(number + k // 2 * copies) % len(files)] if k % 2 else files[int(rng.integers(len(files)))]
        byte, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
        _turn(path, byte, bit)
        ended = forked(partial(program.check, copy), folder / f"checked{k}")
        _turn(path, byte, bit)
        done += 1
        if ended.code not in (1, 2) or "Traceback" in ended.output:
            overlooked.append(f"{path.relative_to(copy)}, byte {byte}, bit {bit}: {ended.how} {ended.output[-300:]}")
    again = forked(partial(program.check, copy), folder / "again")
    # If checking changed the run, or a bit did not go back, nothing above says anything.
    sound = untouched.code == 0 and again.code == 0
    return {"flips": done, "overlooked": overlooked, "sound": sound, "said": again.output[-500:]}


def _copied(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def _turn(path: Path, byte: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        old = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([old ^ (1 << bit)]))


def measure(folder: Path, *, quick: bool) -> Row:
    """Inject faults, and flip bits."""
    import lives

    whole = lives.whole_run("plain", folder, folder / "whole")
    chosen = points(whole.calls, KIND_OF, quick=quick)
    rows = pool([partial(break_disk, injected, whole, folder) for injected in chosen], folder)
    apart = folder / "flips"
    apart.mkdir()
    flips, copies = FLIPS[quick], COPIES[quick]
    run = folder / "whole" / "run"
    flipped = pool([partial(flip, k, copies, -(-flips // copies), run) for k in range(copies)], apart)
    return {"rows": rows, "flips": flipped}


def figures(*, quick: bool) -> list[Figure]:
    """F3."""
    found = in_zygote("disk", quick=quick)
    rows = [row for row in found["rows"] if row.get("struck")]
    broken = [row["broken"] for row in found["rows"] if "broken" in row]
    flips = sum(row.get("flips", 0) for row in found["flips"])
    overlooked = [line for row in found["flips"] for line in row.get("overlooked", ["not done"])]
    sound = all(row.get("sound") for row in found["flips"])
    _tell(rows, broken, overlooked, found["flips"])
    injected = len(rows) + len(broken)
    share = {name: 100.0 * sum(bool(r[name]) for r in rows) / max(1, injected) for name in ("named", "whole", "equal")}
    seen = 100.0 * (flips - len(overlooked)) / max(1, flips) if sound else 0.0
    said = {
        "named": "ended with a named error, or went on unharmed",
        "whole": "left their last commit whole",
        "equal": "ended as uninterrupted when resumed without the fault",
    }
    survived = sum(row["survived"] for row in rows)
    return [
        Figure(
            id="F3.injected", what="faults of the disk", value=injected, unit="", goal="≥ 200",
            met=None if quick else injected >= 200,
        ),
        Figure(id="F3.survived", what="of them those that a run went on after", value=survived, unit=""),
        *(
            Figure(id=f"F3.{name}", what=what, value=share[name], unit="%", goal="100", met=share[name] == 100.0)
            for name, what in said.items()
        ),
        Figure(
            id="F3.flips", what="bits flipped", value=flips, unit="", goal="≥ 300", met=None if quick else flips >= 300
        ),
        Figure(
            id="F3.flips_found", what="found by `qmml check`", value=seen, unit="%", goal="100", met=seen == 100.0
        ),
    ]  # fmt: skip


def _tell(rows: list[Row], broken: list[str], overlooked: list[str], flipped: list[Row]) -> None:
    """Every fault that did harm, for a person."""
    say = partial(print, file=sys.stderr)
    for row in [r for r in rows if not (r["named"] and r["whole"] and r["equal"])][:SHOWN]:
        say(f"F3 {row['kind']} at call {row['nth']} ({row['call']}): {row['ended']}, committed {row['committed']}")
        for name in ("said", "damage", "differs", "output"):
            if row.get(name):
                say(f"   {name}: {row[name]}")
    for line in (*broken[:SHOWN], *overlooked[:SHOWN]):
        say(f"F3 {line}")
    for row in flipped:
        if not row.get("sound"):
            say(f"F3 flips: a copy was not whole to begin with, or not at the end: {row.get('said') or row}")
