"""Is the record what was written, in the order in which it happened, and one continuous motion?"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import AuditError
from ..records.frames import ARRAYS, Floats
from ..records.run_directory import RunDirectory
from .findings import Check, Finding, Kind, Part, Status, judge
from .record import Record

#: Stored times may differ from step × time step by this part of a step: far above rounding, far below one step.
TIME_TOLERANCE_STEPS = 0.01

#: Highest vibrational frequency of a molecule, rad/ps: an O–H stretch of 3800 cm⁻¹.
FASTEST_VIBRATION_PER_PS = 716.0
#: Longest phase ωΔt that the interpolation bridges: at 4 it misses up to 0.37 of the path, see ``unexplained_motion``.
LONGEST_PHASE = 4.0
#: Largest γΔt: random kicks then leave below sqrt(2γΔt/12) = 0.2 of the path unexplained.
LARGEST_FRICTION = 0.25
#: Frames of one motion stay below 0.4 (see above), unrelated frames lie at 0.7 or more.
LARGEST_UNEXPLAINED = 0.5


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_final_model(run: RunDirectory, record: Record) -> None:
    """The final model must be the file that the run wrote: without it there is nothing to audit with.

    Raises:
        AuditError: the file is missing, or its hash is not its name.
    """
    path, name = run.model(record.models[-1].id), record.models[-1].id
    if not path.exists():
        raise AuditError(f"the final model {path} is missing", cure="restore it from a copy of the run directory")
    found = sha256(path)
    if found != name:
        raise AuditError(
            f"the final model {path.name} has SHA-256 {found}: it is not the model that the run ended with",
            cure="restore it from a copy of the run directory; an audit with another model would say nothing",
        )


def integrity_part(run: RunDirectory, record: Record) -> Part:
    """The checks ``files``, ``order``, ``models`` and ``continuity``."""
    files = f"{len(record.segments)} segments and {len(record.models)} models have the hashes that the run recorded"
    order = f"{len(record.frames)} frames in order of time, step × time step = time, all numbers finite"
    models = "every frame ran on the model in force at its step"
    motion, finding = continuity(record)
    return Part(
        checks=(
            judge("files", Kind.INTEGRITY, file_problems(run, record), files),
            judge("order", Kind.INTEGRITY, order_problems(record), order),
            judge("models", Kind.INTEGRITY, model_problems(record), models),
            motion,
        ),
        findings=(finding,),
    )


def file_problems(run: RunDirectory, record: Record) -> Iterator[str]:
    """Files that are missing, or not what the run wrote."""
    for row in record.segments:
        if sha256(run.root / row.file) != row.sha256:
            yield f"{row.file} is not the file that the run wrote (its hash differs)"
    for model in record.models:
        path = run.model(model.id)
        if not path.exists():
            yield f"model {model.id[:12]} is missing"
        elif sha256(path) != model.id:
            yield f"model {model.id[:12]} is not the file that the run wrote (its hash differs)"


def order_problems(record: Record) -> Iterator[str]:
    """Frames out of order, off the clock, outside their segment, in an unknown region, or not finite."""
    frames = record.frames
    for i in np.flatnonzero(np.diff(frames.step) <= 0):
        yield f"the frame of step {frames.step[i + 1]} comes after the frame of step {frames.step[i]}"
    off = np.abs(frames.time - frames.step * record.timestep_ps) > TIME_TOLERANCE_STEPS * record.timestep_ps
    for i in np.flatnonzero(off):
        yield f"the frame of step {frames.step[i]} has the time {frames.time[i]:g} ps"
    start = 0
    for row in record.segments:
        steps = frames.step[start : start + row.frames]
        start += row.frames
        if len(steps) != row.frames or steps[0] != row.first_step or steps[-1] != row.last_step:
            yield f"{row.file} does not span steps {row.first_step} to {row.last_step} in {row.frames} frames"
    if start != len(frames):
        yield f"the segments hold {len(frames)} frames, the database counts {start}"
    yield from _region_problems(record)
    for name in ARRAYS:
        if name != "disagreement" and not np.isfinite(getattr(frames, name)).all():
            yield f"{name} holds numbers that are not finite"


def _region_problems(record: Record) -> Iterator[str]:
    began = {row.epoch: row.step for row in record.regions}
    # Epoch 0 is the empty region before the first look; it needs no row.
    began.setdefault(0, 0)
    for step, epoch in zip(record.frames.step, record.frames.region_epoch, strict=True):
        if int(epoch) not in began:
            yield f"the frame of step {step} names region epoch {epoch}, which the database does not know"
        elif began[int(epoch)] > step:
            yield f"the frame of step {step} names region epoch {epoch}, which began at step {began[int(epoch)]}"


def model_problems(record: Record) -> Iterator[str]:
    """Frames and segments that name another model than the one in force; a swap at step s acts on frames after s."""
    starts = np.array([row.step for row in record.models])
    ids = [row.id for row in record.models]
    if (np.diff(starts) < 0).any():
        yield "the models are not in the order of time"
    for child, parent in zip(record.models[1:], ids, strict=False):
        if child.parent != parent:
            yield f"model {child.id[:12]} names the parent {child.parent[:12]}, but {parent[:12]} came before it"
    for step, name in zip(record.frames.step, record.frames.model_id, strict=True):
        expected = ids[max(int(np.searchsorted(starts, step, side="left")) - 1, 0)]
        if name != expected:
            yield f"the frame of step {step} names model {name[:12]}, but {expected[:12]} was in force"
    held = dict(zip(record.frames.step.tolist(), record.frames.model_id, strict=True))
    for row in record.segments:
        if held.get(row.first_step) != row.model:
            yield f"{row.file} names another model than its row in the database"


def unexplained_motion(record: Record) -> Floats:
    """How much of the way between neighbouring frames their velocities and forces do not explain, shape (f − 1,).

    A motion with accelerations a obeys ``Δx = ½(v₀+v₁)Δt + (a₀−a₁)Δt²/12 + O(Δt⁵)``. The mass-weighted norm of what is
    left is divided by that of ``vΔt`` (of the two frames or of the mean frame, whichever moves faster). For a vibration
    of phase θ = ωΔt the ratio is at most ``2√2|sin(θ/2)(1−θ²/12) − (θ/2)cos(θ/2)|/θ``: 0.002 at θ = 1, 0.03 at 2, 0.37
    at 4. Between unrelated frames it is about √½ or more, as the mean of two independent velocities is that long.
    NaN where nothing moves, or where frames lie too far apart for the formula.
    """
    frames, masses = record.frames, record.particles.masses
    dt = np.diff(frames.step) * record.timestep_ps
    velocity = 0.5 * (frames.velocities[:-1] + frames.velocities[1:])
    a = frames.forces_used / masses[None, :, None]
    predicted = velocity * dt[:, None, None] + (a[:-1] - a[1:]) * dt[:, None, None] ** 2 / 12.0
    left = np.diff(frames.positions, axis=0) - predicted
    squares = np.einsum("fni,n->f", frames.velocities**2, masses)
    path = np.maximum(0.5 * (squares[:-1] + squares[1:]), squares.mean()) * dt**2
    gamma = record.config.dynamics.friction_per_ps if record.config.dynamics.integrator == "langevin" else 0.0
    usable = (dt > 0) & (dt * FASTEST_VIBRATION_PER_PS <= LONGEST_PHASE) & (gamma * dt <= LARGEST_FRICTION) & (path > 0)
    square = np.einsum("fni,n->f", left**2, masses)
    return np.where(usable, np.sqrt(square / np.where(usable, path, 1.0)), np.nan)


def continuity(record: Record) -> tuple[Check, Finding]:
    """Judge whether neighbouring frames belong to one motion."""
    ratio = unexplained_motion(record)
    known = np.isfinite(ratio)
    largest = float(ratio[known].max()) if known.any() else float("nan")
    finding = Finding(name="unexplained_motion_max", value=largest, expected=0.0, unit="1")
    if not known.any():
        why = "frames lie too far apart (more than about 5 fs) to tell whether they belong to one motion"
        return Check(name="continuity", kind=Kind.INTEGRITY, status=Status.NOT_APPLICABLE, why=why), finding
    bad = np.flatnonzero(known & (ratio > LARGEST_UNEXPLAINED))
    steps = record.frames.step
    problems = [
        f"between steps {steps[i]} and {steps[i + 1]} velocities and forces leave {ratio[i]:.2f} of the way unexplained"
        for i in bad
    ]
    fine = f"velocities and forces explain the way between frames: at most {largest:.2g} of it is left"
    return judge("continuity", Kind.INTEGRITY, problems, fine), finding
