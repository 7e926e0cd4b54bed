"""Time-step scan: the square of the step where forces are the gradient, and each cause named where it is not."""

import dataclasses
from pathlib import Path

import ase.io
import numpy as np
import pytest

from qmml_md.analysis.findings import Status
from qmml_md.analysis.probes.differences import surface_of
from qmml_md.analysis.probes.timestep import (
    FASTEST_VIBRATION_PER_PS,
    Scan,
    harmonic_ratio,
    judge_scan,
    timestep_scan,
    total_energies,
)
from qmml_md.ensemble import weights
from qmml_md.ensemble.model import EnsembleOutput
from qmml_md.errors import AuditError
from qmml_md.records.segment import Particles

DATA = Path(__file__).parents[3] / "data"
MINI = str(DATA / "ani_mini.safetensors")
ETHANOL = ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", 5)
PARTICLES = Particles(
    numbers=ETHANOL.numbers.astype(np.int64), masses=ETHANOL.get_masses(), topology_json="{}", periodic=False,
    degrees_of_freedom=24,
)  # fmt: skip
DURATION_PS = 0.03


@pytest.fixture(scope="module")
def surface():
    return surface_of(weights.load(MINI, "double"), PARTICLES.numbers)


def thermal():
    """Velocities of 300 K without total momentum, nm/ps."""
    m = PARTICLES.masses[:, None]
    v = np.random.default_rng(3).normal(size=(9, 3)) * np.sqrt(8.314462618e-3 * 300.0 / m)
    return v - (m * v).sum(axis=0) / m.sum()


def scan(model, timestep_fs=0.5, particles=PARTICLES, duration_ps=DURATION_PS, **options):
    part = timestep_scan(
        model, particles=particles, positions=ETHANOL.positions * 0.1, velocities=thermal(), box=None,
        timestep_ps=timestep_fs * 1e-3, duration_ps=duration_ps, **options,
    )  # fmt: skip
    return part.checks[0], {finding.name: finding.value for finding in part.findings}


def spring(positions, box):
    """Harmonic with 716 rad/ps for a mass of one: the fastest vibration itself."""
    k = FASTEST_VIBRATION_PER_PS**2
    energy = 0.5 * k * float(np.sum(positions**2))
    return EnsembleOutput(energy=energy, forces=-k * positions, member_energies=np.array([energy]))


def fluctuation(theta, divide, x0, v0):
    """Standard deviation of H of the spring over 4000 times, with θ of the undivided step."""
    dt = theta / FASTEST_VIBRATION_PER_PS / divide
    run = total_energies(
        spring, np.array([[x0, 0.0, 0.0]]), np.array([[v0, 0.0, 0.0]]), masses=np.ones(1), box=None, timestep_ps=dt,
        steps=4000 * divide, every=divide,
    )  # fmt: skip
    return run.std()


@pytest.mark.parametrize("theta", [0.1, 0.4, 0.9])
def test_harmonic_mode_has_the_ratios_of_the_formula(theta):
    # 4000 times see every phase of 60 periods and more: an incomplete period is less than a percent of them.
    at_rest = fluctuation(theta, 1, 0.01, 0.0) / fluctuation(theta, 2, 0.01, 0.0)
    at_bottom = fluctuation(theta, 1, 0.0, 5.0) / fluctuation(theta, 2, 0.0, 5.0)
    assert at_rest == pytest.approx(4.0, rel=0.01)
    assert at_bottom == pytest.approx(harmonic_ratio(theta), rel=0.01)


def test_energy_error_falls_with_the_square_of_the_time_step(surface):
    check, found = scan(surface)
    assert check.status == Status.PASS
    # R(0.36) = 4.10, R(0.18) = 4.02; phases of common times add a few percent.
    assert found["timestep_ratio_full_half"] == pytest.approx(4.0, rel=0.08)
    assert found["timestep_ratio_half_quarter"] == pytest.approx(4.0, rel=0.05)


def test_single_precision_has_the_same_ratios(surface):
    single, _ = scan(weights.load(MINI, "single"))
    assert single.status == Status.PASS


def test_force_that_is_not_the_gradient_is_named(surface):
    # A tenth too large: H changes by 0.1 ΔU, some 0.5 kJ/mol, at every step; the error of 0.5 fs is 0.3 and falls.
    def scaled(positions, box):
        out = surface(positions, box)
        return dataclasses.replace(out, forces=1.1 * out.forces)

    check, found = scan(scaled)
    assert check.status == Status.FAIL
    assert "forces are not the gradient" in check.why
    assert found["timestep_ratio_half_quarter"] < 1.5


def test_time_step_too_long_is_named_and_not_blamed_on_the_forces(surface):
    check, found = scan(surface, timestep_fs=2.0, duration_ps=0.05)
    assert check.status == Status.FAIL
    assert "time step too long" in check.why
    assert found["timestep_ratio_full_half"] > 5.5


def test_explosion_is_a_time_step_too_long():
    # θ = 2.15: the oscillator at dt is unstable (growth e^{0.77 n}), at dt/2 it is not.
    particles = dataclasses.replace(PARTICLES, masses=np.ones(9))
    dt_fs = 2.15 / FASTEST_VIBRATION_PER_PS * 1e3
    check, _ = scan(spring, timestep_fs=dt_fs, particles=particles, duration_ps=dt_fs * 1e-3 * 1500)
    assert check.status == Status.FAIL
    assert "time step too long" in check.why


def test_rounding_is_undecided(surface):
    # Energies rounded to 0.1 kJ/mol, as a total of 10⁵ kJ/mol in single precision is, hide 0.004 kJ/mol at 0.12 fs.
    def rounded(positions, box):
        out = surface(positions, box)
        return dataclasses.replace(out, energy=round(out.energy, 1))

    check, _ = scan(rounded, timestep_fs=0.25, duration_ps=0.01)
    assert check.status == Status.UNDECIDED
    assert "rounded" in check.why


def test_verdicts_from_numbers_alone():
    def status(*fluctuation):
        return judge_scan(Scan(timestep=5e-4, fluctuation=np.array(fluctuation), rounding=1e-9)).status

    assert status(16.0, 4.0, 1.0) == Status.PASS
    assert status(30.0, 4.2, 1.0) == Status.FAIL
    assert status(1.2, 1.1, 1.0) == Status.FAIL
    assert status(16.0, 4.0, 1.4) == Status.UNDECIDED
    assert status(np.nan, np.nan, np.nan) == Status.FAIL


def test_progress_constraints_and_bad_input(surface):
    told = []
    scan(surface, duration_ps=0.01, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (140, 140)
    assert len(told) == 140
    constrained = dataclasses.replace(PARTICLES, degrees_of_freedom=18)
    assert scan(surface, particles=constrained)[0].status == Status.NOT_APPLICABLE
    with pytest.raises(AuditError, match="20"):
        scan(surface, duration_ps=0.005)
