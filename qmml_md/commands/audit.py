"""``qmml audit``: a run with its final model, and on request what takes longer."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..console import counting
from ..errors import ConfigError
from ..records.database import Commit
from ..records.run_directory import RunDirectory
from ..records.seal import unsealed
from ..records.verify import refuse_changed
from ..units import PS_PER_FS

if TYPE_CHECKING:
    from ..analysis.audit import AuditResult, Extra
    from ..analysis.causes.classes import Diagnosis
    from ..analysis.findings import Check, Part, Status
    from ..analysis.record import Record
    from ..region.cluster import Cluster
    from ..system.archive import Simulated

COLOURS = {"pass": "bold green", "fail": "bold red", "undecided": "bold yellow"}
#: Likely causes that are shown.
MOST_CAUSES = 3
#: Length of each run of a time-step scan: some periods of the slowest stiff mode, seconds of work for a small system.
SCAN_FS = 100.0
#: Steps of the longest time step that a scan takes at least.
SCAN_STEPS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What an audit shall do beyond the default.

    Attributes:
        forces_every: forces on one stored frame in so many; by default as the run's configuration says.
        thorough: probe the gradient of large systems too, and of more frames.
        timestep_scan: run a short stretch again at dt, dt/2 and dt/4.
        spot_checks: quantum labels at so many random places.
    """

    forces_every: int | None = None
    thorough: bool = False
    timestep_scan: bool = False
    spot_checks: int = 0


def audit_run(path: Path, wishes: Wishes) -> int:
    """Audit a run, write the report, print the outcome.

    Returns:
        0 pass, 1 fail, 2 undecided.

    Raises:
        ConfigError: a number of spot checks or frames that makes no sense.
    """
    if wishes.spot_checks < 0 or (wishes.forces_every is not None and wishes.forces_every < 1):
        raise ConfigError("--spot-checks and --forces-every take positive numbers", cure="leave the option out")
    out = Console()
    result = audit_and_report(RunDirectory(path), out, wishes)
    show_checks(result.checks, out)
    return result.exit_code


def show_checks(checks: "Sequence[Check]", out: Console) -> None:
    """Print one line for each check."""
    for check in checks:
        line = Text(f"{check.status.value:15}", style=COLOURS.get(check.status.value, "dim"))
        line.append(f"{check.name}: {check.why}", style="not bold default")
        out.print(line, soft_wrap=True)


def audit_and_report(run: RunDirectory, out: Console, wishes: Wishes | None = None) -> "AuditResult":
    """Audit, write the report, print the summary, and book the time in the run's database.

    Raises:
        RunDirectoryError: this is no run, or what it began with was changed since.
    """
    from ..analysis.audit import audit
    from ..analysis.report.page import write_report

    wishes = wishes or Wishes()
    began = time.perf_counter()
    # Told before the seal is broken: what is no run has none.
    database = run.open_database()
    try:
        refuse_changed(run, database)
    finally:
        database.close()
    with unsealed(run):
        with counting("audit: frames") as progress:
            result = audit(
                run,
                progress=progress,
                forces_every=wishes.forces_every,
                thorough=wishes.thorough,
                extras=extras_of(wishes),
            )
        _book_time(run, time.perf_counter() - began)
        page = write_report(run)
    out.print(summary(run, result, page))
    return result


def extras_of(wishes: Wishes) -> "Sequence[Extra]":
    """The parts of an audit that are made on request."""
    extras: list[Extra] = []
    if wishes.timestep_scan:
        extras.append(_timestep_scan)
    if wishes.spot_checks:
        extras.append(_spot_checks(wishes.spot_checks))
    return extras


def _timestep_scan(run: RunDirectory, record: "Record") -> "Part":
    """Velocity Verlet from the last stored frame, in double precision on the final model."""
    from ..analysis.probes.differences import surface_of
    from ..analysis.probes.timestep import timestep_scan
    from ..ensemble.weights import load

    last = record.rows(np.array([len(record) - 1]))
    timestep_ps = record.timestep_ps
    with counting("audit: time-step scan") as progress:
        return timestep_scan(
            surface_of(load(str(run.model(record.final_model)), "double"), record.potential),
            particles=record.particles,
            positions=last.positions[0],
            velocities=last.velocities[0],
            box=last.box[0] if record.particles.periodic else None,
            timestep_ps=timestep_ps,
            duration_ps=max(SCAN_FS * PS_PER_FS, SCAN_STEPS * timestep_ps),
            progress=progress,
        )


def _spot_checks(count: int) -> "Extra":
    """Quantum labels around random atoms of random frames, kept with the other labels of the run."""

    def check(run: RunDirectory, record: "Record") -> "Part":
        from ..analysis.probes.spot_checks import draw_spots, spot_check
        from ..engine.inputs import read_simulated
        from ..ensemble.weights import load
        from ..reference.pyscf import PyscfReference
        from ..reference.store import LabelStore
        from ..reference.stored import StoredReference

        config = record.config
        rng = np.random.default_rng(np.random.SeedSequence([config.dynamics.seed, count]))
        simulated = read_simulated(config, run.root)
        spots = draw_spots(len(record), len(simulated.part.atoms), count, rng)
        reference = PyscfReference(config.reference, config.ensemble.threads)
        with counting("audit: spot checks") as progress:
            return spot_check(
                StoredReference(reference, LabelStore(run.labels)),
                clusters=_clusters(record, simulated, spots.tolist()),
                model=load(str(run.model(record.final_model)), config.ensemble.precision),
                tolerance_eV_per_A=config.audit.force_rmse_eV_per_A,
                rng=rng,
                progress=lambda done: progress(done, len(spots)),
            )

    return check


def _clusters(record: "Record", simulated: "Simulated", spots: list[list[int]]) -> Iterator[tuple[int, int, "Cluster"]]:
    """Step, centre and cluster of each spot, cut as the run would cut it; atoms are counted in the whole system."""
    from ..engine.setup import region_policy
    from ..engine.whole import charges_of, in_whole
    from ..region.sampling import cluster_around

    config, part, policy = record.config, simulated.part, region_policy(record.config, simulated)
    charges, reach = charges_of(config, simulated), config.reference.embedding_cutoff_A
    for frame, atom in spots:
        if policy.layout is not None and not policy.layout.open_atoms[atom]:
            # What the run must not label the audit does not label either.
            continue
        row = record.rows(np.array([frame]))
        positions, box = row.positions[0], row.box[0] if record.particles.periodic else None
        cluster = cluster_around(atom, part.at(positions, box), policy)
        whole = in_whole(cluster, simulated, charges, positions, box, cutoff_A=reach)
        yield int(row.step[0]), int(part.atoms[atom]), whole


def _book_time(run: RunDirectory, seconds: float) -> None:
    """Where the time went includes the last audit."""
    database = run.open_database()
    try:
        database.commit(Commit(timings={"audit": (seconds, 1)}))
    finally:
        database.close()


def verdict_table(verdict: "Status", diagnoses: "Sequence[Diagnosis]") -> Table:
    """The verdict and the likely causes, with room for more rows."""
    table = Table(show_header=False)
    table.add_row("verdict of the audit", Text(verdict.value, style=COLOURS[verdict.value]))
    for diagnosis in diagnoses[:MOST_CAUSES]:
        table.add_row("likely cause", Text(f"{diagnosis.cause.value}: {diagnosis.why}", overflow="fold"))
    return table


def summary(run: RunDirectory, result: "AuditResult", report: Path) -> Table:
    """The outcome of an audit in a few lines."""
    drift = next((f for f in result.findings if f.name == "conserved_drift" and f.unit == "kT/ns/dof"), None)
    error = f" ± {drift.standard_error:.2g}" if drift is not None and drift.standard_error is not None else ""
    first = result.first_out_of_tolerance
    table = verdict_table(result.verdict, result.diagnoses)
    table.add_row("first frame out of tolerance", "none" if first is None else f"step {first}")
    if result.resimulate_from is not None:
        table.add_row("simulate again", Text(f"qmml run --from {run.root}@{result.resimulate_from}", overflow="fold"))
    table.add_row("drift of the conserved quantity", f"{drift.value:.3g}{error} {drift.unit}" if drift else "unknown")
    table.add_row("report", Text(str(report), overflow="fold"))
    return table
