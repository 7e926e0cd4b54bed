"""Single steps of integrators written out here on springs: honest ones pass, and every way of spoiling one is seen."""

import dataclasses
import math

import numpy as np
import pytest

from qmml_md.analysis.causes.classes import Cause
from qmml_md.analysis.causes.diagnose import diagnose
from qmml_md.analysis.causes.symptoms import Symptoms
from qmml_md.analysis.conservation.fluctuation import fluctuation_part, fluctuation_ratio
from qmml_md.analysis.findings import Status
from qmml_md.analysis.record import Record, held
from qmml_md.analysis.truth.cadence import cadence_part
from qmml_md.analysis.truth.retrace import verlet
from qmml_md.analysis.truth.steps import measure_steps, steps_part
from qmml_md.config import Config
from qmml_md.records.books import Account, Entry
from qmml_md.records.frames import Frame, stack
from qmml_md.records.rows import ModelRow, SegmentRow
from qmml_md.records.segment import Particles

MASSES = np.array([12.0, 1.0, 1.0, 16.0])
#: Spring constants to the origin, kJ/mol/nm²: periods of 20 to 60 steps of 0.25 fs.
SPRINGS = np.array([9e5, 9e5, 4e5, 3e5])[:, None]
DT, STEPS, KT = 0.25e-3, 40, 2.494
#: eV/Å: what two evaluations of one force may differ by; springs are exact, so that rounding of doubles is left.
FORCE_TOLERANCE = 1e-9


def make(integrator="verlet", steps=STEPS, seed=1, dt=DT):
    """Frames at every step, and the heat of each step; BAOAB, and Verlet with velocities scaled by the thermostats."""
    rng, m = np.random.default_rng(seed), MASSES[:, None]
    x = 0.01 * rng.normal(size=(4, 3))
    v = rng.normal(size=(4, 3)) * np.sqrt(KT / m)
    frames, entries, heat = [], [], 0.0
    for step in range(steps + 1):
        force, kinetic = -SPRINGS * x, 0.5 * float((m * v**2).sum())
        potential = 0.5 * float((SPRINGS * x**2).sum())
        if step and integrator != "verlet":
            before = entries[-1].after if entries else 0.0
            entries.append(
                Entry(step=step, time=step * dt, account=Account.HEAT, before=before, after=heat, cause="bath")
            )
        frames.append(
            Frame(
                step=step, time=step * dt, positions=x.copy(), velocities=v.copy(), forces_used=force,
                potential_used=potential, kinetic=kinetic, conserved=kinetic + potential - heat, entries=len(entries),
                box=np.zeros((3, 3)), region_epoch=0, disagreement=np.full(4, np.nan),
            )
        )  # fmt: skip
        if integrator == "nose_hoover":
            v, heat = scaled(v, m, heat, 1.0 + 0.01 * rng.normal())
        v = v + 0.5 * dt * force / m
        x = x + 0.5 * dt * v
        if integrator == "langevin":
            old = 0.5 * float((m * v**2).sum())
            c = math.exp(-20.0 * dt)
            v = c * v + np.sqrt((1 - c * c) * KT / m) * rng.normal(size=v.shape)
            heat += 0.5 * float((m * v**2).sum()) - old
        x = x + 0.5 * dt * v
        v = v - 0.5 * dt * SPRINGS * x / m
        if integrator in ("bussi", "nose_hoover"):
            v, heat = scaled(v, m, heat, 1.0 + 0.01 * rng.normal())
    return frames, entries


def scaled(v, m, heat, factor):
    old = 0.5 * float((m * v**2).sum())
    return v * factor, heat + old * (factor**2 - 1.0)


def record(frames, entries=(), integrator="verlet", masses=MASSES, every=1):
    config = Config.model_validate(
        {
            "system": {"structure": "x.pdb"},
            "dynamics": {"integrator": integrator, "timestep_fs": 0.25, "steps": STEPS},
            "output": {"frame_every_steps": every},
        }
    )
    block = stack(list(frames), "m")
    row = SegmentRow(
        id=0, first_step=0, last_step=int(block.step[-1]), frames=len(block), model="m", file="0.h5", sha256=""
    )
    particles = Particles(
        numbers=np.array([6, 1, 1, 8]), masses=masses, topology_json="{}", periodic=False, degrees_of_freedom=9
    )
    return Record(
        config=config, **held(block), particles=particles, segments=[row], entries=list(entries), events=[],
        regions=[], models=[ModelRow(id="m", step=0, parent="", data={})], labels=[], timings={},
    )  # fmt: skip


def status(part, name):
    return next(check.status for check in part.checks if check.name == name)


def cause(rec, found):
    failed = frozenset(c.name for c in steps_part(rec, found).checks if c.status == Status.FAIL)
    return diagnose(Symptoms(failed=failed, integrator=rec.config.dynamics.integrator, timestep_fs=0.25, steps=found))[
        0
    ].cause


@pytest.mark.parametrize("integrator", ["verlet", "langevin", "bussi", "nose_hoover"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_honest_steps_and_their_heat_pass(integrator, seed):
    rec = record(*make(integrator, seed=seed), integrator=integrator)
    part = steps_part(rec, measure_steps(rec, FORCE_TOLERANCE))
    assert status(part, "steps") == Status.PASS
    assert status(part, "heat") == (Status.NOT_APPLICABLE if integrator == "verlet" else Status.PASS)


def test_residual_is_rounding_and_nothing_else():
    # Sums of a few doubles of 3 nm/ps, and positions of 0.03 nm over 0.25 fs: 1e-13 nm/ps at most.
    rec = record(*make())
    assert np.nanmax(measure_steps(rec, FORCE_TOLERANCE).residual) < 1e-12


@pytest.mark.parametrize("integrator", ["langevin", "bussi", "nose_hoover"])
@pytest.mark.parametrize("factor", [0.0, -1.0, 0.5, 1.01])
def test_heat_that_is_booked_wrongly_is_named(integrator, factor):
    frames, entries = make(integrator)
    wrong = [dataclasses.replace(e, before=factor * e.before, after=factor * e.after) for e in entries]
    rec = record(frames, wrong, integrator=integrator)
    found = measure_steps(rec, FORCE_TOLERANCE)
    assert status(steps_part(rec, found), "heat") == Status.FAIL
    assert status(steps_part(rec, found), "steps") == Status.PASS
    assert cause(rec, found) == Cause.HEAT


def leap_frog(frames):
    m = MASSES[:, None]
    return [dataclasses.replace(f, velocities=f.velocities - 0.5 * DT * f.forces_used / m) for f in frames]


def in_angstrom(frames):
    return [dataclasses.replace(f, velocities=10.0 * f.velocities) for f in frames]


def clamped(frames):
    limit = 0.7 * max(np.abs(f.forces_used).max() for f in frames)
    return [dataclasses.replace(f, forces_used=np.clip(f.forces_used, -limit, limit)) for f in frames]


def exchanged(frames):
    a, b = frames[10], frames[14]
    return [
        dataclasses.replace(b, step=f.step, time=f.time) if f is a
        else dataclasses.replace(a, step=f.step, time=f.time) if f is b else f
        for f in frames
    ]  # fmt: skip


def rescaled(frames):
    # As if velocities had been multiplied after the frame of step 20: only that frame does not know of it.
    new = list(frames)
    new[20] = dataclasses.replace(frames[20], velocities=frames[20].velocities / 1.001)
    return new[:21]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (leap_frog, Cause.OFF_STEP),
        (in_angstrom, Cause.UNIT),
        (clamped, Cause.NOT_GRADIENT),
        (exchanged, Cause.FRAMES),
    ],
)
def test_spoilt_steps_fail_and_name_their_cause(spoil, expected):
    rec = record(spoil(make()[0]))
    found = measure_steps(rec, FORCE_TOLERANCE)
    assert status(steps_part(rec, found), "steps") == Status.FAIL
    assert cause(rec, found) == expected


def test_touched_velocities_are_an_exchange_that_nobody_booked():
    rec = record(rescaled(make()[0]))
    assert status(steps_part(rec, measure_steps(rec, FORCE_TOLERANCE)), "steps") == Status.FAIL


@pytest.mark.parametrize("factor", [2.0, 1.001])
def test_other_masses_are_named(factor):
    masses = np.where(MASSES == 1.0, factor * MASSES, MASSES)
    rec = record(make()[0], masses=masses)
    found = measure_steps(rec, FORCE_TOLERANCE)
    assert status(steps_part(rec, found), "steps") == Status.FAIL
    assert cause(rec, found) == Cause.MASSES


def test_force_that_differs_by_less_than_two_evaluations_is_not_blamed():
    rng = np.random.default_rng(4)
    frames = [
        dataclasses.replace(f, forces_used=f.forces_used + 0.5e-4 * 964.85 * rng.uniform(-1, 1, size=(4, 3)))
        for f in make()[0]
    ]
    rec = record(frames)
    assert status(steps_part(rec, measure_steps(rec, 1e-4)), "steps") == Status.PASS
    assert status(steps_part(rec, measure_steps(rec, 1e-6)), "steps") == Status.FAIL


def test_single_precision_positions_are_seen_and_not_blamed():
    frames = [
        dataclasses.replace(
            f, positions=np.float64(np.float32(f.positions)), forces_used=-SPRINGS * np.float64(np.float32(f.positions))
        )
        for f in make()[0]
    ]
    rec = record(frames)
    # The springs turn a rounding of 1e-9 nm into 1e-3 kJ/mol/nm: two evaluations differ by that.
    assert status(steps_part(rec, measure_steps(rec, 1e-5)), "steps") == Status.PASS


def test_frames_that_are_no_neighbours_are_not_judged():
    rec = record(make()[0][::2], every=2)
    part = steps_part(rec, measure_steps(rec, FORCE_TOLERANCE))
    assert {check.status for check in part.checks} == {Status.NOT_APPLICABLE}


def test_step_after_an_exchange_is_not_judged():
    frames, _ = make()
    entry = Entry(step=20, time=20 * DT, account=Account.MODEL, before=0.0, after=0.0, cause="update")
    frames = [dataclasses.replace(f, entries=int(f.step > 20)) for f in frames]
    frames[20] = dataclasses.replace(frames[20], forces_used=2.0 * frames[20].forces_used)
    rec = record(frames, [entry])
    found = measure_steps(rec, FORCE_TOLERANCE)
    assert np.flatnonzero(~found.known).tolist() == [20]
    # The frame before it is still judged by the force that the frame of the exchange holds.
    assert np.flatnonzero(found.ratio > 1.0).tolist() == [19]


def test_number_that_is_not_finite_fails():
    frames, _ = make()
    frames[7] = dataclasses.replace(frames[7], velocities=frames[7].velocities * np.nan)
    rec = record(frames)
    assert status(steps_part(rec, measure_steps(rec, FORCE_TOLERANCE)), "steps") == Status.FAIL


@pytest.mark.parametrize(("every", "lost"), [(1, [7]), (1, [0]), (2, [8, 10])])
def test_missing_frame_is_named(every, lost):
    frames = [f for f in make()[0][::every] if f.step not in lost]
    part = cadence_part(record(frames, every=every))
    assert status(part, "cadence") == Status.FAIL
    assert f"step {lost[0]} is missing" in part.checks[0].why


def test_frames_between_are_welcome():
    frames, _ = make()
    kept = [f for f in frames if f.step % 10 == 0 or f.step in (13, 14)]
    assert status(cadence_part(record(kept, every=10)), "cadence") == Status.PASS


def test_fluctuation_of_an_oscillator_is_a_quarter_of_its_phase_squared():
    # One mode of phase θ: dH̃ = (θ²/4) dU exactly, dU = −dK up to θ²/4 of itself.
    theta, m, steps = 0.3, 1.0, 400
    x, v, k = 1.0, 0.0, theta**2
    h, kinetic = [], []
    for _ in range(steps):
        h.append(0.5 * m * v * v + 0.5 * k * x * x)
        kinetic.append(0.5 * m * v * v)
        half = v - 0.5 * k * x
        x += half
        v = half - 0.5 * k * x
    ratio = fluctuation_ratio(np.diff(h), np.diff(kinetic))
    assert ratio == pytest.approx(theta**2 / 4, rel=theta**2 / 2)


def test_fluctuation_judges_the_time_step():
    assert status(fluctuation_part(record(make()[0])), "fluctuation") == Status.PASS
    # The stiffest spring turns by 0.95 · 1e-3 · 1.3 = 1.2 rad in 1.3 fs.
    long = make(dt=1.3e-3)[0]
    assert status(fluctuation_part(record(long)), "fluctuation") == Status.FAIL


@pytest.mark.parametrize("integrator", ["verlet", "langevin", "bussi", "nose_hoover"])
@pytest.mark.parametrize("every", [1, 2])
def test_balance_closes_in_honest_runs(integrator, every):
    frames, entries = make(integrator)
    rec = record(frames[::every], entries, integrator=integrator, every=every)
    assert status(fluctuation_part(rec), "balance") == Status.PASS


@pytest.mark.parametrize("every", [1, 2])
def test_heat_that_nobody_books_breaks_the_balance_at_any_spacing(every):
    frames, _ = make("langevin")
    bare = [
        dataclasses.replace(f, conserved=f.kinetic + f.potential_used, entries=0)
        for f in frames if f.step % every == 0
    ]  # fmt: skip
    part = fluctuation_part(record(bare, integrator="langevin", every=every))
    assert status(part, "balance") == Status.FAIL


def test_one_exchange_that_nobody_books_breaks_the_balance():
    frames, _ = make()
    # Half of kT per degree of freedom, once.
    moved = [dataclasses.replace(f, conserved=f.conserved + (0.5 * KT * 9 if f.step > 17 else 0.0)) for f in frames]
    part = fluctuation_part(record(moved))
    assert status(part, "balance") == Status.FAIL
    assert "after step 17" in next(c.why for c in part.checks if c.name == "balance")


def test_verlet_run_again_arrives_and_with_other_velocities_does_not():
    frames, _ = make()
    m = MASSES[:, None]
    x, v = verlet(frames[3].positions, frames[3].velocities, m, DT, 10, lambda y: -SPRINGS * y)
    assert np.abs(x - frames[13].positions).max() < 1e-14
    assert np.abs(v - frames[13].velocities).max() < 1e-11
    early = frames[3].velocities - 0.5 * DT * frames[3].forces_used / m
    x, _ = verlet(frames[3].positions, early, m, DT, 10, lambda y: -SPRINGS * y)
    assert np.abs(x - frames[13].positions).max() > 1e-6
