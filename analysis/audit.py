"""The audit of a finished run with its final model.

Three questions, in this order: is the record true (``integrity.py``, ``reconcile.py``, ``replay.py``), do the forces
that moved the atoms agree with the final model (``forces.py``), and is energy conserved once every booked exchange is
taken out (``drift.py``)? The answers go to ``audit/audit.json``; energies (kJ/mol) and forces (kJ/mol/nm) of the final
model on every frame go to ``audit/final_model.npz``.
"""

import json
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..ensemble.card import SYMBOLS
from ..errors import AuditError
from ..records.run_directory import RunDirectory
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .drift import DriftUnits, Slope, drift_check, drift_findings, slope
from .findings import EXIT_CODES, Check, Finding, Part, Status, plain, verdict
from .forces import ForceErrors, force_errors, force_part, out_of_tolerance, worst_atoms
from .integrity import integrity_part, require_final_model
from .learning import learning_part
from .reconcile import Reconciliation, reconcile, reconcile_part
from .record import BUFFER, CLASSES, CORE, Record, read_record, region_flags
from .replay import Replay, replay, replay_part

FORMAT_VERSION = 1
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
        path: of audit.json.
    """

    verdict: Status
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    first_out_of_tolerance: int | None
    path: Path

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 could not be decided."""
        return EXIT_CODES[self.verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was measured, before it is judged."""

    record: Record
    replayed: Replay
    books: Reconciliation
    forces: ForceErrors
    drift_conserved: Slope
    drift_final: Slope
    units: DriftUnits


def audit(run: RunDirectory, *, progress: Callable[[int, int], None] | None = None) -> AuditResult:
    """Audit a run with its final model and write ``audit/audit.json``.

    Args:
        run: a run that has committed frames; finished or not.
        progress: told (frames done, frames in all) after each frame.

    Raises:
        RunDirectoryError: this is no run directory, or it holds no committed frames.
        AuditError: the audit cannot be carried out: no configuration, a final model that is missing or not the one that
            the run ended with, a folder that cannot be written.
    """
    began = time.perf_counter()
    record = read_record(run)
    require_final_model(run, record)
    evidence = gather(record, replay(run, record, progress))
    parts = judge_all(run, evidence)
    checks = tuple(check for part in parts for check in part.checks)
    findings = tuple(finding for part in parts for finding in part.findings)
    out = np.flatnonzero(out_of_tolerance(evidence.forces, record.config.audit))
    result = AuditResult(
        verdict=verdict(checks),
        checks=checks,
        findings=findings,
        first_out_of_tolerance=int(record.frames.step[out[0]]) if len(out) else None,
        path=run.audit / "audit.json",
    )
    _write(result, evidence, time.perf_counter() - began)
    return result


def gather(record: Record, replayed: Replay) -> Evidence:
    """Measure everything from a replayed record."""
    frames, particles = record.frames, record.particles
    books = reconcile(record, replayed.potential_final)
    flags = region_flags(frames, record.regions)
    temperature = record.config.dynamics.temperature_K
    return Evidence(
        record=record,
        replayed=replayed,
        books=books,
        forces=force_errors(frames, replayed.forces_final, flags, particles.numbers),
        drift_conserved=slope(frames.time, frames.conserved),
        drift_final=slope(frames.time, books.final_total),
        units=DriftUnits(atoms=frames.atoms, degrees_of_freedom=particles.degrees_of_freedom, temperature=temperature),
    )


def judge_all(run: RunDirectory, evidence: Evidence) -> list[Part]:
    """Every check and finding, in the order in which a person should read them."""
    record, tolerance = evidence.record, evidence.record.config.audit
    drift = Part(
        checks=(drift_check(evidence.drift_conserved, evidence.units, tolerance.drift_kT_per_ns_per_dof),),
        findings=tuple(
            drift_findings("conserved", evidence.drift_conserved, evidence.units)
            + drift_findings("final_total", evidence.drift_final, evidence.units)
            + _energy_findings(evidence)
        ),
    )
    return [
        integrity_part(run, record),
        reconcile_part(record, evidence.books),
        replay_part(record, evidence.replayed),
        force_part(record.frames, evidence.forces, tolerance),
        drift,
        learning_part(record.labels, record.models[0].id),
    ]


def _energy_findings(evidence: Evidence) -> list[Finding]:
    frames = evidence.record.frames
    difference = evidence.replayed.potential_final - frames.potential_used
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


def frame_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """One row of numbers for each frame; units in ``FRAME_UNITS``."""
    frames, books, replayed, forces = evidence.record.frames, evidence.books, evidence.replayed, evidence.forces
    rmse, largest = forces.per_frame()
    columns: dict[str, Any] = {
        "step": frames.step,
        "time_ps": frames.time,
        "model": frames.model_id,
        "region_epoch": frames.region_epoch,
        "core_atoms": (forces.flags == CORE).sum(axis=1),
        "region_atoms": (forces.flags >= BUFFER).sum(axis=1),
        "temperature_K": temperatures(evidence),
        "kinetic": books.kinetic,
        "potential_used": frames.potential_used,
        "potential_final": replayed.potential_final,
        "exchanged": books.exchanged,
        "conserved": frames.conserved,
        "final_total": books.final_total,
        "identity_residual": books.residual,
        "replay_energy_deviation": replayed.energy_deviation,
        "replay_force_deviation": replayed.force_deviation,
        "force_rmse": rmse,
        "force_maxresid": largest,
        **{f"force_rmse_{name}": forces.per_frame(flag)[0] for name, flag in CLASSES.items()},
        "max_disagreement": frames.disagreement.max(axis=1),
        "out_of_tolerance": out_of_tolerance(forces, evidence.record.config.audit),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def document(result: AuditResult, evidence: Evidence, wall_time_s: float) -> dict[str, Any]:
    """The content of audit.json."""
    record = evidence.record
    symbols = Counter(SYMBOLS.get(int(z), f"Z{z}") for z in record.particles.numbers)
    return {
        "format_version": FORMAT_VERSION,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "checks": [asdict(check) for check in result.checks],
        "findings": [asdict(finding) for finding in result.findings],
        "first_out_of_tolerance": result.first_out_of_tolerance,
        "tolerances": record.config.audit.model_dump(),
        "system": {
            "title": record.config.title,
            "formula": "".join(f"{s}{n if n > 1 else ''}" for s, n in sorted(symbols.items())),
            "atoms": record.frames.atoms,
            "periodic": record.particles.periodic,
            "degrees_of_freedom": record.particles.degrees_of_freedom,
        },
        "drift": {"conserved": asdict(evidence.drift_conserved), "final_total": asdict(evidence.drift_final)},
        "models": [asdict(row) for row in record.models],
        "updates": [asdict(update) for update in evidence.replayed.updates],
        "worst_atoms": worst_atoms(record.frames, evidence.forces),
        "frame_units": FRAME_UNITS,
        "frames": frame_rows(evidence),
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
    text = json.dumps(plain(document(result, evidence, wall_time_s)), indent=1, allow_nan=False, ensure_ascii=False)
    folder, frames = result.path.parent, evidence.record.frames
    try:
        folder.mkdir(exist_ok=True)
        part = result.path.with_suffix(".json.part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(result.path)
        replayed = evidence.replayed
        with (folder / "final_model.npz").open("wb") as file:
            np.savez(file, step=frames.step, potential=replayed.potential_final, forces=replayed.forces_final)
    except OSError as error:
        raise AuditError(
            f"cannot write the audit to {folder}: {error.strerror}", cure="make the folder writable, or free some space"
        ) from error
