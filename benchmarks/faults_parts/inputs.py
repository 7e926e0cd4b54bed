"""F5: bad inputs. Each is refused in a second by a message that names what is at fault, and leaves nothing behind."""

import sys
from collections.abc import Sequence

import bad_configs
import bad_files
import bad_runs
import mutations
from figures import Figure
from probe import LIMIT_S, Case, Outcome, attempt

#: One input in so many is tried in the quick form.
QUICK_EVERY = 25


def all_cases() -> list[Case]:
    """Every bad input there is: curated configurations, files and runs, and valid ones changed at random."""
    return [*bad_configs.curated(), *bad_files.curated(), *bad_runs.curated(), *mutations.fuzzed()]


def figures(*, quick: bool) -> list[Figure]:
    """Try all inputs in this process; imports are done before, by inputs that are right or fail late."""
    warm_up()
    found = [attempt(case) for case in (all_cases()[::QUICK_EVERY] if quick else all_cases())]
    for outcome in found:
        if problem := _problem(outcome):
            print(f"{problem}: {outcome.case.name}: {outcome.text[:300]}", file=sys.stderr)
    # What a random change left as good as it was is no bad input; it must not fail in another way, either.
    bad = [outcome for outcome in found if outcome.case.surely or not outcome.accepted]
    return _figures(bad, sum(not outcome.case.surely for outcome in bad))


def warm_up() -> None:
    """Load what the commands load."""
    for case in (
        Case(name="dry run", build=bad_configs.validating(bad_configs.edited(lambda c: None), "--dry-run"), names=""),
        Case(name="audit", build=bad_runs.spoiled("audit", lambda run: None), names=""),
        Case(name="train", build=bad_runs.spoiled("train", lambda run: (run / "labels.db").unlink()), names=""),
        Case(name="trajectory", build=bad_files.judged("t.xyz", mutations.xyz()), names=""),
        *(Case(name=kind, build=bad_files.with_field(kind, {}), names="") for kind in bad_files.FIELDS),
    ):
        attempt(case)


def _problem(outcome: Outcome) -> str:
    if outcome.accepted:
        return "accepted" if outcome.case.surely else ""
    parts = {
        "traceback": outcome.traceback, "not refused": not outcome.rejected, "not named": not outcome.named,
        f"{outcome.seconds:.1f} s": outcome.seconds > LIMIT_S, f"left {outcome.changed}": bool(outcome.changed),
    }  # fmt: skip
    return ", ".join(name for name, present in parts.items() if present)


def _figures(bad: Sequence[Outcome], random: int) -> list[Figure]:
    count = len(bad)
    rejected = 100.0 * sum(each.rejected for each in bad) / count
    named = 100.0 * sum(each.named for each in bad) / count
    slowest, tracebacks = max(each.seconds for each in bad), sum(each.traceback for each in bad)
    partial = sum(bool(each.changed) for each in bad)
    return [
        Figure(id="F5.inputs", what=f"bad inputs, {random} of them by random changes", value=count, unit="",
               goal="≥ 500", met=count >= 500),
        Figure(id="F5.rejected", what="refused", value=rejected, unit="%", goal="100", met=rejected == 100.0),
        Figure(id="F5.named", what="field, file or atom named", value=named, unit="%", goal="100", met=named == 100.0),
        Figure(id="F5.slowest", what="longest time, imports aside (the shortest of three where it is above 1 s)",
               value=slowest, unit="s", goal="≤ 1", met=slowest <= LIMIT_S),
        Figure(id="F5.tracebacks", what="tracebacks", value=tracebacks, unit="", goal="0", met=tracebacks == 0),
        Figure(id="F5.partial", what="left something behind or changed it", value=partial, unit="", goal="0",
               met=partial == 0),
    ]  # fmt: skip
