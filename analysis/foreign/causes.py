"""Causes of what failed in a foreign trajectory, by the factors and offsets that were fitted."""

from collections.abc import Iterator, Sequence

import numpy as np

from ...units import FS_PER_PS
from ..causes.classes import Cause, Diagnosis, Fit, cause_of_factor, fit, unit_of_factor
from ..findings import Check, Finding, Status
from .checks import OFFSET_TOLERANCE, VELOCITY_TOLERANCE, spacing
from .motion import motion_fit, velocity_fit, work_fit, worst_share
from .sums import Series
from .trajectory import Foreign

#: Two stencils that carry more than this of all that is unexplained are one event, not a surface that differs.
ONE_EVENT = 0.8


def foreign_diagnoses(foreign: Foreign, series: Series, checks: Sequence[Check]) -> tuple[Diagnosis, ...]:
    """Likely causes, most likely first; none where nothing failed."""
    failed = {check.name for check in checks if check.status == Status.FAIL}
    if not failed:
        return ()
    found = list(_all(foreign, series, failed))
    if not found:
        found = [Diagnosis(cause=Cause.UNKNOWN, why=f"failed: {', '.join(sorted(failed))}", strength=0.0)]
    return tuple(sorted(found, key=lambda each: -each.strength))


def _all(foreign: Foreign, series: Series, failed: set[str]) -> Iterator[Diagnosis]:
    if "order" in failed:
        yield Diagnosis(cause=Cause.FRAMES, why="frames are missing, repeated or out of order", strength=0.9)
    if "forces" in failed:
        yield from _forces(series)
    elif "work" in failed:
        scaled = cause_of_factor(work_fit(foreign, series), "forces")
        if scaled is not None:
            yield scaled
    if "energies" in failed:
        yield from _energies(series, forces_failed="forces" in failed)
    if {"velocities", "kinetic"} & failed and len(series.velocity) > 2:
        yield from _velocities(series)
    if "motion" in failed:
        yield from _motion(series, forces_failed="forces" in failed)
    if failed == {"conservation"}:
        why = "K + U drifts while forces and velocities are those of the model: the time step is too long"
        yield Diagnosis(cause=Cause.TIMESTEP, why=why, strength=0.6)


def _forces(series: Series) -> Iterator[Diagnosis]:
    model, stored, cross = (series.array(f"force_{name}").sum() for name in ("model", "stored", "cross"))
    factor = float(cross / model)
    left = max(0.0, float(stored - factor * cross))
    found = Fit(factor=factor, error=0.0, unexplained=float(np.sqrt(left / stored)), before=0.0)
    scaled = cause_of_factor(found, "forces")
    if scaled is not None:
        yield scaled
    else:
        yield _differs(f"stored forces are {factor:.3f} times the model's, {found.unexplained:.2g} of them unexplained")


def _differs(why: str) -> Diagnosis:
    return Diagnosis(cause=Cause.MODEL_DIFFERS, why=f"{why}: another surface than these weights", strength=0.5)


def _energies(series: Series, *, forces_failed: bool) -> Iterator[Diagnosis]:
    stored, model = series.array("potential"), series.array("model")
    found = fit(stored - np.nanmean(stored), model - np.nanmean(model))
    if unit_of_factor(found.factor) is not None and found.unexplained < 0.5:
        scaled = cause_of_factor(found, "energies")
        if scaled is not None:
            yield scaled
    elif not forces_failed and "nan" not in str(found.factor):
        yield _differs(f"stored energies are {found.factor:.3f} times the model's, {found.unexplained:.2g} unexplained")


def _velocities(series: Series) -> Iterator[Diagnosis]:
    found, offset, error = velocity_fit(series)
    unit = unit_of_factor(found.factor)
    evidence = (Finding(name="velocity_offset", value=offset * FS_PER_PS, standard_error=error * FS_PER_PS, unit="fs"),)
    if unit is not None:
        why = f"stored velocities are {found.factor:.5g} times those of the motion: {unit}"
        yield Diagnosis(cause=Cause.UNIT, why=why, strength=0.95)
    elif abs(offset) > OFFSET_TOLERANCE * spacing(series) and abs(found.factor - 1.0) < 2 * VELOCITY_TOLERANCE:
        why = (
            f"stored velocities belong to a time {offset * FS_PER_PS:+.3f} fs off their positions, as a leap-frog or a "
            "middle scheme leaves them"
        )
        yield Diagnosis(cause=Cause.OFF_STEP, why=why, strength=0.9, evidence=evidence)


def _motion(series: Series, *, forces_failed: bool) -> Iterator[Diagnosis]:
    found = motion_fit(series)
    if worst_share(series, found.factor) > ONE_EVENT:
        why = "one place of the trajectory carries what the model leaves unexplained: a frame is missing or misplaced"
        yield Diagnosis(cause=Cause.FRAMES, why=why, strength=0.85)
        return
    scaled = cause_of_factor(found, "accelerations")
    if scaled is not None and not (forces_failed and scaled.cause == Cause.NOT_GRADIENT):
        why = f"{scaled.why} (of lengths, times or masses)"
        yield Diagnosis(cause=scaled.cause, why=why, strength=0.6, evidence=scaled.evidence)
    elif not forces_failed:
        yield _differs(f"the model leaves {found.unexplained:.2g} of the observed accelerations unexplained")
