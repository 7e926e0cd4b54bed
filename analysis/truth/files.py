"""Is the record what was written, in the order in which it happened?"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import AuditError
from ...records.run_directory import RunDirectory
from ..findings import Kind, Part, judge
from ..record import Record
from .takeovers import Schedule

#: Stored times may differ from step × time step by this part of a step: far above rounding, far below one step.
TIME_TOLERANCE_STEPS = 0.01
#: A weight k/n of a ramp is one rounding off, however it was computed.
WEIGHT_ROUNDING = 1e-9


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_final_model(run: RunDirectory, record: Record) -> None:
    """The final model must be the file that the run wrote: without it there is nothing to audit with.

    Raises:
        AuditError: the file is missing, or its hash is not its name.
    """
    path, name = run.model(record.final_model), record.final_model
    if not path.exists():
        raise AuditError(f"the final model {path} is missing", cure="restore it from a copy of the run directory")
    found = sha256(path)
    if found != name:
        raise AuditError(
            f"the final model {path.name} has SHA-256 {found}: it is not the model that the run ended with",
            cure="restore it from a copy of the run directory; an audit with another model would say nothing",
        )


def integrity_part(run: RunDirectory, record: Record, not_finite: frozenset[str]) -> Part:
    """The checks ``files``, ``order`` and ``models``.

    Args:
        run: the run.
        record: what it wrote down.
        not_finite: names of the arrays of ``Frames`` that hold a number that is not finite.
    """
    files = f"{len(record.segments)} segments and {len(record.models)} models have the hashes that the run recorded"
    order = f"{len(record)} frames in order of time, step × time step = time, all numbers finite"
    models = "every frame ran on the model in force at its step"
    return Part(
        checks=(
            judge("files", Kind.INTEGRITY, file_problems(run, record), files),
            judge("order", Kind.INTEGRITY, order_problems(record, not_finite), order),
            judge("models", Kind.INTEGRITY, model_problems(record), models),
        )
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


def order_problems(record: Record, not_finite: frozenset[str]) -> Iterator[str]:
    """Frames out of order, off the clock, outside their segment, in an unknown region, or not finite."""
    frames = record.series
    for i in np.flatnonzero(np.diff(frames.step) <= 0):
        yield f"the frame of step {frames.step[i + 1]} comes after the frame of step {frames.step[i]}"
    off = np.abs(frames.time - frames.step * record.timestep_ps) > TIME_TOLERANCE_STEPS * record.timestep_ps
    for i in np.flatnonzero(off):
        yield f"the frame of step {frames.step[i]} has the time {frames.time[i]:g} ps"
    for k, row in enumerate(record.segments):
        steps = frames.step[frames.segment == k]
        if len(steps) != row.frames or not len(steps) or steps[0] != row.first_step or steps[-1] != row.last_step:
            yield f"{row.file} does not span steps {row.first_step} to {row.last_step} in {row.frames} frames"
    yield from _region_problems(record)
    for name in sorted(not_finite):
        yield f"{name} holds numbers that are not finite"


def _region_problems(record: Record) -> Iterator[str]:
    began = {row.epoch: row.step for row in record.regions}
    # Epoch 0 is the empty region before the first look; it needs no row.
    began.setdefault(0, 0)
    for step, epoch in zip(record.series.step, record.series.region_epoch, strict=True):
        if int(epoch) not in began:
            yield f"the frame of step {step} names region epoch {epoch}, which the database does not know"
        elif began[int(epoch)] > step:
            yield f"the frame of step {step} names region epoch {epoch}, which began at step {began[int(epoch)]}"


def model_problems(record: Record) -> Iterator[str]:
    """Frames and segments that name another model (or blend) than the one in force at their step."""
    series, models = record.series, record.models
    if (np.diff([row.step for row in models]) < 0).any():
        yield "the models are not in the order of time"
    for child, parent in zip(models[1:], models[:-1], strict=True):
        if child.parent != parent.id:
            yield f"model {child.id[:12]} names the parent {child.parent[:12]}, but {parent.id[:12]} came before it"
    schedule = Schedule(models[0].id, record.takeovers)
    for i, step in enumerate(series.step):
        model, blend, weight = schedule.at(int(step))
        if series.model_id[i] != model:
            yield f"the frame of step {step} names model {series.model_id[i][:12]}, but {model[:12]} was in force"
        named, share = series.blend_id[i], float(series.blend[i])
        if (named or blend) and (named != blend or abs(share - weight) > WEIGHT_ROUNDING):
            yield (
                f"the frame of step {step} names the blend {named[:12] or 'none'} with λ = {share:g}, "
                f"but {blend[:12] or 'none'} with λ = {weight:g} was in force"
            )
    held = {int(step): i for i, step in enumerate(series.step)}
    for row in record.segments:
        at = held.get(row.first_step)
        if at is None or (series.model_id[at], series.blend_id[at]) != (row.model, row.blend):
            yield f"{row.file} names another model than its row in the database"
