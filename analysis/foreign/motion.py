"""Judgements of a foreign trajectory that need neighbouring frames: work, velocities, and what moved the atoms."""

import math

import numpy as np

from ...records.frames import Floats
from ...units import FS_PER_PS
from ..causes.classes import Fit, fit
from ..findings import Finding, Kind, Part, judge
from .checks import (
    ERRORS,
    MOTION_TOLERANCE,
    OFFSET_TOLERANCE,
    ROUNDING_SHARE,
    UNEXPLAINED_TOLERANCE,
    VELOCITY_TOLERANCE,
    WORK_TOLERANCE,
    Options,
    dense,
    missing,
    position_rounding,
    spacing,
)
from .sums import Series
from .trajectory import Foreign


def work_fit(foreign: Foreign, series: Series) -> Fit:
    """Changes of the stored energy on the work of the stored forces."""
    if not {"potential", "forces"} <= foreign.carries:
        return Fit(factor=math.nan, error=math.nan, unexplained=math.nan, before=math.nan)
    return fit(series.array("work"), np.diff(series.array("potential")))


def work_part(foreign: Foreign, series: Series) -> Part:
    """Stored forces against stored energies: no model is needed to see that they belong to each other."""
    lacking = "" if {"potential", "forces"} <= foreign.carries else "forces and potential energies in the files"
    lacking = lacking or dense(foreign, series)
    if lacking:
        return missing("work", Kind.PHYSICS, lacking)
    found = work_fit(foreign, series)
    problems = []
    if not abs(found.factor - 1.0) <= WORK_TOLERANCE + ERRORS * found.error:
        problems.append(f"the work of the stored forces is {found.factor:.4g} times the change of the stored energy")
    fine = f"the work of the stored forces is {found.factor:.4f} times the change of the stored energy"
    finding = Finding(name="work_factor", value=found.factor, expected=1.0, standard_error=found.error, unit="1")
    return Part(checks=(judge("work", Kind.PHYSICS, problems, fine),), findings=(finding,))


def velocity_fit(series: Series) -> tuple[Fit, float, float]:
    """Stored velocities on ``c v̂ + τ a``: the factor c, τ in ps, and the standard error of τ."""
    sums = np.array(series.velocity).reshape(-1, 6)
    vv, va, aa, vs, as_, ss = sums.sum(axis=0)
    normal = np.array([[vv, va], [va, aa]])
    if not np.isfinite(sums).all() or np.linalg.det(normal) <= 0:
        return Fit(factor=math.nan, error=math.nan, unexplained=math.nan, before=math.nan), math.nan, math.nan
    factor, offset = np.linalg.solve(normal, [vs, as_])
    # Scatter of single frames about the fit: frames, not atoms, are what is independent at best.
    scatter = sums[:, 4] - factor * sums[:, 1] - offset * sums[:, 2]
    error = math.sqrt(float(scatter @ scatter)) / aa
    per_frame = sums[:, 3] - factor * sums[:, 0] - offset * sums[:, 1]
    left = max(0.0, ss - factor * vs - offset * as_)
    found = Fit(
        factor=float(factor),
        error=math.sqrt(float(per_frame @ per_frame)) / vv,
        unexplained=math.sqrt(left / ss) if ss else math.nan,
        before=math.sqrt(max(0.0, ss - 2 * vs + vv) / vv),
    )
    return found, float(offset), error


def velocity_part(foreign: Foreign, series: Series) -> Part:
    """Whether stored velocities are those of the stored positions, at their time and on their scale."""
    lacking = "" if "velocities" in foreign.carries else "velocities in the files"
    lacking = lacking or dense(foreign, series) or _too_coarse(foreign, series, of_second=False)
    if lacking:
        return missing("velocities", Kind.INTEGRITY, lacking)
    found, offset, error = velocity_fit(series)
    h, problems = spacing(series), []
    if not abs(found.factor - 1.0) <= VELOCITY_TOLERANCE + ERRORS * found.error:
        problems.append(f"stored velocities are {found.factor:.4g} times those of the motion")
    elif not abs(offset) <= OFFSET_TOLERANCE * h + ERRORS * error:
        problems.append(
            f"stored velocities belong to a time {offset * FS_PER_PS:+.3f} ± {error * FS_PER_PS:.1g} fs off "
            "their positions"
        )
    fine = f"stored velocities are {found.factor:.4f} times those of the motion, {offset * FS_PER_PS:+.1g} fs off"
    findings = (
        Finding(name="velocity_factor", value=found.factor, expected=1.0, standard_error=found.error, unit="1"),
        Finding(
            name="velocity_offset", value=offset * FS_PER_PS, expected=0.0, standard_error=error * FS_PER_PS, unit="fs"
        ),
    )
    return Part(checks=(judge("velocities", Kind.INTEGRITY, problems, fine),), findings=findings)


def motion_fit(series: Series) -> Fit:
    """Observed accelerations on those of the model, mass-weighted."""
    cross, model, observed = np.array(series.second).reshape(-1, 3).T
    if not model.sum() > 0 or not observed.sum() > 0:
        return Fit(factor=math.nan, error=math.nan, unexplained=math.nan, before=math.nan)
    factor = float(cross.sum() / model.sum())
    scatter = cross - factor * model
    return Fit(
        factor=factor,
        error=math.sqrt(float(scatter @ scatter)) / float(model.sum()),
        unexplained=math.sqrt(max(0.0, float(observed.sum() - factor * cross.sum())) / float(observed.sum())),
        before=math.sqrt(max(0.0, float((observed - 2 * cross + model).sum())) / float(model.sum())),
    )


def motion_part(foreign: Foreign, series: Series, options: Options) -> Part:
    """Whether the stored positions moved as the model would have moved them."""
    lacking = dense(foreign, series) or _too_coarse(foreign, series, of_second=True)
    if lacking:
        return missing("motion", Kind.FORCES, lacking)
    found, problems = motion_fit(series), []
    if not abs(found.factor - 1.0) <= MOTION_TOLERANCE + ERRORS * found.error:
        problems.append(f"the atoms accelerated {found.factor:.4g} times as the model says")
    elif options.ensemble == "nve" and not found.unexplained <= UNEXPLAINED_TOLERANCE:
        worst = _worst_frame(series, found.factor)
        problems.append(
            f"the model leaves {found.unexplained:.3g} of the accelerations unexplained, most in frame {worst}"
        )
    fine = f"the atoms accelerated {found.factor:.4f} times as the model says; {found.unexplained:.2g} is left"
    findings = (
        Finding(name="acceleration_factor", value=found.factor, expected=1.0, standard_error=found.error, unit="1"),
        Finding(name="acceleration_unexplained", value=found.unexplained, expected=0.0, unit="1"),
    )
    return Part(checks=(judge("motion", Kind.FORCES, problems, fine),), findings=findings)


def _left(series: Series, factor: float) -> Floats:
    """Square of what the model leaves of the accelerations, by inner frame."""
    cross, model, observed = np.array(series.second).reshape(-1, 3).T
    result: Floats = observed - 2 * factor * cross + factor**2 * model
    return result


def _worst_frame(series: Series, factor: float) -> int:
    return 1 + int(np.nanargmax(_left(series, factor)))


def worst_share(series: Series, factor: float) -> float:
    """Share of the two worst stencils in all that is unexplained: one lost frame spoils two."""
    left = np.sort(_left(series, factor))
    return float(left[-2:].sum() / left.sum()) if left.sum() > 0 else 0.0


def _too_coarse(foreign: Foreign, series: Series, *, of_second: bool) -> str:
    """Empty if rounding of positions is small beside what neighbouring frames tell."""
    h, variance = spacing(series), position_rounding(foreign) ** 2 / 3.0
    total = 3.0 * float(foreign.masses.sum()) * variance
    second = np.array(series.second).reshape(-1, 3)
    if of_second:
        noise, signal = 6.0 * total / h**4, float(second[:, 1].mean())
    else:
        noise, signal = total / (2.0 * h**2), float(np.mean(np.array(series.velocity).reshape(-1, 6)[:, 0]))
    if noise <= ROUNDING_SHARE * signal:
        return ""
    return f"positions stored more finely: rounding carries {noise / signal:.2g} of what neighbouring frames tell"
