"""Frames of one motion are told from frames of two: the law of the interpolation, on a harmonic oscillator."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng

from qmml_md.analysis.record import Record, held
from qmml_md.analysis.truth.motion import FASTEST_VIBRATION_PER_PS, LARGEST_UNEXPLAINED, unexplained_motion
from qmml_md.config import Config
from qmml_md.records.frames import Frame, stack
from qmml_md.records.segment import Particles

ATOMS = 12
OMEGA = FASTEST_VIBRATION_PER_PS


def oscillators(theta, frames=60, *, shuffle=False):
    """Oscillators up to the fastest frequency, of which theta passes between frames; exact in all they hold."""
    rng = default_rng(6)
    masses = rng.uniform(1.0, 16.0, ATOMS)
    amplitude, phase = 0.01, rng.uniform(0, 2 * np.pi, (ATOMS, 3))
    slowness = rng.uniform(0.3, 1.0, (ATOMS, 3))
    steps = np.arange(frames)
    order = rng.permutation(frames) if shuffle else steps
    rows = []
    for step, k in zip(steps, order, strict=True):
        x = amplitude * np.cos(slowness * theta * k + phase)
        rows.append(
            Frame(
                step=int(step),
                time=float(step * theta / OMEGA),
                positions=x,
                velocities=-amplitude * slowness * OMEGA * np.sin(slowness * theta * k + phase),
                forces_used=-masses[:, None] * (slowness * OMEGA) ** 2 * x,
                potential_used=0.0,
                kinetic=0.0,
                conserved=0.0,
                entries=0,
                box=np.zeros((3, 3)),
                region_epoch=0,
                disagreement=np.zeros(ATOMS),
            )
        )
    particles = Particles(
        numbers=np.ones(ATOMS, dtype=np.int64), masses=masses, topology_json="{}", periodic=False, degrees_of_freedom=36
    )
    dynamics = {"integrator": "verlet", "timestep_fs": theta / OMEGA * 1e3}
    config = Config.model_validate({"system": {"structure": "x.pdb"}, "dynamics": dynamics})
    tables = {name: [] for name in ("segments", "entries", "events", "regions", "models", "labels")}
    return Record(config=config, **held(stack(rows, "m")), particles=particles, timings={}, **tables)


@pytest.mark.parametrize("theta", [0.1, 0.5, 1.0, 1.4])
def test_one_motion_leaves_no_more_than_the_formula_says(theta):
    half = theta / 2
    bound = 2 * np.sqrt(2) * abs(np.sin(half) * (1 - theta**2 / 12) - half * np.cos(half)) / theta
    # The bound holds for each oscillator against its mean speed; 1e-9 is what is left of rounding in x ~ 1e-2 nm.
    assert unexplained_motion(oscillators(theta)).max() <= bound + 1e-9
    assert bound < LARGEST_UNEXPLAINED


def test_residual_falls_with_the_fifth_power_of_the_interval():
    # Δx itself is of first order and the ratio divides it out: halving the interval takes 2⁴ off the ratio. The next
    # order is θ²/84 of it: 1 % at θ = 1.
    coarse, fine = (np.sqrt((unexplained_motion(oscillators(theta)) ** 2).mean()) for theta in (0.8, 0.4))
    assert coarse / fine == pytest.approx(16.0, rel=0.05)


@pytest.mark.parametrize("theta", [0.1, 1.0])
def test_shuffled_frames_are_told(theta):
    ratio = unexplained_motion(oscillators(theta, shuffle=True))
    assert np.mean(ratio > LARGEST_UNEXPLAINED) > 0.9


def test_intervals_that_are_too_long_are_not_judged():
    record = oscillators(1.0)
    apart = stack_every(record, 5)
    assert np.isnan(unexplained_motion(apart)).all()


def stack_every(record, stride):
    """The same record with only every so many-th frame."""
    chosen = np.arange(0, len(record), stride)
    return replace(record, **held(record.rows(chosen)))
