"""Do neighbouring frames belong to one motion?

A motion with accelerations a obeys ``Δx = ½(v₀+v₁)Δt + (a₀−a₁)Δt²/12 + O(Δt⁵)``. The mass-weighted norm of what is left
is divided by that of ``vΔt`` (of the two frames or of the mean frame, whichever moves faster). For a vibration of phase
θ = ωΔt the ratio is at most ``2√2|sin(θ/2)(1−θ²/12) − (θ/2)cos(θ/2)|/θ``: 0.002 at θ = 1, 0.03 at 2, 0.37 at 4. Between
unrelated frames it is about √½ or more, as the mean of two independent velocities is that long.

The forces of a frame are those of the full potential, also where an inner potential moved the atoms (RESPA): impulses
of the outer part bend the path within a step by another ``Δt²/6`` of the change of its acceleration, which is of the
order of the term that is taken into account.
"""

import numpy as np
from numpy.typing import NDArray

from ...records.books import Account
from ...records.frames import Floats, Frames
from ..findings import Check, Finding, Kind, Status, judge
from ..record import Record

#: Highest vibrational frequency of a molecule, rad/ps: an O–H stretch of 3800 cm⁻¹.
FASTEST_VIBRATION_PER_PS = 716.0
#: Longest phase ωΔt that the interpolation bridges: at 4 it misses up to 0.37 of the path.
LONGEST_PHASE = 4.0
#: Largest γΔt: random kicks then leave below sqrt(2γΔt/12) = 0.2 of the path unexplained.
LARGEST_FRICTION = 0.25
#: Frames of one motion stay below 0.4 (see above), unrelated frames lie at 0.7 or more.
LARGEST_UNEXPLAINED = 0.5

#: Exchanges that break the motion: velocities that are drawn anew, positions that are scaled with the box.
BREAKS = (Account.VELOCITIES, Account.BAROSTAT)


class Motion:
    """Compares neighbouring frames as blocks of them come in order."""

    def __init__(self, record: Record) -> None:
        self._record = record
        # What constraints do to an atom is in no stored force.
        self._free = record.free
        self._last: tuple[Floats, Floats, Floats] | None = None
        self._squares: list[Floats] = []
        self._left: list[Floats] = []
        self._done = 0

    def add(self, frames: Frames) -> None:
        """Take the next block."""
        free = self._free
        masses = self._record.particles.masses[free]
        x, v = frames.positions[:, free], frames.velocities[:, free]
        a = frames.forces_used[:, free] / masses[None, :, None]
        self._squares.append(np.einsum("fni,n->f", v**2, masses))
        if self._last is not None:
            x, v, a = (np.concatenate([one, more]) for one, more in zip(self._last, (x, v, a), strict=True))
        first = self._done - (self._last is not None)
        dt = np.diff(self._record.series.step[first : first + len(x)]) * self._record.timestep_ps
        predicted = 0.5 * (v[:-1] + v[1:]) * dt[:, None, None] + (a[:-1] - a[1:]) * dt[:, None, None] ** 2 / 12.0
        self._left.append(np.einsum("fni,n->f", (np.diff(x, axis=0) - predicted) ** 2, masses))
        self._last = (x[-1:], v[-1:], a[-1:])
        self._done += len(frames)

    def unexplained(self) -> Floats:
        """How much of the way between neighbouring frames velocities and forces do not explain, shape (f − 1,).

        NaN where nothing moves, where frames lie too far apart for the formula, or where the ledger books a break.
        """
        record = self._record
        dt = np.diff(record.series.step) * record.timestep_ps
        squares, left = np.concatenate(self._squares), np.concatenate(self._left)
        path = np.maximum(0.5 * (squares[:-1] + squares[1:]), squares.mean()) * dt**2
        gamma = record.config.dynamics.friction_per_ps if record.config.dynamics.integrator == "langevin" else 0.0
        near = (dt > 0) & (dt * FASTEST_VIBRATION_PER_PS <= LONGEST_PHASE) & (gamma * dt <= LARGEST_FRICTION)
        usable = near & (path > 0) & ~broken(record)
        return np.where(usable, np.sqrt(left / np.where(usable, path, 1.0)), np.nan)


def broken(record: Record, accounts: tuple[Account, ...] = BREAKS) -> NDArray[np.bool_]:
    """Whether the ledger books an entry of these accounts between neighbouring frames, shape (f − 1,)."""
    counts = np.concatenate([[0], np.cumsum([entry.account in accounts for entry in record.entries])])
    at = counts[np.clip(record.series.entries, 0, len(counts) - 1)]
    result: NDArray[np.bool_] = np.diff(at) != 0
    return result


def unexplained_motion(record: Record) -> Floats:
    """How much of the way between neighbouring frames is not explained, shape (f − 1,); see ``Motion.unexplained``."""
    motion = Motion(record)
    for block in record.blocks():
        motion.add(block)
    return motion.unexplained()


def continuity(record: Record, ratio: Floats) -> tuple[Check, Finding]:
    """Judge whether neighbouring frames belong to one motion.

    Args:
        record: of the run.
        ratio: what is left unexplained between neighbouring frames, shape (f − 1,).
    """
    known = np.isfinite(ratio)
    largest = float(ratio[known].max()) if known.any() else float("nan")
    finding = Finding(name="unexplained_motion_max", value=largest, expected=0.0, unit="1")
    if not known.any():
        why = "frames lie too far apart (more than about 5 fs) to tell whether they belong to one motion"
        return Check(name="continuity", kind=Kind.INTEGRITY, status=Status.NOT_APPLICABLE, why=why), finding
    steps = record.series.step
    problems = [
        f"between steps {steps[i]} and {steps[i + 1]} velocities and forces leave {ratio[i]:.2f} of the way unexplained"
        for i in np.flatnonzero(known & (ratio > LARGEST_UNEXPLAINED))
    ]
    fine = f"velocities and forces explain the way between frames: at most {largest:.2g} of it is left"
    return judge("continuity", Kind.INTEGRITY, problems, fine), finding
