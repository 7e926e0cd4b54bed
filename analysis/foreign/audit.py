"""The audit of a trajectory that another program made, with a weights file.

``read_foreign`` takes H5MD (.h5md, .h5), extended XYZ (.extxyz, .xyz), or an OpenMM DCD with the table of its
StateDataReporter (.dcd with .csv, .log, .txt or .dat). ``audit_foreign`` reads it once, evaluates every frame with the
model, and makes each check that the files allow; the others are ``not_applicable`` and name what would be needed.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...ensemble.model import AniEnsemble
from ...errors import AuditError
from ...system.structures import read_structure
from ...units import PS_PER_FS
from ..causes.classes import Diagnosis
from ..findings import EXIT_CODES, Check, Finding, Status, plain, verdict
from .causes import foreign_diagnoses
from .checks import (
    Options,
    conservation_part,
    energy_part,
    force_part,
    kinetic_part,
    momentum_part,
    order_part,
)
from .extxyz import read_extxyz
from .h5md import read_h5md
from .motion import motion_part, velocity_part, work_part
from .openmm_files import read_dcd
from .sums import Series, measure
from .trajectory import Foreign, guarded, reading
from .units import DIMENSIONS, factor_of

FORMAT_VERSION = 1
TABLES = frozenset({".csv", ".log", ".txt", ".dat", ".tsv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAudit:
    """What the audit of a foreign trajectory came to.

    Attributes:
        verdict: ``pass``, ``fail`` or ``undecided``; checks that could not be made do not enter.
        checks: the judgements.
        findings: the numbers they were made from.
        diagnoses: likely causes of what failed, most likely first.
        path: of audit.json; None if nothing was written.
    """

    verdict: Status
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    diagnoses: tuple[Diagnosis, ...]
    path: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 could not be decided."""
        return EXIT_CODES[self.verdict]


def read_foreign(
    paths: Sequence[Path],
    *,
    topology: Path | None = None,
    units: Mapping[str, str] | None = None,
    spacing_fs: float | None = None,
) -> Foreign:
    """Open a trajectory of another program.

    Args:
        paths: one H5MD or extended XYZ file, or a DCD and the table of its energies in any order.
        topology: PDB, PDBx/mmCIF or XYZ file with the same atoms in the same order, where the trajectory names none.
        units: units by quantity (``positions``, ``velocities``, ``forces``, ``energies``, ``time``, …) that go before
            what the files declare.
        spacing_fs: time between frames, where the files hold no times.

    Raises:
        AuditError: the files are missing, of another kind, do not belong together, or leave a unit open.
        StructureError: the topology cannot be read.
    """
    declared = dict(units or {})
    unknown = declared.keys() - DIMENSIONS.keys()
    if unknown:
        raise AuditError(f"`{min(unknown)}` is no quantity with a unit", cure=f"use one of {', '.join(DIMENSIONS)}")
    for quantity, unit in declared.items():
        factor_of(quantity, unit, f"--unit {quantity}={unit}")
    if spacing_fs is not None and not 0.0 < spacing_fs < np.inf:
        raise AuditError(f"the spacing of {spacing_fs} fs is none", cure="give --spacing-fs a positive number")
    for path in paths:
        if not path.is_file():
            raise AuditError(f"{path} does not exist or is not a file", cure="give the path of the trajectory")
    spacing = None if spacing_fs is None else spacing_fs * PS_PER_FS
    with reading(paths):
        return guarded(_open(paths, topology, declared, spacing))


def _open(paths: Sequence[Path], topology: Path | None, declared: dict[str, str], spacing: float | None) -> Foreign:
    """The reader of a kind of files; arguments and errors as for ``read_foreign``."""
    atoms = None if topology is None else read_structure(topology, periodic=False)
    kinds = {path.suffix.lower(): path for path in paths}
    if len(kinds) == len(paths) == 1 and kinds.keys() <= {".extxyz", ".xyz"}:
        return read_extxyz(paths[0], declared, spacing)
    if len(kinds) == len(paths) == 1 and kinds.keys() <= {".h5md", ".h5", ".hdf5"}:
        return read_h5md(paths[0], declared, spacing, None if atoms is None else atoms.numbers)
    tables = sorted(kinds.keys() & TABLES)
    if ".dcd" in kinds and len(tables) == len(paths) - 1 <= 1:
        table = kinds[tables[0]] if tables else None
        return read_dcd(
            kinds[".dcd"], table, declared, spacing, None if atoms is None else (atoms.numbers, atoms.masses)
        )
    raise AuditError(
        f"{', '.join(str(p) for p in paths)}: no trajectory that can be read",
        cure="give one H5MD file (.h5md, .h5), one extended XYZ file (.extxyz), or a DCD with its table (.dcd, .csv)",
    )


def audit_foreign(
    foreign: Foreign,
    model: AniEnsemble,
    *,
    options: Options | None = None,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ForeignAudit:
    """Audit a trajectory with a model; memory grows by some twenty numbers per frame.

    Args:
        foreign: the trajectory.
        model: the surface that it is said to have moved on; in double precision rounding of the model stays out.
        options: what the user declares, and the tolerances.
        out: folder for ``audit.json``; made if missing. None writes nothing.
        progress: told (frames done, frames in all) after each frame.

    Raises:
        ElementError: the model does not know an element.
        AuditError: the trajectory cannot be read, or the folder not be written.
    """
    began = time.perf_counter()
    options = options or Options()
    series = measure(foreign, model, progress)
    rms = float(np.sqrt(np.mean(series.force_model) / (3 * len(foreign.numbers))))
    parts = [
        order_part(foreign, series),
        energy_part(foreign, series, options, rms),
        force_part(foreign, series, options),
        work_part(foreign, series),
        motion_part(foreign, series, options),
        velocity_part(foreign, series),
        kinetic_part(foreign, series),
        momentum_part(foreign, series, options),
        conservation_part(foreign, series, options),
    ]
    checks = tuple(check for part in parts for check in part.checks)
    result = ForeignAudit(
        verdict=verdict(checks),
        checks=checks,
        findings=tuple(finding for part in parts for finding in part.findings),
        diagnoses=foreign_diagnoses(foreign, series, checks),
        path=None if out is None else out / "audit.json",
    )
    if result.path is not None:
        _write(result.path, document(result, foreign, series, model, options, time.perf_counter() - began))
    return result


def document(
    result: ForeignAudit, foreign: Foreign, series: Series, model: AniEnsemble, options: Options, wall_time_s: float
) -> dict[str, Any]:
    """The content of audit.json."""
    columns = {"time_ps": series.time, "potential_model": series.model}
    columns |= {name: getattr(series, name) for name in ("potential", "kinetic", "total") if getattr(series, name)}
    return {
        "format_version": FORMAT_VERSION,
        "kind": "foreign trajectory",
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "checks": [asdict(check) for check in result.checks],
        "findings": [asdict(finding) for finding in result.findings],
        "diagnoses": [asdict(diagnosis) for diagnosis in result.diagnoses],
        "trajectory": {
            "files": [str(path) for path in foreign.sources],
            "atoms": len(foreign.numbers),
            "frames": foreign.frames,
            "periodic": foreign.periodic,
            "carries": sorted(foreign.carries),
            "units_declared": dict(foreign.units),
            "masses_declared": foreign.masses_declared,
        },
        "model": {"name": model.card.name, "level_of_theory": model.card.level_of_theory},
        "options": asdict(options),
        "frame_units": {name: "ps" if name == "time_ps" else "kJ/mol" for name in columns},
        "frames": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        "wall_time_s": wall_time_s,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".json.part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise AuditError(
            f"cannot write the audit to {path.parent}: {error.strerror}", cure="give a writable folder with --out"
        ) from error
