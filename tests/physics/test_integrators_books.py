"""Every integrator: one evaluation a step, books that close, an invariant of second order, exact checkpoints."""

import numpy as np
import openmm
import pytest

from qmml_md.errors import ConfigError
from qmml_md.integrators import bussi as bussi_module
from qmml_md.integrators import langevin, nose_hoover, respa, verlet
from qmml_md.integrators.substeps import HEAT, global_names, heat, recorded_forces, recorded_potential, refresh
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

COUNT, MASS_DA, STIFFNESS, TEMPERATURE_K = 20, 12.0, 4.0e4, 300.0  # ω = sqrt(k/m) = 57.7 rad/ps
KT = BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K
FULL, INNER = 0, 1
BATH = {"temperature_K": TEMPERATURE_K, "friction_per_ps": 5.0, "seed": 3}
GLOBAL_BATH = {"temperature_K": TEMPERATURE_K, "relaxation_ps": 0.05, "degrees_of_freedom": 3 * COUNT}
GROUPS = {"inner_steps": 3, "inner_group": INNER, "outer_group": FULL}


def make(name: str, timestep_ps: float = 1e-3, *, constrained: bool = False) -> openmm.CustomIntegrator:
    """An integrator by name."""
    common = {"timestep_ps": timestep_ps, "constrained": constrained}
    if name == "verlet":
        return verlet.velocity_verlet(**common)
    if name == "baoab":
        return langevin.langevin_baoab(**common, **BATH)
    if name == "bussi":
        return bussi_module.bussi(**common, **GLOBAL_BATH, seed=3)
    if name == "nose-hoover":
        return nose_hoover.nose_hoover(**common, **GLOBAL_BATH)
    bath = respa.Langevin(**BATH) if name == "respa-langevin" else None
    return respa.respa(**common, **GROUPS, thermostat=bath)


NAMES = ("verlet", "baoab", "bussi", "nose-hoover", "respa", "respa-langevin")
THERMOSTATS = ("baoab", "bussi", "nose-hoover", "respa-langevin")
SAMPLES = 400


def oscillators(integrator, *, seed: int = 7, count: int = COUNT) -> openmm.Context:
    """Independent anharmonic oscillators in group FULL; their harmonic part in INNER if the integrator wants it."""
    system = openmm.System()
    full = openmm.CustomExternalForce(f"{0.5 * STIFFNESS}*(x^2+y^2+z^2)+2e6*x^4")
    inner = openmm.CustomExternalForce(f"{0.5 * STIFFNESS}*(x^2+y^2+z^2)")
    for i in range(count):
        system.addParticle(MASS_DA)
        full.addParticle(i)
        inner.addParticle(i)
    system.addForce(full)
    if integrator.getIntegrationForceGroups() == 1 << FULL:
        inner.setForceGroup(INNER)
        system.addForce(inner)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    rng = np.random.default_rng(seed)
    context.setPositions(rng.normal(size=(count, 3)) * np.sqrt(KT / STIFFNESS))
    context.setVelocities(rng.normal(size=(count, 3)) * np.sqrt(KT / MASS_DA))
    return context


def kinetic(context) -> float:
    velocities = context.getState(getVelocities=True).getVelocities(asNumpy=True)._value
    return float(0.5 * MASS_DA * (velocities**2).sum())


def energies(name: str, timestep_ps: float, *, booked: bool = True, integrator=None) -> tuple[np.ndarray, np.ndarray]:
    """K + U − heat, and for a chain the extended energy, at the same SAMPLES instants 1 fs apart for every step."""
    integrator = integrator or make(name, timestep_ps)
    context = oscillators(integrator)
    flat, extended = [], []
    for _ in range(SAMPLES):
        integrator.step(round(1e-3 / timestep_ps))
        k, u = kinetic(context), recorded_potential(integrator)
        flat.append(k + u - (heat(integrator) if booked else 0.0))
        if name == "nose-hoover":
            extended.append(nose_hoover.extended_energy(integrator, kinetic=k, potential=u))
    return np.array(flat), np.array(extended)


@pytest.mark.parametrize("name", ["verlet", "nose-hoover", "respa"])
def test_error_of_the_invariant_falls_with_the_square_of_the_step(name: str) -> None:
    coarse, fine = (energies(name, dt)[0].std() for dt in (1e-3, 5e-4))
    # Deterministic: exactly 4 as dt → 0; ω dt = 0.06, and with the anharmonic part ω is up to 1.5 times that, so the
    # next order changes it by (ω dt)² ≈ 0.8 %.
    assert coarse / fine == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize("name", THERMOSTATS)
def test_heat_that_is_not_booked_is_caught(name: str) -> None:
    # The energy of 60 degrees of freedom fluctuates by kT sqrt(60); the invariant errs by (ω dt)² of the same.
    assert energies(name, 5e-4, booked=False)[0].std() > 100.0 * energies(name, 5e-4)[0].std()


def test_both_invariants_of_the_chain_are_flat_and_agree_to_fourth_order() -> None:
    flat, extended, apart = {}, {}, {}
    for dt in (1e-3, 5e-4):
        booked, total = energies("nose-hoover", dt)
        flat[dt], extended[dt], apart[dt] = booked.std(), total.std(), (total - booked).std()
    # What leaves the atoms enters the chain, but for the error of the chain's own propagator, of order four: 16, and
    # the next order is (dt/τ)² = 4e-4 of it; it is far below the error of second order that both share.
    assert extended[1e-3] / extended[5e-4] == pytest.approx(4.0, rel=0.01)
    assert apart[1e-3] / apart[5e-4] == pytest.approx(16.0, rel=0.01)
    assert apart[1e-3] < 1e-3 * flat[1e-3]


def test_a_chain_that_leaves_out_its_last_half_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def only_before(integrator, factor: str) -> None:
        calls.append(factor)
        if len(calls) % 2 == 1:
            whole(integrator, factor)

    sound = energies("nose-hoover", 5e-4)[1].std()
    whole = nose_hoover.rescale
    monkeypatch.setattr(nose_hoover, "rescale", only_before)
    # Sabotage: the chain takes what the atoms do not give. The heat that is booked is measured and stays true; only the
    # extended energy can tell, by the whole of the energy exchanged: kT sqrt(60) against (ω dt)² of it.
    booked, extended = energies("nose-hoover", 5e-4)
    assert extended.std() > 100.0 * sound
    assert booked.std() < 3.0 * sound


@pytest.mark.parametrize("name", NAMES)
def test_what_is_recorded_is_what_the_context_says(name: str) -> None:
    integrator = make(name)
    context = oscillators(integrator)
    integrator.step(7)
    state = context.getState(getEnergy=True, getForces=True, groups={FULL})
    assert recorded_potential(integrator) == state.getPotentialEnergy()._value
    assert np.array_equal(recorded_forces(integrator), state.getForces(asNumpy=True)._value)


@pytest.mark.parametrize("name", NAMES)
def test_the_account_holds_all_heat(name: str) -> None:
    # Without forces every change of kinetic energy is heat; 500 additions of order 100 kJ/mol: 500 · 100 · 1e-16.
    system = openmm.System()
    for mass in (1.0, 12.0, 16.0, 14.0, 35.0):
        system.addParticle(mass)
    integrator = make(name)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.zeros((5, 3)))
    context.setVelocities(np.ones((5, 3)))
    before = context.getState(getEnergy=True).getKineticEnergy()._value
    integrator.step(500)
    after = context.getState(getEnergy=True).getKineticEnergy()._value
    assert heat(integrator) == pytest.approx(after - before, abs=1e-11)
    assert (abs(heat(integrator)) > 1.0) == (name in THERMOSTATS)


def counting(calls: list[int], group: int, stiffness: float) -> openmm.PythonForce:
    """A harmonic force that counts how often it is evaluated."""

    def compute(state):
        calls.append(group)
        x = state.getPositions(asNumpy=True)._value
        return 0.5 * stiffness * (x**2).sum(), -stiffness * x

    force = openmm.PythonForce(compute)
    force.setForceGroup(group)
    return force


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_costs_one_evaluation(name: str, constrained: bool) -> None:
    calls: list[int] = []
    integrator = make(name, constrained=constrained)
    system = openmm.System()
    for _ in range(4):
        system.addParticle(MASS_DA)
    system.addConstraint(0, 1, 0.1)
    system.addForce(counting(calls, FULL, STIFFNESS))
    if name.startswith("respa"):
        system.addForce(counting(calls, INNER, 0.9 * STIFFNESS))
    if not constrained:
        system.removeConstraint(0)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.02, 0.0], [0.0, 0.0, 0.03]])
    integrator.step(1)
    calls.clear()
    for _ in range(10):
        integrator.step(1)
        recorded_potential(integrator)
        recorded_forces(integrator)
        heat(integrator)
    assert calls.count(FULL) == 10
    assert calls.count(INNER) == (30 if name.startswith("respa") else 0)


def everything(context, integrator) -> list[np.ndarray]:
    """Positions, velocities, every global and every per-particle variable."""
    state = context.getState(getPositions=True, getVelocities=True)
    rows = [state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value]
    rows += [np.array(integrator.getGlobalVariableByName(name)) for name in global_names(integrator)]
    for i in range(integrator.getNumPerDofVariables()):
        rows.append(np.array([[v.x, v.y, v.z] for v in integrator.getPerDofVariable(i)]))
    return rows


@pytest.mark.parametrize("renewed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_restores_to_the_bit_in_a_fresh_context(name: str, renewed: bool) -> None:
    first = make(name)
    context = oscillators(first)
    first.step(31)
    checkpoint = context.createCheckpoint()
    first.step(50)
    expected = everything(context, first)
    second = make(name)
    other = oscillators(second, seed=99)
    second.step(5)
    other.loadCheckpoint(checkpoint)
    if renewed:
        # What is evaluated anew at the same positions is the same, and the random stream does not notice.
        refresh(second)
    second.step(50)
    assert all(np.array_equal(a, b) for a, b in zip(expected, everything(other, second), strict=True))


@pytest.mark.parametrize("name", THERMOSTATS)
def test_positions_and_velocities_alone_do_not_restore(name: str) -> None:
    # Sabotage: leave out globals and random stream.
    first = make(name)
    context = oscillators(first)
    first.step(31)
    state = context.getState(getPositions=True, getVelocities=True)
    second = make(name)
    other = oscillators(second, seed=99)
    second.step(5)
    other.setState(state)
    first.step(50)
    second.step(50)
    assert not np.array_equal(everything(context, first)[0], everything(other, second)[0])


@pytest.mark.parametrize("name", NAMES)
def test_single_steps_are_the_same_as_many(name: str) -> None:
    ends = []
    for pieces in ((60,), (1,) * 60):
        integrator = make(name)
        context = oscillators(integrator)
        for steps in pieces:
            integrator.step(steps)
            recorded_forces(integrator)
            context.getState(getPositions=True, getVelocities=True)
        ends.append(everything(context, integrator))
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))


def test_heat_account_stands_where_a_thermostat_is() -> None:
    assert {name for name in NAMES if HEAT in global_names(make(name))} == set(THERMOSTATS)
    assert heat(make("respa")) == 0.0


def test_public_invariants_are_what_they_say() -> None:
    assert verlet.conserved_energy(kinetic=2.0, potential=-5.0) == -3.0
    assert respa.conserved_energy(kinetic=2.0, potential=-5.0) == -3.0
    for module in (langevin, bussi_module, nose_hoover, respa):
        assert module.conserved_energy(kinetic=2.0, potential=-5.0, heat=1.0) == -4.0
    new = make("nose-hoover")
    assert nose_hoover.extended_energy(new, kinetic=2.0, potential=-5.0) == -3.0


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: bussi_module.bussi(timestep_ps=1e-3, **{**GLOBAL_BATH, "degrees_of_freedom": 3}, seed=1), "Langevin"),
        (
            lambda: bussi_module.bussi(timestep_ps=1e-3, **{**GLOBAL_BATH, "relaxation_ps": 0.0}, seed=1),
            "relaxation_ps",
        ),
        (lambda: nose_hoover.nose_hoover(timestep_ps=-1e-3, **GLOBAL_BATH), "timestep_ps"),
        (lambda: nose_hoover.nose_hoover(timestep_ps=1e-3, **GLOBAL_BATH, chain_length=0), "chain_length"),
        (lambda: respa.respa(timestep_ps=1e-3, inner_steps=0, inner_group=1, outer_group=0), "inner_steps"),
        (lambda: respa.respa(timestep_ps=1e-3, inner_steps=2, inner_group=1, outer_group=1), "told apart"),
        (lambda: respa.respa(timestep_ps=1e-3, inner_steps=2, inner_group=1, outer_group=32), "between 0 and 31"),
    ],
)
def test_what_cannot_work_is_refused_with_its_cure(build, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        build()
    assert caught.value.cure


def test_four_degrees_of_freedom_are_enough_for_one_factor() -> None:
    assert bussi_module.bussi(timestep_ps=1e-3, **{**GLOBAL_BATH, "degrees_of_freedom": 4}, seed=1) is not None
