"""What a report is made from: the audit, the tables of the run, and the names of the atoms."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...errors import AuditError
from ...records.books import Entry
from ...records.rows import Event, LabelRow, ModelRow, RegionRow
from ...records.run_directory import RunDirectory
from ...records.segment import read_particles
from ...units import PS_PER_FS
from ..document import FORMAT_VERSION
from ..naming import Names, names
from ..record import Voided, read_config, read_tables

#: One point of a learning curve: epoch, force RMSE (eV/Å), largest residual (eV/Å).
Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAttempt:
    """One attempt to change the model, accepted or refused.

    Attributes:
        step, time: when it began, the latter in ps.
        policy: how the new model took over: `abrupt`, `ramp` or `rewind`; empty for a refused update.
        steps: of the ramp; 0 if it came at once.
        accepted: whether the new model moved atoms.
        why: one line of the event.
        data: numbers of the event or of the model row.
        booked, recomputed: ΔU in kJ/mol; NaN for a refused update.
    """

    step: int
    time: float
    policy: str
    steps: int
    accepted: bool
    why: str
    data: dict[str, Any]
    booked: float
    recomputed: float

    @property
    def curve(self) -> Curve:
        """Learning curve, shape (rows, 3); no rows if none was kept."""
        return np.array(self.data.get("learning_curve") or np.empty((0, 3)), dtype=np.float64).reshape(-1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything a report tells."""

    root: Path
    audit: dict[str, Any]
    config: Config
    entries: list[Entry]
    events: list[Event]
    regions: list[RegionRow]
    models: list[ModelRow]
    labels: list[LabelRow]
    timings: dict[str, tuple[float, int]]
    voided: Voided
    names: Names
    attempts: list[UpdateAttempt]

    def series(self, name: str) -> NDArray[np.float64]:
        """One column of the frames, shape (f,); NaN where the audit has no number."""
        return np.array([np.nan if row[name] is None else row[name] for row in self.audit["frames"]], dtype=np.float64)

    def time_of(self, step: int) -> float:
        """Time of a step, ps."""
        return step * self.config.dynamics.timestep_fs * PS_PER_FS

    def accepted_times(self) -> list[float]:
        """Times of accepted updates, ps."""
        return [attempt.time for attempt in self.attempts if attempt.accepted]

    def ramps(self) -> list[tuple[float, float]]:
        """Begin and end of each ramp, ps."""
        return [
            (attempt.time, self.time_of(attempt.step + attempt.steps)) for attempt in self.attempts if attempt.steps
        ]

    def rewinds(self) -> list[tuple[int, int]]:
        """Steps from which the run went back, and to which."""
        rows = [event.data for event in self.events if event.kind == "rewind"]
        return [(int(row["from_step"]), int(row["to_step"])) for row in rows]

    def refused_times(self) -> list[float]:
        """Times of refused updates, ps."""
        return [attempt.time for attempt in self.attempts if not attempt.accepted]


def read_story(run: RunDirectory) -> Story:
    """Read the last audit and the tables of a run.

    Raises:
        AuditError: there is no audit yet, or it was written by another version.
        RunDirectoryError: this is no run directory.
    """
    tables = read_tables(run)
    audit = _read_audit(run)
    particles = read_particles(run.root / tables.pop("segments")[0].file)
    config = read_config(run)
    return Story(
        root=run.root,
        audit=audit,
        config=config,
        names=names(particles),
        attempts=_attempts(audit, tables["events"]),
        **tables,
    )


def _read_audit(run: RunDirectory) -> dict[str, Any]:
    path, cure = run.audit / "audit.json", "run `qmml audit RUN` first"
    try:
        audit: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AuditError(f"{run.root} has not been audited yet", cure=cure) from error
    except (OSError, ValueError) as error:
        raise AuditError(f"{path} cannot be read: {error}", cure=cure) from error
    if audit.get("format_version") != FORMAT_VERSION:
        raise AuditError(f"{path} was written by another version of qmml-md", cure=cure)
    return audit


def _attempts(audit: dict[str, Any], events: list[Event]) -> list[UpdateAttempt]:
    message = {event.step: event.message for event in events if event.kind == "update_accepted"}
    rows = [
        UpdateAttempt(
            step=row["step"],
            time=row["time"],
            policy=row["policy"],
            steps=row["steps"],
            accepted=True,
            why=message.get(row["step"] + row["steps"], ""),
            data=row["data"],
            booked=float("nan") if row["booked"] is None else row["booked"],
            recomputed=float("nan") if row["recomputed"] is None else row["recomputed"],
        )
        for row in audit["updates"]
    ]
    rows += [
        UpdateAttempt(
            step=event.step,
            time=event.time,
            policy="",
            steps=0,
            accepted=False,
            why=event.message,
            data=event.data,
            booked=float("nan"),
            recomputed=float("nan"),
        )
        for event in events
        if event.kind == "update_refused"
    ]
    return sorted(rows, key=lambda row: (row.step, row.accepted))
