"""F4: components that fail, each kind at three places of a learning run: what comes of it, and whether anybody is told.

Outcomes, by what the run wrote into its events and how it ended:

- retried: event `label_retried`, and the same results as without the fault
- skipped: event `label_failed`
- refused: event `update_refused` with reasons that the run without the fault does not have
- rewound: event `explosion`
- stopped: exit code 2 or 75 and one screen without a traceback; `qmml resume` without the fault then ends well
- unharmed: the same results as without the fault, and nothing to tell

Everything else is silent. The ledger is closed if no entry contradicts the frames (the check of `qmml audit`).
"""

import sys
from collections import Counter
from functools import partial
from pathlib import Path

import program
import results
from component_kinds import KINDS, PLACES, QUICK, SEEN, STRUCK, Kind
from figures import Figure
from zygote import Ended, Row, forked, in_zygote, pool

from qmml_md.analysis.record import read_record
from qmml_md.analysis.truth.ledger import ledger_problems
from qmml_md.records.run_directory import RunDirectory

#: How far two evaluations of one model may differ, kJ/mol: one platform, one thread.
LEDGER_KJ_PER_MOL = 1e-6
OUTCOMES = ("retried", "skipped", "refused", "rewound", "stopped", "unharmed")
#: A run with a fault that takes longer hangs, s.
HANGS_S = 240.0


def measure(folder: Path, *, quick: bool) -> Row:
    """Break every kind of component, in a process that has loaded everything."""
    whole = results.results_digest(RunDirectory(folder / "warm"))
    refused = _events(folder / "warm", "update_refused")
    kinds = [kind for kind in KINDS if not quick or kind.name in QUICK]
    places = PLACES[:1] if quick else PLACES
    jobs = [partial(_break, kind, place, folder, whole, refused) for kind in kinds for place in places]
    return {"rows": pool(jobs, folder)}


def _break(kind: Kind, place: int, files: Path, whole: dict[str, str], refused: list[str], folder: Path) -> Row:
    config, out = program.write_config("plain", files, **kind.changes), folder / "run"

    def work() -> int:
        kind.inject(place, folder)
        return program.start(config, out)

    ended = forked(work, folder / "output", limit_s=HANGS_S)
    row: Row = {"kind": kind.name, "place": place, "hung": ended.hung, "how": ended.how, "seconds": ended.seconds}
    outcome = _outcome(ended, out, whole, refused)
    if outcome == "stopped":
        again = program.start if results.last_commit(RunDirectory(out)) is None else program.resume
        arguments = (config, out) if again is program.start else (out,)
        after = forked(partial(again, *arguments), folder / "resumed", limit_s=HANGS_S)
        row["hung"] = row["hung"] or after.hung
        if after.code != 0:
            outcome, row["output"] = f"not resumed ({after.how})", after.output[-1500:]
    row["outcome"] = outcome if _struck(folder, place) else "never made"
    row["right"] = row["outcome"] in kind.allowed
    row["ledger"] = [] if ended.hung else _ledger(out)
    if not row["right"]:
        row.setdefault("output", ended.output[-1500:])
    return row


def _outcome(ended: Ended, out: Path, whole: dict[str, str], refused: list[str]) -> str:
    """What came of the fault, in one word; `silent` where nobody was told."""
    if ended.hung:
        return "hung"
    if ended.code in (2, 75):
        return "stopped" if "Traceback" not in ended.output else "a traceback"
    if ended.code != 0:
        return f"ended with {ended.how}"
    if _events(out, "explosion"):
        return "rewound"
    if _events(out, "label_failed"):
        return "skipped"
    equal = results.results_digest(RunDirectory(out)) == whole
    retried = _events(out, "label_retried")
    if retried:
        return "retried" if _same_but_for_events(out, whole) else "retried, and other results"
    if set(_events(out, "update_refused")) - set(refused):
        return "refused"
    return "unharmed" if equal else "silent"


def _struck(folder: Path, place: int) -> bool:
    seen = folder / SEEN
    return (folder / STRUCK).exists() or (seen.exists() and len(seen.read_text().splitlines()) > place)


def _same_but_for_events(out: Path, whole: dict[str, str]) -> bool:
    """A try that was made again is an event, and nothing else."""
    found = results.results_digest(RunDirectory(out))
    return all(found.get(name) == digest for name, digest in whole.items() if name != "events")


def _events(out: Path, kind: str) -> list[str]:
    database = RunDirectory(out).open_database()
    try:
        return [event.message for event in database.events() if event.kind == kind]
    finally:
        database.close()


def _ledger(out: Path) -> list[str]:
    if results.last_commit(RunDirectory(out)) is None:
        return ["the run has no commit"]
    return list(ledger_problems(read_record(RunDirectory(out)), LEDGER_KJ_PER_MOL))


def figures(*, quick: bool) -> list[Figure]:
    """F4."""
    rows = in_zygote("components", quick=quick)["rows"]
    broken = [row for row in rows if "kind" not in row]
    rows = [row for row in rows if "kind" in row]
    for row in broken:
        print(f"F4: broken: {row}", file=sys.stderr)
    for row in rows:
        if not row["right"] or row["ledger"] or row["hung"]:
            print(f"F4: {row}", file=sys.stderr)
    kinds, least = len({row["kind"] for row in rows}), min(Counter(row["kind"] for row in rows).values())
    wrong, hung = sum(not row["right"] for row in rows) + len(broken), sum(row["hung"] for row in rows)
    open_books, slowest = sum(bool(row["ledger"]) for row in rows), max(row["seconds"] for row in rows)
    outcomes = Counter(row["outcome"] for row in rows)
    told = [
        Figure(id=f"F4.{name}", what=f"faults with the outcome `{name}`", value=count, unit="")
        for name, count in sorted(outcomes.items())
        if name in OUTCOMES
    ]
    return [
        Figure(
            id="F4.kinds", what="kinds of component faults", value=kinds, unit="", goal="≥ 25",
            met=None if quick else kinds >= 25,
        ),
        Figure(
            id="F4.times", what="times that each was made, at least", value=least, unit="", goal="3",
            met=None if quick else least >= 3,
        ),
        Figure(id="F4.silent", what="silent, or not as named", value=wrong, unit="", goal="0", met=wrong == 0),
        Figure(id="F4.hangs", what="hung", value=hung, unit="", goal="0", met=hung == 0),
        Figure(id="F4.ledger", what="ledgers not closed", value=open_books, unit="", goal="0", met=open_books == 0),
        Figure(id="F4.slowest", what="longest run with a fault", value=slowest, unit="s"),
        *told,
    ]  # fmt: skip
