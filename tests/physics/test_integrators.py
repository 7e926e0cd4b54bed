"""Integrators: on-step velocities, dt² scaling of the invariant, heat that is booked to the last digit."""

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.integrators.langevin import conserved_energy, langevin_baoab
from qmml_md.integrators.substeps import heat, recorded_forces, recorded_potential
from qmml_md.integrators.verlet import velocity_verlet
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

MASS_DA, STIFFNESS = 12.0, 4.0e4  # kJ/mol/nm²: ω = sqrt(k/m) = 57.7 rad/ps, period 0.109 ps
KT = BOLTZMANN_KJ_PER_MOL_PER_K * 300.0


def oscillators(integrator, count: int = 1, *, seed: int = 7, still: bool = False) -> openmm.Context:
    """Independent anharmonic oscillators, Reference platform (float64)."""
    system = openmm.System()
    force = openmm.CustomExternalForce("0.5*k*(x^2+y^2+z^2)+2e6*x^4")
    force.addGlobalParameter("k", STIFFNESS)
    for i in range(count):
        system.addParticle(MASS_DA)
        force.addParticle(i)
    system.addForce(force)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    rng = np.random.default_rng(seed)
    context.setPositions(rng.normal(size=(count, 3)) * np.sqrt(KT / STIFFNESS))
    context.setVelocities(np.zeros((count, 3)) if still else rng.normal(size=(count, 3)) * np.sqrt(KT / MASS_DA))
    return context


def energies(context) -> tuple[float, float]:
    """Kinetic energy from the stored velocities themselves, and potential energy, kJ/mol."""
    state = context.getState(getEnergy=True, getVelocities=True)
    v = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
    return float(0.5 * MASS_DA * (v**2).sum()), state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def spread(make, timestep_ps: float, duration_ps: float = 1.0) -> float:
    """RMS of K + U about its mean over a run of fixed length."""
    integrator = make(timestep_ps)
    context = oscillators(integrator)
    totals = []
    for _ in range(round(duration_ps / timestep_ps)):
        integrator.step(1)
        totals.append(sum(energies(context)))
    return float(np.std(totals))


def test_verlet_error_falls_with_the_square_of_the_step() -> None:
    coarse, fine = spread(velocity_verlet, 1e-3), spread(velocity_verlet, 5e-4)
    # Exactly 4 as dt → 0; ω dt = 0.06, so the next order changes it by (ω dt)² ≈ 0.4 %.
    assert coarse / fine == pytest.approx(4.0, rel=0.03)


def test_leap_frog_velocities_are_caught() -> None:
    # Sabotage: OpenMM's leap-frog stores velocities half a step off; K + U from them errs in first order of dt.
    coarse, fine = spread(openmm.VerletIntegrator, 1e-3), spread(openmm.VerletIntegrator, 5e-4)
    assert coarse / fine == pytest.approx(2.0, rel=0.05)
    assert coarse > 5.0 * spread(velocity_verlet, 1e-3)


def test_verlet_is_reversible() -> None:
    integrator = velocity_verlet(1e-3)
    context = oscillators(integrator, 5)
    start = context.getState(getPositions=True).getPositions(asNumpy=True)._value.copy()
    integrator.step(500)
    back = context.getState(getVelocities=True).getVelocities(asNumpy=True)
    context.setVelocities(-back)
    integrator.step(500)
    end = context.getState(getPositions=True).getPositions(asNumpy=True)._value
    # 1000 steps of float64 rounding on positions of 0.01 nm: 1e3 · 1e-18 · Lyapunov growth ≪ 1e-12.
    assert np.abs(end - start).max() < 1e-12


def langevin(timestep_ps: float, *, friction: float = 5.0, seed: int = 11):
    """BAOAB at 300 K."""
    return langevin_baoab(timestep_ps=timestep_ps, temperature_K=300.0, friction_per_ps=friction, seed=seed)


def conserved_spread(timestep_ps: float, *, booked: bool = True) -> float:
    """RMS of H̃ over 0.5 ps of 200 oscillators, in kJ/mol per oscillator."""
    integrator = langevin(timestep_ps)
    context = oscillators(integrator, 200)
    values = []
    for _ in range(round(0.5 / timestep_ps)):
        integrator.step(1)
        kinetic, potential = energies(context)
        given = heat(integrator) if booked else 0.0
        values.append(conserved_energy(kinetic=kinetic, potential=potential, heat=given))
    return float(np.std(values)) / 200


def test_langevin_invariant_improves_with_the_square_of_the_step() -> None:
    ratio = conserved_spread(1e-3) / conserved_spread(5e-4)
    # Shadow work is second order; its stochastic part makes the ratio of two finite runs scatter by some 20 %.
    assert 3.0 < ratio < 5.2


def test_heat_that_is_not_booked_is_caught() -> None:
    # Sabotage: leave the thermostat out of the books.
    assert conserved_spread(5e-4, booked=False) > 20.0 * conserved_spread(5e-4)


def test_heat_is_the_change_of_kinetic_energy_of_free_particles() -> None:
    # Without forces every change of energy is heat: K(t) − K(0) = heat to rounding.
    system = openmm.System()
    for mass in (1.0, 12.0, 16.0):
        system.addParticle(mass)
    integrator = langevin(1e-3)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.zeros((3, 3)))
    context.setVelocities(np.ones((3, 3)))
    before = context.getState(getEnergy=True).getKineticEnergy()._value
    integrator.step(2000)
    after = context.getState(getEnergy=True).getKineticEnergy()._value
    # 2000 additions of order 10 kJ/mol: 2000 · 10 · 1e-16.
    assert heat(integrator) == pytest.approx(after - before, abs=1e-11)


def test_langevin_samples_the_temperature() -> None:
    integrator = langevin(1e-3, friction=20.0)
    context = oscillators(integrator, 300, still=True)
    integrator.step(1000)
    kinetic = []
    for _ in range(300):
        integrator.step(20)
        kinetic.append(energies(context)[0])
    # 900 degrees of freedom; samples 0.02 ps apart at γ = 20/ps are nearly independent: at most a factor 3 of
    # correlation, so the error of the mean is sqrt(2/900 · 3/300) = 0.5 %; BAOAB's bias of K is (ω dt)²/4 ≈ 0.1 %.
    assert np.mean(kinetic) / (0.5 * 900 * KT) == pytest.approx(1.0, abs=0.02)


def test_single_steps_are_the_same_as_many() -> None:
    ends = []
    for pieces in ((60,), (1,) * 60):
        integrator = langevin(1e-3)
        context = oscillators(integrator, 4)
        for steps in pieces:
            integrator.step(steps)
            recorded_potential(integrator)
            recorded_forces(integrator)
            context.getState(getPositions=True, getVelocities=True)
        ends.append(context.getState(getPositions=True).getPositions(asNumpy=True)._value.copy())
    assert np.array_equal(*ends)


@pytest.mark.parametrize("make", [velocity_verlet, langevin])
def test_what_is_recorded_is_what_the_context_says(make) -> None:
    integrator = make(1e-3)
    context = oscillators(integrator, 6)
    integrator.step(7)
    state = context.getState(getEnergy=True, getForces=True)
    assert recorded_potential(integrator) == state.getPotentialEnergy()._value
    assert np.array_equal(recorded_forces(integrator), state.getForces(asNumpy=True)._value)


@pytest.mark.parametrize("make", [velocity_verlet, langevin])
def test_a_step_costs_one_evaluation(make) -> None:
    calls = []

    def compute(state):
        calls.append(1)
        x = state.getPositions(asNumpy=True)._value
        return 0.5 * STIFFNESS * (x**2).sum(), -STIFFNESS * x

    system = openmm.System()
    system.addParticle(MASS_DA)
    system.addForce(openmm.PythonForce(compute))
    integrator = make(1e-3)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions([[0.01, 0.0, 0.0]])
    integrator.step(1)
    calls.clear()
    for _ in range(10):
        integrator.step(1)
        recorded_potential(integrator)
        recorded_forces(integrator)
    assert len(calls) == 10


def test_no_heat_without_a_thermostat() -> None:
    assert heat(velocity_verlet(1e-3)) == 0.0
