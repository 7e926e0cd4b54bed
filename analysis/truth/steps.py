"""Single steps: where frames are stored at every step, each one must be the step that the integrator makes.

No model is evaluated. With x, v and F = m a stored at two steps in a row, the splitting of the integrator leaves
nothing free but what its thermostat may do, and what it did is read off:

    velocity Verlet   v½ = Δx/dt;  v½ − v₀ − ½dt a₀ = 0;  v₁ − v½ − ½dt a₁ = 0
    Bussi             the same, but v₁ = α (v½ + ½dt a₁) with one factor α for all atoms
    Nosé–Hoover       the same, but also v½ = s v₀ + ½dt a₀ with one factor s for all atoms
    BAOAB             v½ = v₀ + ½dt a₀;  v½' = 2Δx/dt − v½;  v₁ − v½' − ½dt a₁ = 0

(Swope et al., J. Chem. Phys. 76, 637, 1982, doi:10.1063/1.442716; Bussi, Donadio, Parrinello, J. Chem. Phys. 126,
014101, 2007, doi:10.1063/1.2408420; Martyna et al., Mol. Phys. 87, 1117, 1996, doi:10.1080/00268979600100761;
Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010). The heat is the change of kinetic
energy by the thermostat's part, and must be what the ledger books. What a wrong force, a touched velocity, another
mass, a lost frame or velocities of another time leave here is of first order in them, where conservation needs long
runs to tell.

The residuals are velocities. They may be as large as the rounding of positions over dt (double precision, or single
where every stored position is a single) and dt/m times the difference that two evaluations of one force may have.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...records.books import Account
from ...records.frames import Floats, Frames
from ...units import KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
from ..findings import Check, Finding, Kind, Part, Status, judge
from ..findings import largest as largest_of
from ..record import Record
from .motion import broken

#: Integrators whose splitting is known here.
SPLITTINGS = frozenset({"verlet", "langevin", "bussi", "nose_hoover"})
#: Entries between two frames after which the forces or velocities that the first one holds are not those of the step.
BREAKS = (Account.MODEL, Account.RAMP, Account.COM, Account.VELOCITIES, Account.BAROSTAT)
#: Roundings that meet in one residual: two positions, their difference, its quotient, a doubling, and two kicks.
ROUNDINGS = 16.0
EPSILON = float(np.finfo(np.float64).eps)
PRECISIONS = {"double": EPSILON, "single": float(np.finfo(np.float32).eps)}

#: Columns of ``Steps.sums``: products of the residual r₁ (before the drift) and r₂ (after it), accelerations and
#: velocities, mass-weighted, and the kinetic energy of the common motion in r₁ and r₂.
SUMS = ("r1_r1", "r1_a0", "a0_a0", "r1_v0", "v0_v0", "r2_r2", "r2_a1", "a1_a1", "r2_v1", "v1_v1", "common")
#: Columns of ``Steps.atoms``.
ATOM_SUMS = ("r1_r1", "r1_a0", "a0_a0", "r2_r2", "r2_a1", "a1_a1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What single steps leave; one row for each pair of neighbouring frames, NaN where the pair is no single step.

    Attributes:
        residual: largest component of what is left, nm/ps, shape (f − 1,).
        ratio: largest component divided by what may be left there; more than one is too much, shape (f − 1,).
        heat: that the thermostat gave in the step, kJ/mol, shape (f − 1,).
        booked: that the ledger books in the step, kJ/mol, shape (f − 1,).
        heat_allowed: how far these two may differ, kJ/mol, shape (f − 1,).
        sums: see ``SUMS``, shape (f − 1, 11).
        atoms: the same products by atom, summed over all single steps, see ``ATOM_SUMS``, shape (n, 6).
    """

    residual: Floats
    ratio: Floats
    heat: Floats
    booked: Floats
    heat_allowed: Floats
    sums: Floats
    atoms: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each pair of frames is a single step, shape (f − 1,)."""
        return ~np.isnan(self.ratio)


class StepTally:
    """Compares neighbouring frames as blocks of them come in order.

    Args:
        record: of the run.
        force_tolerance: by how much two evaluations of one force may differ, eV/Å.
    """

    def __init__(self, record: Record, force_tolerance: float) -> None:
        self._record = record
        self._force = force_tolerance * KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
        self._last: tuple[Floats, Floats, Floats] | None = None
        self._rows: list[dict[str, Floats]] = []
        self._atoms = np.zeros((record.atoms, len(ATOM_SUMS)))
        self._single, self._done = True, 0
        # What constraints do to an atom is in no stored force.
        self._free = record.free
        stepped = (np.diff(record.series.step) == 1) & ~broken(record, BREAKS)
        self._usable = stepped & (record.config.dynamics.integrator in SPLITTINGS) & self._free.any()

    def add(self, frames: Frames) -> None:
        """Take the next block."""
        free = self._free
        m = self._record.particles.masses[None, free, None]
        x, v, a = frames.positions[:, free], frames.velocities[:, free], frames.forces_used[:, free] / m
        self._single = self._single and bool((x == x.astype(np.float32)).all())
        if self._last is not None:
            x, v, a = (np.concatenate([one, more]) for one, more in zip(self._last, (x, v, a), strict=True))
        self._last = (x[-1:], v[-1:], a[-1:])
        if len(x) > 1 and free.any():
            with np.errstate(invalid="ignore", over="ignore"):
                self._rows.append(self._pairs(x, v, a, m))
            self._done += len(x) - 1

    def _pairs(self, x: Floats, v: Floats, a: Floats, m: Floats) -> dict[str, Floats]:
        dt = self._record.timestep_ps
        integrator = self._record.config.dynamics.integrator
        first, second, heat = residuals(integrator, np.diff(x, axis=0), v, a, m, dt)
        left = np.maximum(np.abs(first), np.abs(second))
        fast, far = (_larger(np.abs(z).max(axis=(1, 2)))[:, None, None] for z in (v, x))
        allowed = dt * self._force / m + ROUNDINGS * EPSILON * fast
        coarse = {name: allowed + ROUNDINGS * epsilon * far / dt for name, epsilon in PRECISIONS.items()}
        momentum = np.sqrt((m * v[1:] ** 2).sum(axis=(1, 2)))
        row = {
            "left": left.max(axis=(1, 2)),
            "heat": heat,
            "sums": _sums(first, second, v, a, m),
        }
        usable = self._usable[self._done : self._done + len(left)]
        columns = (first, first), (first, a[:-1]), (a[:-1], a[:-1]), (second, second), (second, a[1:]), (a[1:], a[1:])
        for k, (one, other) in enumerate(columns):
            self._atoms[self._free, k] += np.nansum((one * other)[usable], axis=(0, 2))
        for name, limit in coarse.items():
            row[f"ratio_{name}"] = (left / limit).max(axis=(1, 2))
            row[f"slack_{name}"] = momentum * np.sqrt((m * limit**2).sum(axis=(1, 2)))
        return row

    def steps(self) -> Steps:
        """What became of all pairs."""
        record, count = self._record, len(self._record)
        usable = self._usable
        if not self._rows or not usable.any():
            return _nothing(record.atoms, max(0, count - 1))
        joined = {name: np.concatenate([row[name] for row in self._rows]) for name in self._rows[0]}
        kind = "single" if self._single else "double"
        # With constraints the thermostat acts on more than is seen here.
        heat = joined["heat"] if self._free.all() else np.full(len(usable), np.nan)
        # What is not a number is no step of any integrator.
        ratio = np.where(np.isnan(joined[f"ratio_{kind}"]), np.inf, joined[f"ratio_{kind}"])
        return Steps(
            residual=np.where(usable, joined["left"], np.nan),
            ratio=np.where(usable, ratio, np.nan),
            heat=np.where(usable, heat, np.nan),
            booked=np.where(usable, np.diff(heat_before(record)), np.nan),
            heat_allowed=2.0 * joined[f"slack_{kind}"] + record.config.audit.identity_kj_per_mol,
            sums=np.where(usable[:, None], joined["sums"], np.nan),
            atoms=self._atoms,
        )


def _nothing(atoms: int, pairs: int) -> Steps:
    empty, sums = np.full(pairs, np.nan), np.full((pairs, len(SUMS)), np.nan)
    return Steps(
        residual=empty,
        ratio=empty,
        heat=empty,
        booked=empty,
        heat_allowed=empty,
        sums=sums,
        atoms=np.zeros((atoms, len(ATOM_SUMS))),
    )


def _larger(series: Floats) -> Floats:
    """The larger of each two neighbours."""
    result: Floats = np.maximum(series[1:], series[:-1])
    return result


def residuals(
    integrator: str, way: Floats, v: Floats, a: Floats, m: Floats, dt: float
) -> tuple[Floats, Floats, Floats]:
    """What single steps leave before and after the drift, nm/ps, shape (c, n, 3) each, and their heat, shape (c,).

    Args:
        integrator: one of ``SPLITTINGS``; any other is taken for velocity Verlet.
        way: Δx, nm, shape (c, n, 3).
        v: velocities of the frames, nm/ps, shape (c + 1, n, 3).
        a: accelerations in them, nm/ps², shape (c + 1, n, 3).
        m: masses, Da, shape (1, n, 1).
        dt: time step, ps.
    """
    before, kicked = v[:-1], v[:-1] + 0.5 * dt * a[:-1]
    middle = way / dt
    if integrator == "langevin":
        after = 2.0 * middle - kicked
        heat = _kinetic(after, m) - _kinetic(kicked, m)
        return np.zeros_like(way), v[1:] - (after + 0.5 * dt * a[1:]), heat
    heat = np.zeros(len(way))
    first = middle - kicked
    if integrator == "nose_hoover":
        scaled = _projected(middle - 0.5 * dt * a[:-1], before, m)
        first = middle - 0.5 * dt * a[:-1] - scaled
        heat = heat + _kinetic(scaled, m) - _kinetic(before, m)
    end = middle + 0.5 * dt * a[1:]
    second = v[1:] - end
    if integrator in ("bussi", "nose_hoover"):
        second = v[1:] - _projected(v[1:], end, m)
        heat = heat + _kinetic(v[1:], m) - _kinetic(end, m)
    return first, second, heat


def _projected(vectors: Floats, on: Floats, m: Floats) -> Floats:
    """The multiple of ``on`` that is nearest to each set of vectors, mass-weighted."""
    size = (m * on * on).sum(axis=(1, 2), keepdims=True)
    factor = (m * vectors * on).sum(axis=(1, 2), keepdims=True) / np.where(size > 0.0, size, 1.0)
    result: Floats = factor * on
    return result


def _kinetic(v: Floats, m: Floats) -> Floats:
    result: Floats = 0.5 * (m * v * v).sum(axis=(1, 2))
    return result


def _sums(first: Floats, second: Floats, v: Floats, a: Floats, m: Floats) -> Floats:
    pairs = (
        (first, first), (first, a[:-1]), (a[:-1], a[:-1]), (first, v[:-1]), (v[:-1], v[:-1]),
        (second, second), (second, a[1:]), (a[1:], a[1:]), (second, v[1:]), (v[1:], v[1:]),
    )  # fmt: skip
    columns = [(m * one * other).sum(axis=(1, 2)) for one, other in pairs]
    both = [(m * r).sum(axis=1) for r in (first, second)]
    columns.append(sum((p * p).sum(axis=1) for p in both) / m.sum())
    return np.stack(columns, axis=1)


def heat_before(record: Record) -> Floats:
    """Heat that the ledger books before each frame, kJ/mol, shape (f,)."""
    amounts = [entry.amount if entry.account == Account.HEAT else 0.0 for entry in record.entries]
    sums = np.concatenate([[0.0], np.cumsum(amounts)])
    result: Floats = sums[np.clip(record.series.entries, 0, len(sums) - 1)]
    return result


def measure_steps(record: Record, force_tolerance: float) -> Steps:
    """Compare all neighbouring frames of a run; arguments as for ``StepTally``."""
    tally = StepTally(record, force_tolerance)
    for block in record.blocks():
        tally.add(block)
    return tally.steps()


def steps_part(record: Record, found: Steps) -> Part:
    """The checks ``steps`` and ``heat`` with their numbers."""
    known = found.known
    if not known.any():
        integrator = record.config.dynamics.integrator
        why = "no two frames are one step apart" if integrator in SPLITTINGS else f"{integrator} hides its inner steps"
        if not record.free.any():
            why = "every atom is held by constraints"
        return Part(checks=tuple(_not_applicable(name, why) for name in ("steps", "heat")))
    steps = record.series.step
    bad = np.flatnonzero(known & ~(found.ratio <= 1.0))
    problems = [
        f"the step from {steps[i]} to {steps[i + 1]} leaves {found.residual[i]:.3g} nm/ps of a velocity unexplained"
        f" ({len(bad)} of {known.sum()} steps leave more than rounding)"
        for i in bad
    ]
    wrong = found.booked - found.heat
    # Where the step is not the integrator's, what is left of it is not heat.
    off = np.flatnonzero((found.ratio <= 1.0) & ~(np.abs(wrong) <= found.heat_allowed))
    unbooked = [
        f"in the step from {steps[i]} to {steps[i + 1]} the thermostat gave {found.heat[i]:.6g} kJ/mol, the ledger "
        f"books {found.booked[i]:.6g} ({len(off)} of {known.sum()} steps)"
        for i in off
    ]
    largest = float(np.nanmax(found.residual))
    fine = f"{known.sum()} single steps are those of the integrator within {largest:.2g} nm/ps"
    heat = judge("heat", Kind.CONSERVATION, unbooked, "the heat of every single step is what the ledger books")
    if record.config.dynamics.integrator == "verlet":
        heat = _not_applicable("heat", "velocity Verlet has no thermostat")
    elif not record.free.all():
        heat = _not_applicable("heat", "constraints hide from single steps what the thermostat gives")
    return Part(
        checks=(judge("steps", Kind.INTEGRITY, problems, fine), heat),
        findings=(
            Finding(name="steps_max_residual", value=largest, expected=0.0, unit="nm/ps"),
            Finding(
                name="steps_heat_max_deviation",
                value=largest_of(wrong[~np.isnan(wrong)]),
                expected=0.0,
                unit="kJ/mol",
            ),
            Finding(name="steps_seen", value=float(known.sum()), unit="1"),
        ),
    )


def _not_applicable(name: str, why: str) -> Check:
    kind = Kind.INTEGRITY if name == "steps" else Kind.CONSERVATION
    return Check(name=name, kind=kind, status=Status.NOT_APPLICABLE, why=why)
