"""The audit of a finished run with its final model.

Three questions, in this order: is the record true (``truth/``), do the forces that moved the atoms agree with the final
model (``forces.py``), and is energy conserved once every booked exchange is taken out (``conservation/``)? Probes ask
whether it is physics (``probes/``), and what failed is given a likely cause (``causes/``). Everything is measured in
one pass over the frames (``gather.py``). The answers go to ``audit/audit.json``; energies (kJ/mol) and forces
(kJ/mol/nm) of the final model go to ``audit/final_model.h5``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import AuditError
from ..records.run_directory import RunDirectory
from .calibration import calibration_part
from .causes.classes import Diagnosis
from .causes.diagnose import diagnose
from .causes.symptoms import symptoms
from .conservation.drift import bound_finding, drift_check, drift_findings, drift_ratio
from .conservation.fluctuation import fluctuation_part
from .conservation.identity import identity_part
from .document import temperatures, write_document
from .final_model import FinalModelFile
from .findings import EXIT_CODES, Check, Finding, Part, Status, verdict
from .forces import force_part
from .gather import Evidence, ProgressCallback, gather
from .hindsight import advice
from .horizon import horizon_part
from .learning import learning_part
from .probes.probing import probe_parts
from .record import Record, read_record
from .truth.cadence import cadence_part
from .truth.files import integrity_part, require_final_model
from .truth.ledger import ledger_part
from .truth.motion import continuity
from .truth.reconcile import reconcile_part
from .truth.replay import replay_part
from .truth.retrace import retrace_part
from .truth.steps import steps_part
from .truth.updates import updates_part


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """What an audit came to.

    Attributes:
        verdict: ``pass``, ``fail`` or ``undecided``.
        checks: the judgements it was made from.
        findings: the numbers those were made from.
        first_out_of_tolerance: step of the first frame whose forces differ by more than a tolerance, or None.
        resimulate_from: step of the stored frame from which the run must be simulated again, or None.
        diagnoses: likely causes of what failed, most likely first.
        path: of audit.json.
    """

    verdict: Status
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    first_out_of_tolerance: int | None
    resimulate_from: int | None
    diagnoses: tuple[Diagnosis, ...]
    path: Path

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 could not be decided."""
        return EXIT_CODES[self.verdict]


#: A part of the audit that is made on request.
Extra = Callable[[RunDirectory, Record], Part]


def audit(
    run: RunDirectory,
    *,
    progress: ProgressCallback | None = None,
    forces_every: int | None = None,
    thorough: bool = False,
    extras: Sequence[Extra] = (),
) -> AuditResult:
    """Audit a run with its final model and write ``audit/audit.json`` and ``audit/final_model.h5``.

    Args:
        run: a run that has committed frames; finished or not.
        progress: told (frames done, frames in all) after each frame.
        forces_every: evaluate forces on one frame in so many, energies on every one; by default as the configuration of
            the run says.
        thorough: also probe what takes long, such as the gradient of a large system.
        extras: parts that are made on request, after the others.

    Raises:
        RunDirectoryError: this is no run directory, or it holds no committed frames.
        AuditError: the audit cannot be carried out: no configuration, a final model that is missing or not the one that
            the run ended with, a folder that cannot be written.
    """
    began = time.perf_counter()
    record = read_record(run)
    require_final_model(run, record)
    every = record.config.audit.forces_every_frames if forces_every is None else forces_every
    if every < 1:
        raise AuditError(f"forces_every is {every}", cure="give a whole number from 1 on")
    with FinalModelFile(run.audit / "final_model.h5", record.atoms) as keep:
        evidence = gather(run, record, keep, forces_every=every, progress=progress)
    kinetic, final = evidence.books.kinetic, evidence.replayed.potential_final
    parts = [
        *judge_all(run, evidence),
        *probe_parts(run, record, evidence.motions, kinetic, final, thorough=thorough),
        *(extra(run, record) for extra in extras),
    ]
    checks = tuple(check for part in parts for check in part.checks)
    shown = symptoms(
        run,
        record,
        evidence.replayed,
        checks,
        kinetic=kinetic,
        residual=evidence.books.residual,
        unexplained=evidence.unexplained,
        steps=evidence.steps,
        retraced=evidence.retraced,
    )
    out = np.flatnonzero(evidence.out)
    result = AuditResult(
        verdict=verdict(checks),
        checks=checks,
        findings=tuple(finding for part in parts for finding in part.findings),
        first_out_of_tolerance=int(record.series.step[out[0]]) if len(out) else None,
        resimulate_from=evidence.resimulate_from,
        diagnoses=diagnose(shown),
        path=run.audit / "audit.json",
    )
    write_document(result, evidence, time.perf_counter() - began)
    return result


def judge_all(run: RunDirectory, evidence: Evidence) -> list[Part]:
    """Every check and finding, in the order in which a person should read them."""
    record, tolerance = evidence.record, evidence.record.config.audit
    drift = Part(
        checks=(drift_check(evidence.drift_conserved, evidence.units, tolerance.drift_kT_per_ns_per_dof),),
        findings=tuple(
            drift_findings("conserved", evidence.drift_conserved, evidence.units)
            + drift_findings("final_total", evidence.drift_final, evidence.units)
            + [
                bound_finding("conserved", evidence.drift_conserved, evidence.units),
                drift_ratio(evidence.drift_conserved, record.series.time, evidence.books.kinetic),
            ]
            + _energy_findings(evidence)
        ),
    )
    replayed = evidence.replayed
    motion, unexplained = continuity(record, evidence.unexplained)
    return [
        integrity_part(run, record, evidence.not_finite),
        cadence_part(record),
        Part(checks=(motion,), findings=(unexplained,)),
        steps_part(record, evidence.steps),
        retrace_part(record, evidence.retraced),
        reconcile_part(record, evidence.books),
        ledger_part(record, replayed.tolerance.energy),
        replay_part(record, replayed),
        updates_part(evidence.updates, replayed.tolerance.energy),
        force_part(record.series.step, evidence.forces, tolerance, advice(run.root, evidence.resimulate_from)),
        drift,
        fluctuation_part(record),
        identity_part(evidence.stretches),
        learning_part(record.labels, record.models[0].id),
        calibration_part(record.labels, record.config.region),
        horizon_part(record.labels, record.models[0].id, record.config.dynamics.timestep_fs),
    ]


def _energy_findings(evidence: Evidence) -> list[Finding]:
    difference = evidence.replayed.potential_final - evidence.record.series.potential_used
    temperature = temperatures(evidence)
    return [
        Finding(name="conserved_residual_sd", value=evidence.drift_conserved.residual_sd, unit="kJ/mol"),
        Finding(name="energy_final_minus_used_mean", value=float(difference.mean()), unit="kJ/mol"),
        Finding(name="energy_final_minus_used_sd", value=float(difference.std()), unit="kJ/mol"),
        Finding(name="temperature_mean", value=float(temperature.mean()), unit="K"),
    ]
