"""The drift identity: what the final model gains on the model in use, between exchanges, is work of their forces.

With U_u the model in use and f the final one, and whatever a thermostat does to the velocities,

    d(H_f − H_u)/dt = d(U_f − U_u)/dt = (F_u − F_f)·v = P.

So from any frame to the next the change of ``U_f − U_u`` must be ``∫ P dt``. The left side is made of energies, the
right side of forces, velocities and the clock: a frame, a unit, an exchange or a model that is wrong breaks it.

Stretches run from one exchange to the next. In each, P is integrated along a cubic spline through its frames; how far
that may be off is measured by integrating every second frame too. The spline converges with Δt⁴, so where frames are
dense the finer integral is some fifteen times better than the difference of the two; that difference is the bar. P
swings with up to twice the fastest vibration ω, and every second frame must still see it: ``4 ω Δt < π``, an interval
of 1.1 fs.

Velocities of a Verlet-like integrator are central differences of the positions: they fall short of the slope of the
path by the part ``(ω δt)²/6`` for a vibration ω at time step δt. Work is known no better than that part of how much
there is, for each of its two ends.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from ...records.books import Account
from ...records.frames import Floats, Ints
from ..findings import Check, Finding, Kind, Part, Status
from ..record import Record
from ..truth.motion import FASTEST_VIBRATION_PER_PS, broken
from ..truth.replay import Replay

#: A stretch needs so many frames for a spline through every second one.
MIN_FRAMES = 9
#: Longest interval between frames, ps; beyond it every second frame cannot see the fastest swing of the power.
LONGEST_INTERVAL_PS = float(np.pi) / (4.0 * FASTEST_VIBRATION_PER_PS)
#: With a bar wider than this part of what there is to explain, agreement says nothing.
WIDEST_BAR = 0.25
#: Exchanges at which a stretch ends: positions, velocities or the model jump.
ENDS = (Account.MODEL, Account.RAMP, Account.BAROSTAT, Account.COM, Account.VELOCITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Both sides of the identity over frames between two exchanges.

    Attributes:
        first_step, last_step: of its frames.
        frames: number of them.
        size: how much there is to explain: the spread of ``U_f − U_u``, kJ/mol.
        residual: largest difference of the two sides at any of its frames, kJ/mol.
        bar: how far the integral may be off, kJ/mol.
    """

    first_step: int
    last_step: int
    frames: int
    size: float
    residual: float
    bar: float


def stretches(record: Record, done: Replay) -> list[Stretch]:
    """Both sides of the identity for every stretch that is dense enough and did not run on the final model alone."""
    final, series = record.final_model, record.series
    found = []
    for rows in _between_exchanges(record):
        power, gap = done.power[rows].copy(), (done.potential_final - series.potential_used)[rows]
        # The frame of a swap holds the model that went; the stretch begins on the one that came.
        jump = done.jumps.get(int(series.step[rows[0]]))
        if jump is not None and _begins_at_swap(record, int(rows[0])):
            power[0], gap[0] = jump.power, done.potential_final[rows[0]] - jump.new
        known = np.isfinite(power) & np.isfinite(gap)
        time = series.time[rows][known]
        if known.sum() < MIN_FRAMES or np.diff(time).max() > LONGEST_INTERVAL_PS or np.diff(time).min() <= 0.0:
            continue
        if all(series.model_id[i] == final and not series.blend_id[i] for i in rows[1:]):
            continue
        found.append(_stretch(record, series.step[rows][known], time, power[known], gap[known], done.tolerance.energy))
    return found


def _between_exchanges(record: Record) -> list[Ints]:
    """Numbers of the frames of each stretch; the frame at a swap ends one and begins the next."""
    ends = broken(record, ENDS)
    rows: list[Ints] = []
    start = 0
    for i in [*np.flatnonzero(ends), len(record) - 1]:
        rows.append(np.arange(start, i + 1))
        start = int(i) if _begins_at_swap(record, int(i)) else int(i) + 1
    return [chosen for chosen in rows if len(chosen) >= MIN_FRAMES]


def _begins_at_swap(record: Record, i: int) -> bool:
    """Whether all that comes between a frame and the next is one swap of the model at the step of the frame."""
    series = record.series
    if i + 1 >= len(series):
        return False
    between = record.entries[max(int(series.entries[i]), 0) : max(int(series.entries[i + 1]), 0)]
    jumps = [entry for entry in between if entry.account in ENDS]
    return len(jumps) == 1 and jumps[0].account == Account.MODEL and jumps[0].step == series.step[i]


def _stretch(record: Record, steps: Ints, time: Floats, power: Floats, gap: Floats, tolerance: float) -> Stretch:
    change = gap - gap[0]
    work = _integral(time, power)
    coarse = _integral(time[::2], power[::2])
    size = float(np.ptp(change))
    # Both ends of a change carry the rounding of an energy, and the shortfall of the velocities.
    short = 2.0 * (FASTEST_VIBRATION_PER_PS * record.timestep_ps) ** 2 / 6.0 * size
    return Stretch(
        first_step=int(steps[0]),
        last_step=int(steps[-1]),
        frames=len(steps),
        size=size,
        residual=float(np.abs(change - work).max()),
        bar=float(np.abs(work[::2] - coarse).max()) + short + 2.0 * tolerance,
    )


def _integral(time: Floats, power: Floats) -> Floats:
    """Integral from the first time to each, by a cubic spline."""
    whole = CubicSpline(time, power).antiderivative()(time)
    result: Floats = whole - whole[0]
    return result


def identity_part(found: list[Stretch]) -> Part:
    """The check ``drift_identity`` with its numbers.

    Returns:
        ``not_applicable`` where frames are too sparse, or only the final model moved the atoms; ``fail`` where the two
        sides differ by more than the bar; ``undecided`` where they do not, but the bar is too wide to mean anything.
    """
    return Part(checks=(_check(found),), findings=_findings(found))


def _findings(found: list[Stretch]) -> tuple[Finding, ...]:
    if not found:
        return ()
    worst = max(found, key=lambda stretch: stretch.residual)
    return (
        Finding(name="drift_identity_residual", value=worst.residual, expected=0.0, unit="kJ/mol"),
        Finding(name="drift_identity_bar", value=worst.bar, unit="kJ/mol"),
        Finding(name="drift_identity_size", value=worst.size, unit="kJ/mol"),
        Finding(name="drift_identity_frames", value=float(sum(stretch.frames for stretch in found)), unit="1"),
    )


def _check(found: list[Stretch]) -> Check:
    if not found:
        why = (
            f"needs {MIN_FRAMES} frames on one earlier model, at most {LONGEST_INTERVAL_PS * 1e3:.1f} fs apart, "
            "with their forces; there are none"
        )
        return _judged(Status.NOT_APPLICABLE, why)
    bad = [stretch for stretch in found if not stretch.residual <= stretch.bar]
    if bad:
        worst = max(bad, key=lambda stretch: stretch.residual / stretch.bar)
        why = (
            f"from step {worst.first_step} to {worst.last_step} the final model gains on the model in use by "
            f"{worst.residual:.3g} kJ/mol otherwise than the work of their forces (bar {worst.bar:.2g})"
        )
        return _judged(Status.FAIL, why)
    wide = [stretch for stretch in found if stretch.bar > WIDEST_BAR * stretch.size]
    frames = sum(stretch.frames for stretch in found)
    if len(wide) == len(found):
        why = (
            f"the work of the force difference is known to {max(s.bar for s in wide):.2g} kJ/mol only, not much better "
            f"than the change of energy that it must explain ({max(s.size for s in wide):.2g}); store frames more often"
        )
        return _judged(Status.UNDECIDED, why)
    worst = max(found, key=lambda stretch: stretch.residual / stretch.bar)
    why = (
        f"over {frames} frames in {len(found)} stretches the final model gains on the model in use what the work of "
        f"their forces says: within {worst.residual:.2g} kJ/mol of up to {max(s.size for s in found):.3g} "
        f"(bar {worst.bar:.2g})"
    )
    return _judged(Status.PASS, why)


def _judged(status: Status, why: str) -> Check:
    return Check(name="drift_identity", kind=Kind.CONSERVATION, status=status, why=why)
