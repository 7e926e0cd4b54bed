"""RESPA: exact limits, kept forces that never go stale, and where a bath may act."""

import numpy as np
import openmm
import pytest

from qmml_md.integrators import respa as respa_module
from qmml_md.integrators.langevin import langevin_baoab
from qmml_md.integrators.respa import Langevin, conserved_energy, respa
from qmml_md.integrators.substeps import (
    STALE,
    heat,
    recorded_forces,
    recorded_potential,
    refresh,
)
from qmml_md.integrators.verlet import velocity_verlet
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

COUNT, MASS_DA, STIFFNESS = 20, 12.0, 4.0e4  # ω = sqrt(k/m) = 57.7 rad/ps
KT = BOLTZMANN_KJ_PER_MOL_PER_K * 300.0
FULL, INNER = 0, 1
SURFACE = f"{0.5 * STIFFNESS}*(x^2+y^2+z^2)+2e6*x^4"
BATH = Langevin(temperature_K=300.0, friction_per_ps=5.0, seed=3)


def split(timestep_ps: float, inner_steps: int = 4, thermostat: Langevin | None = None) -> openmm.CustomIntegrator:
    return respa(
        timestep_ps=timestep_ps,
        inner_steps=inner_steps,
        inner_group=INNER,
        outer_group=FULL,
        thermostat=thermostat,
    )


def oscillators(integrator, inner: str | None, *, full: str = SURFACE, seed: int = 7) -> openmm.Context:
    """Independent oscillators on ``full``, with a second potential in group INNER if one is given."""
    system = openmm.System()
    for expression, group in ((full, FULL), (inner, INNER)):
        if expression is None:
            continue
        force = openmm.CustomExternalForce(expression)
        force.setForceGroup(group)
        for i in range(COUNT):
            force.addParticle(i)
        system.addForce(force)
    for _ in range(COUNT):
        system.addParticle(MASS_DA)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    rng = np.random.default_rng(seed)
    context.setPositions(rng.normal(size=(COUNT, 3)) * np.sqrt(KT / STIFFNESS))
    context.setVelocities(rng.normal(size=(COUNT, 3)) * np.sqrt(KT / MASS_DA))
    return context


def arrays(context) -> tuple[np.ndarray, np.ndarray]:
    state = context.getState(getPositions=True, getVelocities=True)
    return state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value


def end(integrator, inner: str | None, steps: int) -> np.ndarray:
    context = oscillators(integrator, inner)
    integrator.step(steps)
    return np.array(arrays(context))


def kinetic(context) -> float:
    return float(0.5 * MASS_DA * (arrays(context)[1] ** 2).sum())


# 400 steps of rounding on positions of 0.01 nm and velocities of 1 nm/ps: 400 · 1e-16 · growth of neighbouring orbits.
ROUNDING = 1e-11


@pytest.mark.parametrize("inner_steps", [1, 4])
def test_with_the_full_surface_inside_it_is_verlet_with_the_inner_step(inner_steps: int) -> None:
    expected = end(velocity_verlet(1e-3 / inner_steps), None, 100 * inner_steps)
    assert np.abs(end(split(1e-3, inner_steps), SURFACE, 100) - expected).max() < ROUNDING


@pytest.mark.parametrize("inner_steps", [1, 4])
def test_with_nothing_inside_it_is_verlet_with_the_outer_step(inner_steps: int) -> None:
    expected = end(velocity_verlet(1e-3), None, 100)
    assert np.abs(end(split(1e-3, inner_steps), "0*x", 100) - expected).max() < ROUNDING


@pytest.mark.parametrize("inner_steps", [1, 2, 3])
def test_with_nothing_inside_and_a_cold_bath_it_is_baoab(inner_steps: int) -> None:
    # At 0 K there is no noise, and both must damp in the middle of the step.
    cold = Langevin(temperature_K=0.0, friction_per_ps=5.0, seed=3)
    baoab = langevin_baoab(timestep_ps=1e-3, temperature_K=0.0, friction_per_ps=5.0, seed=4)
    expected = end(baoab, None, 100)
    assert np.abs(end(split(1e-3, inner_steps, cold), "0*x", 100) - expected).max() < ROUNDING


def test_a_wrong_inner_potential_changes_the_error_and_not_the_surface() -> None:
    # Half the stiffness inside: the same orbit as dt → 0, with an error of order two.
    exact = end(velocity_verlet(1e-3 / 64), None, 20 * 64)
    wrong = [np.abs(end(split(1e-3 / n), f"{0.25 * STIFFNESS}*(x^2+y^2+z^2)", 20 * n) - exact).max() for n in (4, 8)]
    # Exactly 4 as dt → 0; the reference errs by (8/64)² of the finer one, 1.6 %, the next order by (ω dt)² = 0.02 %.
    assert wrong[0] / wrong[1] == pytest.approx(4.0, rel=0.03)


def flatness(timestep_ps: float, inner_steps: int, *, seeds: range = range(1, 9)) -> float:
    """RMS of H̃ of damped oscillators over 0.2 ps, over replicas."""
    squares = []
    for seed in seeds:
        bath = Langevin(temperature_K=300.0, friction_per_ps=5.0, seed=seed)
        integrator = split(timestep_ps, inner_steps, bath)
        context = oscillators(integrator, f"{0.4 * STIFFNESS}*(x^2+y^2+z^2)", seed=seed)
        values = []
        for _ in range(100):
            integrator.step(round(2e-3 / timestep_ps))
            values.append(
                conserved_energy(
                    kinetic=kinetic(context), potential=recorded_potential(integrator), heat=heat(integrator)
                )
            )
        squares.append(np.var(values))
    return float(np.sqrt(np.mean(squares)))


@pytest.mark.parametrize("inner_steps", [3, 4])
def test_invariant_with_a_bath_is_of_second_order(inner_steps: int) -> None:
    # The step shrinks eightfold: 64 in second order, 8 in first. The RMS of a walk of few independent steps scatters by
    # some 50 %, the ratio of two over eight replicas by sqrt(2/8) of that, 25 %.
    assert 32.0 < flatness(2e-3, inner_steps) / flatness(2.5e-4, inner_steps) < 128.0


def test_a_bath_in_every_inner_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = respa_module._inner_step

    def bathed(integrator, share: float, group: int, *, bath_inside: bool, constrained: bool) -> None:
        whole(integrator, share, group, bath_inside=True, constrained=constrained)

    sound = flatness(2.5e-4, 3)
    monkeypatch.setattr(respa_module, "_inner_step", bathed)
    # Sabotage: noise between the outer kicks bends the path that they integrate: first order, 8 in eight.
    coarse, fine = flatness(2e-3, 3), flatness(2.5e-4, 3)
    assert 4.0 < coarse / fine < 16.0
    assert fine > 5.0 * sound


def test_the_bath_gives_its_temperature() -> None:
    integrator = split(1e-3, 2, Langevin(temperature_K=300.0, friction_per_ps=20.0, seed=5))
    context = oscillators(integrator, f"{0.4 * STIFFNESS}*(x^2+y^2+z^2)")
    integrator.step(300)
    values = []
    for _ in range(1500):
        integrator.step(20)
        values.append(kinetic(context) / (1.5 * COUNT * KT))
    # 60 degrees of freedom; samples 0.02 ps apart at γ = 20/ps: at most a factor 3 of correlation, so the error of the
    # mean is sqrt(2/60 · 3/1500) = 0.8 %, that of the variance sqrt(2 · 3/1500) = 6 %; the bias of K is ≤ 0.1 %.
    assert np.mean(values) == pytest.approx(1.0, abs=4 * 0.008)
    assert np.var(values) * 30.0 == pytest.approx(1.0, abs=4 * 0.06)


# --- kept forces -----------------------------------------------------------------------------------------------------


def implied_start_force(before: np.ndarray, after: np.ndarray, forces: np.ndarray, dt: float) -> np.ndarray:
    """Force of the first kick, from the velocities before and after one velocity-Verlet step."""
    return 2.0 * MASS_DA * (after - before) / dt - forces


@pytest.mark.parametrize("how", ["positions", "state", "reinitialised"])
def test_positions_from_outside_are_never_met_with_old_forces(how: str) -> None:
    integrator, fresh = split(1e-3), split(1e-3)
    inner = f"{0.4 * STIFFNESS}*(x^2+y^2+z^2)"
    context, other = oscillators(integrator, inner), oscillators(fresh, inner, seed=8)
    integrator.step(13)
    x, v = arrays(other)
    if how == "state":
        context.setState(other.getState(getPositions=True, getVelocities=True))
    else:
        context.setPositions(x)
        context.setVelocities(v)
    if how == "reinitialised":
        context.reinitialize(preserveState=True)
    integrator.step(5)
    fresh.step(5)
    assert np.array_equal(arrays(context), arrays(other))


def swapped(*, told: bool) -> tuple[np.ndarray, np.ndarray]:
    """Velocities after one step on a stiffer surface at unmoved positions: of a used integrator, and of a new one."""
    integrator, fresh = split(1e-3), split(1e-3)
    inner = f"{0.4 * STIFFNESS}*(x^2+y^2+z^2)"
    context = oscillators(integrator, inner)
    integrator.step(13)
    x, v = arrays(context)
    system = context.getSystem()
    stiffer = openmm.CustomExternalForce(f"{0.7 * STIFFNESS}*(x^2+y^2+z^2)")
    stiffer.setForceGroup(FULL)
    for i in range(COUNT):
        stiffer.addParticle(i)
    system.removeForce(0)
    system.addForce(stiffer)
    context.reinitialize(preserveState=True)
    if told:
        refresh(integrator)
    integrator.step(1)
    other = openmm.Context(openmm.XmlSerializer.clone(system), fresh, openmm.Platform.getPlatformByName("Reference"))
    other.setPositions(x)
    other.setVelocities(v)
    fresh.step(1)
    return arrays(context)[1], arrays(other)[1]


def test_a_swap_of_the_model_is_seen_after_refresh() -> None:
    assert np.array_equal(*swapped(told=True))


def test_a_swap_of_the_model_without_refresh_is_caught() -> None:
    # Sabotage: nothing tells the integrator that the forces it keeps are another model's.
    old, new = swapped(told=False)
    assert np.abs(old - new).max() > 1e-3


def test_a_barostat_inside_the_step_is_seen() -> None:
    """The first kick of a step in which the box changed is with forces at the moved positions."""
    box, cutoff, dt = 1.5, 0.6, 2e-3
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(np.eye(3) * box))
    for group, height in ((FULL, 60.0), (INNER, 50.0)):
        force = openmm.CustomNonbondedForce(f"{height}*(1-r^2/{cutoff**2})^4")
        force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(cutoff)
        force.setForceGroup(group)
        for _ in range(COUNT):
            force.addParticle()
        system.addForce(force)
    for _ in range(COUNT):
        system.addParticle(MASS_DA)
    barostat = openmm.MonteCarloBarostat(200.0, 300.0, 1)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = split(dt, 1)
    integrator.setRandomNumberSeed(2)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    rng = np.random.default_rng(3)
    context.setPositions(rng.uniform(size=(COUNT, 3)) * box)
    context.setVelocities(rng.normal(size=(COUNT, 3)) * np.sqrt(KT / MASS_DA))
    probe = openmm.Context(system, openmm.VerletIntegrator(dt), openmm.Platform.getPlatformByName("Reference"))
    integrator.step(20)
    moves = 0
    for _ in range(40):
        old_box, v0, old = context.getState().getPeriodicBoxVectors(), arrays(context)[1], recorded_forces(integrator)
        integrator.step(1)
        x1, v1 = arrays(context)
        new_box, forces = context.getState().getPeriodicBoxVectors(), recorded_forces(integrator)
        if new_box == old_box:
            continue
        moves += 1
        probe.setPeriodicBoxVectors(*new_box)
        probe.setPositions(x1 - dt * (v1 - 0.5 * dt * forces / MASS_DA))
        there = probe.getState(getForces=True, groups={FULL}).getForces(asNumpy=True)._value
        implied = implied_start_force(v0, v1, forces, dt)
        # 2 m/dt · rounding of v ≈ 1e4 · 1e-15; the forces that were kept are off by some 1 kJ/mol/nm.
        assert np.abs(implied - there).max() < 1e-8
        assert np.abs(old - there).max() > 1e-3
    assert moves >= 5


def test_a_new_integrator_knows_nothing_yet() -> None:
    integrator = split(1e-3)
    assert integrator.getGlobalVariableByName(STALE) == 1.0
    context = oscillators(integrator, "0*x")
    integrator.step(1)
    assert integrator.getGlobalVariableByName(STALE) == 0.0
    refresh(integrator)
    assert integrator.getGlobalVariableByName(STALE) == 1.0
    assert context.getIntegrator().getNumGlobalVariables() > 0


def test_refresh_asks_nothing_of_integrators_that_keep_nothing() -> None:
    integrator = velocity_verlet(1e-3)
    refresh(integrator)
    assert integrator.getNumGlobalVariables() == 1


def test_recorded_forces_are_those_of_the_full_surface_at_once() -> None:
    integrator = split(1e-3)
    context = oscillators(integrator, f"{0.4 * STIFFNESS}*(x^2+y^2+z^2)")
    integrator.step(1)
    x = arrays(context)[0]
    expected = -STIFFNESS * x - 8e6 * x**3 * np.array([1.0, 0.0, 0.0])
    # Forces of order 1e3 kJ/mol/nm to rounding.
    assert np.abs(recorded_forces(integrator) - expected).max() < 1e-10
