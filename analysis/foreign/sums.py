"""One pass over a foreign trajectory: every frame evaluated once with the model, and what is needed of its neighbours.

Between three frames in a row, h apart, an unbiased motion with accelerations a obeys

    x₊ − 2x + x₋ = h² (a₊ + 10 a + a₋)/12 + O(h⁶)          (Numerov)
    v = (x₊ − x₋)/2h − h (a₊ − a₋)/12 + O(h⁴).

The first says which forces moved the atoms, whatever forces are written in the file; the second says which velocities
belong to the time of the positions. Stored velocities are regressed on the second and on a at once, ``v_stored = c v +
τ a``: c is a factor of scale, τ the time by which they lie off (minus half a step for leap-frog). For a vibration of
phase θ = ωh the second misses 0.019 θ⁴ of v, at right angles to a, so that it does not enter τ.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...ensemble.model import AniEnsemble, evaluate
from ...records.frames import Floats
from ...system.images import nearest_image
from .trajectory import Block, Foreign

#: Frames read at once.
CHUNK = 64


@dataclass(slots=True, kw_only=True)
class Moment:
    """One frame with what the model says of it."""

    time: float
    positions: Floats
    box: Floats | None
    model_acceleration: Floats
    velocities: Floats | None
    forces: Floats | None
    potential: float


@dataclass(slots=True, kw_only=True)
class Series:
    """Numbers of each frame, or of each interval; lists that grow by one number per frame.

    Attributes:
        time: ps.
        model: U of the model, kJ/mol.
        potential, kinetic, total: as stored, kJ/mol.
        from_velocities: ½ Σ m v², kJ/mol.
        force_square, force_largest: of stored minus model, (kJ/mol/nm)² summed over components, and kJ/mol/nm.
        force_model, force_stored, force_cross: sums of squares and products of components, (kJ/mol/nm)².
        net_force: |Σ F| of the stored forces, kJ/mol/nm.
        momentum: Σ m v, Da nm/ps, three numbers each.
        moved: mass-weighted length of the way from the frame before, nm √Da.
        work: minus the stored forces along the way from the frame before (trapezoid), kJ/mol.
        second: per inner frame, (observed·predicted, predicted², observed²) of Numerov's formula.
        velocity: per inner frame, (v̂·v̂, v̂·a, a·a, v̂·v, a·v, v·v), mass-weighted.
        finite: whether all numbers of the frame are finite.
    """

    time: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    potential: list[float] = field(default_factory=list)
    kinetic: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    from_velocities: list[float] = field(default_factory=list)
    force_square: list[float] = field(default_factory=list)
    force_largest: list[float] = field(default_factory=list)
    force_model: list[float] = field(default_factory=list)
    force_stored: list[float] = field(default_factory=list)
    force_cross: list[float] = field(default_factory=list)
    net_force: list[float] = field(default_factory=list)
    momentum: list[Floats] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    second: list[tuple[float, ...]] = field(default_factory=list)
    velocity: list[tuple[float, ...]] = field(default_factory=list)
    finite: list[bool] = field(default_factory=list)

    def array(self, name: str) -> Floats:
        """One list as an array."""
        return np.array(getattr(self, name), dtype=np.float64)


def measure(foreign: Foreign, model: AniEnsemble, progress: Callable[[int, int], None] | None = None) -> Series:
    """Read the trajectory once, evaluate every frame with the model.

    Args:
        foreign: the trajectory.
        model: the surface that it is said to have moved on.
        progress: told (frames done, frames in all) after each frame.

    Raises:
        ElementError: the model does not know an element.
        AuditError: the trajectory cannot be read.
    """
    series = Series()
    recent: list[Moment] = []
    for block in foreign.blocks(CHUNK):
        for i in range(len(block.positions)):
            recent = [*recent[-2:], _moment(foreign, model, block, i)]
            _alone(series, foreign, block, i, recent[-1])
            _pair(series, foreign, recent)
            _triple(series, foreign, recent)
            if progress is not None:
                progress(len(series.time), foreign.frames)
    return series


def _moment(foreign: Foreign, model: AniEnsemble, block: Block, i: int) -> Moment:
    box = None if block.box is None or not foreign.periodic else block.box[i]
    positions = block.positions[i]
    energy, forces = np.nan, np.full(positions.shape, np.nan)
    if np.isfinite(positions).all():
        out = evaluate(model, foreign.numbers, positions, box)
        energy, forces = out.energy, out.forces
    return Moment(
        time=np.nan if block.time is None else float(block.time[i]),
        positions=positions,
        box=box,
        model_acceleration=forces / foreign.masses[:, None],
        velocities=None if block.velocities is None else block.velocities[i],
        forces=None if block.forces is None else block.forces[i],
        potential=energy,
    )


def _alone(series: Series, foreign: Foreign, block: Block, i: int, now: Moment) -> None:
    """What one frame says by itself."""
    series.time.append(now.time)
    series.model.append(now.potential)
    finite = bool(np.isfinite(now.positions).all())
    for name in ("potential", "kinetic", "total"):
        column = getattr(block, name)
        if column is not None:
            getattr(series, name).append(float(column[i]))
            finite = finite and bool(np.isfinite(column[i]))
    if now.velocities is not None:
        v, m = now.velocities, foreign.masses[:, None]
        series.from_velocities.append(0.5 * float((m * v * v).sum()))
        series.momentum.append((m * v).sum(axis=0))
        finite = finite and bool(np.isfinite(v).all())
    ours = now.model_acceleration * foreign.masses[:, None]
    series.force_model.append(float((ours**2).sum()))
    if now.forces is not None:
        difference = now.forces - ours
        series.force_square.append(float((difference**2).sum()))
        series.force_largest.append(float(np.abs(difference).max()))
        series.force_stored.append(float((now.forces**2).sum()))
        series.force_cross.append(float((now.forces * ours).sum()))
        series.net_force.append(float(np.linalg.norm(now.forces.sum(axis=0))))
        finite = finite and bool(np.isfinite(now.forces).all())
    series.finite.append(finite)


def _way(before: Moment, after: Moment) -> Floats:
    """Displacement from one frame to the next; across the border where the box repeats."""
    way: Floats = after.positions - before.positions
    return way if after.box is None else nearest_image(way, after.box)[0]


def _pair(series: Series, foreign: Foreign, recent: list[Moment]) -> None:
    if len(recent) < 2:
        return
    before, after = recent[-2:]
    way = _way(before, after)
    series.moved.append(float(np.sqrt((foreign.masses[:, None] * way**2).sum())))
    if before.forces is not None and after.forces is not None:
        series.work.append(-0.5 * float(((before.forces + after.forces) * way).sum()))


def _triple(series: Series, foreign: Foreign, recent: list[Moment]) -> None:
    if len(recent) < 3:
        return
    a, b, c = recent
    h = 0.5 * (c.time - a.time)
    if not h > 0:
        return
    m = foreign.masses[:, None]
    back, forth = _way(a, b), _way(b, c)
    observed = (forth - back) / h**2
    predicted = (a.model_acceleration + 10.0 * b.model_acceleration + c.model_acceleration) / 12.0
    series.second.append(
        tuple(
            float((m * x * y).sum()) for x, y in ((observed, predicted), (predicted, predicted), (observed, observed))
        )
    )
    if b.velocities is None:
        return
    v, acceleration = b.velocities, b.model_acceleration
    best = (forth + back) / (2.0 * h) - h / 12.0 * (c.model_acceleration - a.model_acceleration)
    pairs = (
        (best, best), (best, acceleration), (acceleration, acceleration), (best, v), (acceleration, v), (v, v),
    )  # fmt: skip
    series.velocity.append(tuple(float((m * x * y).sum()) for x, y in pairs))
