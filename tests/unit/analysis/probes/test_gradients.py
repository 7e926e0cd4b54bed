"""Probes of the gradient: an honest surface passes, each planted defect fails for its own reason."""

import dataclasses
from pathlib import Path

import ase.io
import numpy as np
import pytest

from qmml_md.analysis.findings import Status
from qmml_md.analysis.probes.differences import component_errors, directional_derivative, net_torque, surface_of
from qmml_md.analysis.probes.gradients import GRADIENT_TOLERANCE, LOOP_TOLERANCE_KT, closed_loop, gradient_part
from qmml_md.analysis.probes.momentum import momentum_part, total_momentum
from qmml_md.ensemble import weights
from qmml_md.ensemble.model import EnsembleOutput
from qmml_md.errors import AuditError
from qmml_md.records.frames import Frame, stack
from qmml_md.records.segment import Particles

DATA = Path(__file__).parents[3] / "data"
MINI = str(DATA / "ani_mini.safetensors")
ETHANOL = ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", ":3")
PARTICLES = Particles(
    numbers=ETHANOL[0].numbers.astype(np.int64), masses=ETHANOL[0].get_masses(), topology_json="{}", periodic=False,
    degrees_of_freedom=24,
)  # fmt: skip


def frames_of(images, box=None):
    """Frames of given configurations; what the probes do not read is zero."""
    zeros = np.zeros((len(images[0]), 3))
    rows = [
        Frame(
            step=10 * k, time=0.01 * k, positions=image.positions * 0.1, velocities=zeros, forces_used=zeros,
            potential_used=0.0, kinetic=0.0, conserved=0.0, entries=0, box=np.zeros((3, 3)) if box is None else box,
            region_epoch=0, disagreement=zeros[:, 0],
        )
        for k, image in enumerate(images)
    ]  # fmt: skip
    return stack(rows, "m" * 64)


@pytest.fixture(scope="module")
def model():
    return weights.load(MINI, "double")


def spoilt(model, change):
    """The surface of the model with its forces changed by ``change(forces, positions)``."""
    honest = surface_of(model, PARTICLES.numbers)

    def surface(positions, box):
        out = honest(positions, box)
        return dataclasses.replace(out, forces=change(out.forces, positions))

    return surface


def examine(model, *, periodic=False, box=None, seed=3):
    part = gradient_part(
        model, particles=PARTICLES, frames=frames_of(ETHANOL, box), periodic=periodic, rng=np.random.default_rng(seed),
        temperature_K=300.0,
    )  # fmt: skip
    return {check.name: check for check in part.checks}, {finding.name: finding.value for finding in part.findings}


def test_honest_model_passes_every_check(model):
    checks, found = examine(model)
    assert {name: check.status for name, check in checks.items()} == {
        "gradient": Status.PASS, "net_force": Status.PASS, "net_torque": Status.PASS, "closed_loop": Status.PASS,
    }  # fmt: skip
    # The derivative of CELU in torch carries single-precision constants: 4e-8 at worst, and no better than 1e-12.
    assert found["gradient_max_error"] < GRADIENT_TOLERANCE / 5
    assert "18 components and 3 directions in 3 frames" in checks["gradient"].why


def test_periodic_box_has_no_torque_to_judge(model):
    checks, _ = examine(model, periodic=True, box=np.array([[1.1, 0, 0], [0.2, 1.2, 0], [-0.1, 0.3, 1.3]]))
    assert checks["net_torque"].status == Status.NOT_APPLICABLE
    assert checks["gradient"].status == checks["net_force"].status == Status.PASS


def swirl(forces, positions):
    """A force field with a curl of 30 kJ/mol/nm² about the z axis: no gradient of anything."""
    arms = positions - positions.mean(axis=0)
    return forces + 30.0 * np.stack([-arms[:, 1], arms[:, 0], 0.0 * arms[:, 2]], axis=1)


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        # A scaled force is still a gradient, so the loop is right not to mind; and a pull of 1e-4 kJ/mol/nm on each
        # atom is 1e-7 of a component.
        (lambda f, x: f * (1.0 + 1e-5), {"gradient"}),
        (lambda f, x: -f, {"gradient"}),
        (lambda f, x: np.clip(f, -600.0, 600.0), {"gradient", "net_force", "net_torque", "closed_loop"}),
        (swirl, {"gradient", "net_torque", "closed_loop"}),
        (lambda f, x: f + np.array([1e-4, 0.0, 0.0]), {"net_force"}),
        (lambda f, x: np.where(np.arange(9)[:, None] == 4, -f, f), {"gradient", "net_force", "net_torque"}),
        (lambda f, x: f * np.nan, {"gradient", "net_force", "net_torque", "closed_loop"}),
    ],
    ids=["scaled", "sign", "clamped", "curl", "pulled", "one atom", "nan"],
)  # fmt: skip
def test_planted_defects_are_caught(model, change, failing):
    checks, _ = examine(spoilt(model, change))
    found = {name for name, check in checks.items() if check.status == Status.FAIL}
    # A field that is wrong at one atom has a curl as well; whether the loop sees it depends on the atoms drawn.
    assert failing <= found
    assert found - failing <= {"closed_loop"}


def test_scaled_force_does_no_work_around_a_loop(model):
    checks, _ = examine(spoilt(model, lambda f, x: 2.0 * f))
    assert checks["closed_loop"].status == Status.PASS


def test_single_precision_is_caught_by_the_gradient_and_not_blamed_for_net_force():
    # Features and networks in float32 round at 6e-8; differences of such an energy over 1e-6 Å are noise of percents.
    checks, found = examine(weights.load(MINI, "single"))
    assert checks["gradient"].status == Status.FAIL
    assert found["gradient_max_error"] > 1e-3
    assert checks["net_force"].status == Status.PASS


def polynomial(powers, scale=1.0):
    """E = scale Σ x^p over all coordinates, with its exact force."""

    def surface(positions, box):
        energy = scale * sum(np.sum(positions**p) for p in powers)
        forces = -scale * sum(p * positions ** (p - 1) for p in powers)
        return EnsembleOutput(energy=float(energy), forces=forces, member_energies=np.array([energy]))

    return surface


def test_extrapolation_is_exact_up_to_the_fourth_power():
    # D(h) of x³ errs by h² and of x⁴ by 4xh²: both cancel, and rounding of ε·3/h = 7e-13 at h = 1e-3 is left.
    x = np.array([[0.7, -0.4, 0.9]])
    direction = np.array([[1.0, 0.0, 0.0]])
    value = directional_derivative(polynomial((2, 3, 4)), x, None, direction, step=1e-3)
    assert value == pytest.approx(2 * 0.7 + 3 * 0.7**2 + 4 * 0.7**3, abs=2e-12)
    # The fifth power leaves h⁴E⁽⁵⁾/30 = 4e-12 · 4: the sign and size of Richardson's remainder, −4h⁴ for E = x⁵.
    fifth = directional_derivative(polynomial((5,)), x, None, direction, step=1e-2) - 5 * 0.7**4
    assert fifth == pytest.approx(-4e-8, rel=1e-2)


def test_jump_of_the_second_derivative_costs_what_the_formula_says():
    # E = ½J max(x, 0)² probed at x = 0: D(h) = Jh/4, D(2h) = Jh/2, so the value is (4/4 − 1/2)Jh/3 = Jh/6, below Jh/2.
    def kinked(positions, box):
        inside = np.maximum(positions, 0.0)
        energy = 0.5 * 8.0 * float(np.sum(inside**2))
        return EnsembleOutput(energy=energy, forces=-8.0 * inside, member_energies=np.array([energy]))

    errors = component_errors(kinked, np.zeros((1, 3)), None, np.array([[0, 1]]), step=1e-3)
    assert -errors[0] == pytest.approx(8.0 * 1e-3 / 6.0, rel=1e-9)


def test_loop_measures_a_known_curl():
    # F = c(−y, x, 0) of one atom does c·2·area = 2πc a²(u×v)_z on the ellipse with half axes a·u and a·v.
    def rotor(positions, box):
        forces = 40.0 * np.stack([-positions[:, 1], positions[:, 0], 0.0 * positions[:, 2]], axis=1)
        return EnsembleOutput(energy=0.0, forces=forces, member_energies=np.zeros(1))

    draw = np.random.default_rng(5)
    draw.choice(1, size=1, replace=False)
    u, v = draw.normal(size=(2, 1, 3))
    loop = closed_loop(rotor, np.ones((1, 3)), box=None, rng=np.random.default_rng(5), temperature_K=300.0, radius=1e-2)
    expected = 2.0 * np.pi * 40.0 * 1e-4 * np.cross(u[0], v[0])[2] / (8.314462618e-3 * 300.0)
    assert loop.work == pytest.approx(expected, rel=1e-10)
    assert abs(expected) > 1e4 * LOOP_TOLERANCE_KT


def test_torque_of_a_couple_is_found():
    arms = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    assert net_torque(arms, np.array([[0, 1.0, 0], [0, -1.0, 0]])) == pytest.approx(1.0)
    assert net_torque(arms, np.array([[1.0, 0, 0], [-1.0, 0, 0]])) == 0.0


def test_no_finite_frame_is_refused(model):
    broken = ETHANOL[0].copy()
    broken.positions[2] = np.nan
    with pytest.raises(AuditError, match="finite"):
        gradient_part(
            model, particles=PARTICLES, frames=frames_of([broken]), periodic=False, rng=np.random.default_rng(0),
            temperature_K=300.0,
        )  # fmt: skip


def momentum_status(momentum, integrator):
    return momentum_part(momentum, total_mass=46.0, temperature_K=300.0, integrator=integrator).checks[0].status


def test_momentum_that_stays_passes_and_one_that_moves_fails():
    rng = np.random.default_rng(2)
    masses, velocities = np.array([12.0, 1.0, 16.0]), rng.normal(size=(5, 3, 3))
    momentum = total_momentum(velocities, masses)
    assert momentum[2] == pytest.approx((masses[:, None] * velocities[2]).sum(axis=0), rel=1e-13)
    still = np.zeros((20, 3)) + 1e-9 * rng.normal(size=(20, 3))
    for integrator in ("verlet", "respa", "bussi", "nose_hoover"):
        assert momentum_status(still, integrator) == Status.PASS
        # Twice the tolerance of 1e-4 kT: |P| = sqrt(2·46·2.494·2e-4) = 0.214 Da nm/ps.
        assert momentum_status(np.vstack([still, [[0.215, 0, 0]]]), integrator) == Status.FAIL
    assert momentum_status(still, "langevin") == Status.NOT_APPLICABLE
    assert momentum_status(np.vstack([still, [[np.nan, 0, 0]]]), "verlet") == Status.FAIL


def test_rescaled_momentum_keeps_its_direction_only():
    scaled = np.outer([1.0, 1.3, 0.8], [3.0, 0.0, 4.0])
    assert momentum_status(scaled, "bussi") == Status.PASS
    assert momentum_status(scaled, "verlet") == Status.FAIL
    assert momentum_status(scaled + np.array([[0, 0, 0], [0, 0.5, 0], [0, 0, 0]]), "bussi") == Status.FAIL
    with pytest.raises(AuditError, match="shape"):
        momentum_status(np.zeros(3), "verlet")
