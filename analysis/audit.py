"""The audit of a finished run with its final model.

Three questions, in this order: is the record true (``integrity.py``, ``reconcile.py``, ``replay.py``), do the forces
that moved the atoms agree with the final model (``forces.py``), and is energy conserved once every booked exchange is
taken out (``drift.py``)? Everything is measured in one pass over the frames (``gather.py``). The answers go to
``audit/audit.json``; energies (kJ/mol) and forces (kJ/mol/nm) of the final model go to ``audit/final_model.h5``.
"""

import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..ensemble.card import SYMBOLS
from ..errors import AuditError
from ..records.run_directory import RunDirectory
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .drift import bound_finding, drift_check, drift_findings, drift_ratio
from .final_model import FinalModelFile
from .findings import EXIT_CODES, Check, Finding, Part, Status, plain, verdict
from .forces import force_part
from .gather import Evidence, ProgressCallback, gather
from .hindsight import advice
from .identity import identity_part
from .integrity import integrity_part, require_final_model
from .learning import learning_part
from .ledger import ledger_part
from .motion import continuity
from .reconcile import reconcile_part
from .record import Record, read_record, region_sizes
from .replay import replay_part
from .updates import updates_part

FORMAT_VERSION = 2
LIBRARIES = ("qmml-md", "numpy", "torch", "torchani", "openmm", "openmmtorch", "pyscf", "ase", "mdtraj")

#: Unit of each column of ``frames`` in audit.json; columns that are not named have none.
FRAME_UNITS = {
    "time_ps": "ps",
    "temperature_K": "K",
    "kinetic": "kJ/mol",
    "potential_used": "kJ/mol",
    "potential_final": "kJ/mol",
    "exchanged": "kJ/mol",
    "conserved": "kJ/mol",
    "final_total": "kJ/mol",
    "identity_residual": "kJ/mol",
    "replay_energy_deviation": "kJ/mol",
    "replay_force_deviation": "eV/Å",
    "force_rmse": "eV/Å",
    "force_maxresid": "eV/Å",
    "force_rmse_core": "eV/Å",
    "force_rmse_buffer": "eV/Å",
    "force_rmse_rest": "eV/Å",
    "max_disagreement": "eV/Å",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """What an audit came to.

    Attributes:
        verdict: ``pass``, ``fail`` or ``undecided``.
        checks: the judgements it was made from.
        findings: the numbers those were made from.
        first_out_of_tolerance: step of the first frame whose forces differ by more than a tolerance, or None.
        resimulate_from: step of the stored frame from which the run must be simulated again, or None.
        path: of audit.json.
    """

    verdict: Status
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    first_out_of_tolerance: int | None
    resimulate_from: int | None
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
    parts = [*judge_all(run, evidence), *(extra(run, record) for extra in extras)]
    checks = tuple(check for part in parts for check in part.checks)
    out = np.flatnonzero(evidence.out)
    result = AuditResult(
        verdict=verdict(checks),
        checks=checks,
        findings=tuple(finding for part in parts for finding in part.findings),
        first_out_of_tolerance=int(record.series.step[out[0]]) if len(out) else None,
        resimulate_from=evidence.resimulate_from,
        path=run.audit / "audit.json",
    )
    _write(result, evidence, time.perf_counter() - began)
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
        Part(checks=(motion,), findings=(unexplained,)),
        reconcile_part(record, evidence.books),
        ledger_part(record, replayed.tolerance.energy),
        replay_part(record, replayed),
        updates_part(evidence.updates, replayed.tolerance.energy),
        force_part(record.series.step, evidence.forces, tolerance, advice(run.root, evidence.resimulate_from)),
        drift,
        identity_part(evidence.stretches),
        learning_part(record.labels, record.models[0].id),
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


def temperatures(evidence: Evidence) -> np.ndarray:
    """Instantaneous temperature of each frame, K, shape (f,): ``2K / (dof k_B)``."""
    particles = evidence.record.particles
    result: np.ndarray = 2.0 * evidence.books.kinetic / (particles.degrees_of_freedom * BOLTZMANN_KJ_PER_MOL_PER_K)
    return result


def columns(evidence: Evidence) -> dict[str, Any]:
    """The numbers of each frame by name; units in ``FRAME_UNITS``."""
    record, books, replayed, forces = evidence.record, evidence.books, evidence.replayed, evidence.forces
    series = record.series
    core, region = region_sizes(record)
    return {
        "step": series.step,
        "time_ps": series.time,
        "model": series.model_id,
        "blend": series.blend,
        "region_epoch": series.region_epoch,
        "core_atoms": core,
        "region_atoms": region,
        "temperature_K": temperatures(evidence),
        "kinetic": books.kinetic,
        "potential_used": series.potential_used,
        "potential_final": replayed.potential_final,
        "exchanged": books.exchanged,
        "conserved": series.conserved,
        "final_total": books.final_total,
        "identity_residual": books.residual,
        "replay_energy_deviation": replayed.energy_deviation,
        "replay_force_deviation": replayed.force_deviation,
        "force_rmse": forces.rmse,
        "force_maxresid": forces.largest,
        **{f"force_rmse_{name}": values for name, values in forces.rmse_of.items()},
        "max_disagreement": evidence.max_disagreement,
        "forces_evaluated": forces.evaluated,
        "out_of_tolerance": evidence.out,
    }


def frame_rows(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """One row of numbers for each frame."""
    found = columns(evidence)
    return (dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True))


def document(result: AuditResult, evidence: Evidence, wall_time_s: float) -> dict[str, Any]:
    """The content of audit.json, without the rows of the frames."""
    record = evidence.record
    symbols = Counter(SYMBOLS.get(int(z), f"Z{z}") for z in record.particles.numbers)
    return {
        "format_version": FORMAT_VERSION,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "checks": [asdict(check) for check in result.checks],
        "findings": [asdict(finding) for finding in result.findings],
        "first_out_of_tolerance": result.first_out_of_tolerance,
        "resimulate_from": result.resimulate_from,
        "tolerances": record.config.audit.model_dump(),
        "system": {
            "title": record.config.title,
            "formula": "".join(f"{s}{n if n > 1 else ''}" for s, n in sorted(symbols.items())),
            "atoms": record.atoms,
            "periodic": record.particles.periodic,
            "degrees_of_freedom": record.particles.degrees_of_freedom,
        },
        "drift": {"conserved": asdict(evidence.drift_conserved), "final_total": asdict(evidence.drift_final)},
        "models": [asdict(row) for row in record.models],
        "updates": [asdict(update) for update in evidence.updates],
        "hindsight": [asdict(stint) for stint in evidence.stints],
        "discarded": {"segments": len(record.voided.segments), "entries": len(record.voided.entries)},
        "worst_atoms": evidence.forces.worst,
        "frame_units": FRAME_UNITS,
        "frames": [],
        "versions": versions(),
        "wall_time_s": wall_time_s,
    }


def versions() -> dict[str, str]:
    """Versions of what made the audit, and of what may have made the run."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _write(result: AuditResult, evidence: Evidence, wall_time_s: float) -> None:
    text = _json(document(result, evidence, wall_time_s), indent=1)
    head, empty, tail = text.partition('"frames": []')
    try:
        part = result.path.with_suffix(".json.part")
        with part.open("w", encoding="utf-8") as file:
            # One frame on each line: as text, too, the frames of a long run are never held all at once.
            file.write(f"{head}{empty[:-1]}")
            for i, row in enumerate(frame_rows(evidence)):
                file.write(("," if i else "") + "\n  " + _json(row))
            file.write(f"\n ]{tail}\n")
        part.replace(result.path)
    except OSError as error:
        raise AuditError(
            f"cannot write the audit to {result.path.parent}: {error.strerror}",
            cure="make the folder writable, or free some space",
        ) from error


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)
