"""B7: planted defects that the auditor must catch, the cause that it must name, and honest runs that it must not blame.

``python benchmarks/books_parts/defects.py`` prints every defect with its three sizes, the checks that failed and the
cause that was named; ``… elsewhere`` and ``… sparse`` do so for runs of another kind.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from books_parts.clean_runs import run
from books_parts.clean_systems import Plan, Story
from books_parts.plant_dynamics import Ground
from books_parts.planted import ELSEWHERE, HOME, KINDS, SPARSE, Defect
from books_parts.write_run import write
from figures import Figure
from rich.console import Console
from rich.table import Table

from qmml_md.analysis.audit import audit
from qmml_md.analysis.causes.classes import Diagnosis
from qmml_md.analysis.findings import Check, Status
from qmml_md.records.run_directory import RunDirectory

#: Kinds that the quick form plants: one of each class that is quick to make.
QUICK = (
    "sign of forces", "forces in eV/Å", "heat not booked", "ΔU wrong", "frames reordered", "leap-frog velocities",
)  # fmt: skip
CLEAN_SEEDS, CLEAN_QUICK = 4, 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the auditor said of one run."""

    defect: str
    size: str
    failed: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...]
    right: bool


def examine(run: RunDirectory) -> tuple[tuple[Check, ...], tuple[Diagnosis, ...]]:
    """All checks of an audit, and the diagnosis."""
    result = audit(run)
    return result.checks, result.diagnoses


def examined(
    story: Story, spoil: Callable[[Path], None] | None = None
) -> tuple[tuple[Check, ...], tuple[Diagnosis, ...]]:
    """Write a story to a fresh folder and examine it."""
    with tempfile.TemporaryDirectory() as folder:
        directory = write(story, Path(folder) / "run")
        if spoil is not None:
            spoil(directory.root)
        return examine(directory)


def planted(ground: Ground, *, quick: bool) -> Iterator[Outcome]:
    """Every kind in every size; in the quick form some kinds in their smallest size."""
    for defect in KINDS:
        if quick and defect.name not in QUICK:
            continue
        for words, size in defect.sizes[2:] if quick else defect.sizes:
            checks, diagnoses = examined(defect.plant(ground, size), _spoiler(defect, ground, size))
            yield Outcome(
                defect=defect.name,
                size=words,
                failed=tuple(check.name for check in checks if check.status == Status.FAIL),
                diagnoses=diagnoses,
                right=bool(diagnoses) and diagnoses[0].cause == defect.cause,
            )


def _spoiler(defect: Defect, ground: Ground, size: object) -> Callable[[Path], None] | None:
    after = defect.after
    return None if after is None else lambda root: after(ground, root, size)


def clean_plans(*, quick: bool) -> list[Plan]:
    """Honest runs: vacuum and periodic, four integrators, without and with updates of three policies."""
    every = [
        Plan(system=name, integrator=integrator, policy=policy, seed=100 + seed)
        for seed, name, integrator, policy in product(
            range(CLEAN_SEEDS),
            ("ethanol", "waters", "box"),
            ("verlet", "langevin", "bussi", "nose_hoover"),
            ("", "abrupt", "ramp", "rewind"),
        )
    ]
    sparse = [replace(plan, every=5, steps=80) for plan in every if plan.system == "ethanol" and plan.seed == 100]
    if quick:
        return every[:: len(every) // CLEAN_QUICK][:CLEAN_QUICK]
    return [plan for plan in every if plan.system != "box" or plan.seed < 102] + sparse


def false_alarms(*, quick: bool) -> tuple[int, list[tuple[Plan, tuple[str, ...]]]]:
    """Number of honest runs, and those in which a check failed."""
    plans, blamed = clean_plans(quick=quick), []
    for plan in plans:
        checks, _ = examined(run(plan))
        failed = tuple(f"{check.name}: {check.why}" for check in checks if check.status == Status.FAIL)
        if failed:
            blamed.append((plan, failed))
    return len(plans), blamed


def table(outcomes: list[Outcome], title: str, *, misses_only: bool) -> Table:
    """Defects, sizes, what failed and what was named."""
    rows = Table(title=title, title_justify="left")
    for column in ("defect", "size", "checks that failed", "cause named"):
        rows.add_column(column)
    for o in outcomes:
        if misses_only and o.failed and o.right:
            continue
        cause = o.diagnoses[0].cause.value if o.diagnoses else "—"
        named = cause if o.right else f"{cause}  (WRONG) {o.diagnoses[0].why if o.diagnoses else ''}"
        rows.add_row(o.defect, o.size, ", ".join(o.failed) or "NONE", named)
    return rows


def figures(*, quick: bool) -> list[Figure]:
    """B7.kinds, B7.caught, B7.cause, B7.false_alarms; beside them unseen runs, and sparse frames."""
    outcomes = list(planted(HOME, quick=quick))
    runs, blamed = false_alarms(quick=quick)
    console = Console(width=170, stderr=True)
    show_misses(console, "where the signatures were developed", outcomes)
    for plan, failed in blamed:
        console.print(f"false alarm: {plan}: {failed}")
    kinds, (caught, right) = len({o.defect for o in outcomes}), shares(outcomes)
    found = [
        Figure(id="B7.kinds", what=f"kinds of planted defects, {len(outcomes)} runs", value=kinds, unit="1",
               goal="" if quick else "≥ 25", met=None if quick else kinds >= 25),
        Figure(id="B7.caught", what="planted defects that made a check fail", value=caught, unit="1", goal="1",
               met=caught == 1.0),
        Figure(id="B7.cause", what="planted defects whose class of cause came first", value=right, unit="1",
               goal="≥ 0.9", met=right >= 0.9),
        Figure(id="B7.false_alarms", what=f"of {runs} honest runs, those in which a check failed", value=len(blamed),
               unit="1", goal="0" if quick else "0 of ≥ 100", met=not blamed and (quick or runs >= 100)),
    ]  # fmt: skip
    if quick:
        return found
    for name, ground, what in (
        ("unseen", ELSEWHERE, "other molecules, thermostats and seeds"),
        ("sparse", SPARSE, "one frame in ten steps"),
    ):
        outcomes = list(planted(ground, quick=False))
        show_misses(console, what, outcomes)
        caught, right = shares(outcomes)
        found += [
            Figure(id=f"B7.caught_{name}", what=f"the same with {what}", value=caught, unit="1"),
            Figure(id=f"B7.cause_{name}", what=f"the same with {what}", value=right, unit="1"),
        ]
    return found


def shares(outcomes: list[Outcome]) -> tuple[float, float]:
    """Share of defects that were caught, and of those whose cause was named."""
    count = len(outcomes)
    return sum(bool(o.failed) for o in outcomes) / count, sum(o.right for o in outcomes) / count


def show_misses(console: Console, what: str, outcomes: list[Outcome]) -> None:
    """Print what was not caught, or was called something else."""
    if any(not (o.failed and o.right) for o in outcomes):
        console.print(table(outcomes, what, misses_only=True))


if __name__ == "__main__":
    chosen = {"home": HOME, "elsewhere": ELSEWHERE, "sparse": SPARSE}[(sys.argv[1:] or ["home"])[0]]
    Console(width=170).print(table(list(planted(chosen, quick=False)), "planted defects", misses_only=False))
