"""``audit.json``: what an audit found, for a program to read."""

import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ensemble.card import SYMBOLS
from ..errors import AuditError
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .findings import plain
from .gather import Evidence
from .record import region_sizes

if TYPE_CHECKING:
    from .audit import AuditResult

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


def document(result: "AuditResult", evidence: Evidence, wall_time_s: float) -> dict[str, Any]:
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
        "diagnoses": [asdict(diagnosis) for diagnosis in result.diagnoses],
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


def write_document(result: "AuditResult", evidence: Evidence, wall_time_s: float) -> None:
    """Write ``audit/audit.json``, one frame after the other.

    Raises:
        AuditError: it cannot be written.
    """
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
