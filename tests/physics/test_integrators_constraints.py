"""Constraints in every integrator: lengths hold, books close, the temperature is that of the degrees of freedom."""

import numpy as np
import openmm
import pytest

from qmml_md.errors import DynamicsError
from qmml_md.integrators.bussi import bussi
from qmml_md.integrators.freedom import degrees_of_freedom
from qmml_md.integrators.langevin import langevin_baoab
from qmml_md.integrators.nose_hoover import extended_energy, nose_hoover
from qmml_md.integrators.respa import Langevin, respa
from qmml_md.integrators.substeps import (
    CONSTRAINT_TOLERANCE,
    allow_constraints,
    heat,
    kick,
    record,
    recorded_potential,
)
from qmml_md.integrators.verlet import velocity_verlet
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

TEMPERATURE_K = 300.0
KT = BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K
BOX_NM, REACH_NM, HEIGHT = 1.2, 0.55, 60.0
ATOMS, CONSTRAINTS = 18, 2 + 6 + 4
FREEDOM = 3 * ATOMS - CONSTRAINTS  # 42, of which the centre of mass has 3
FULL, INNER = 0, 1


def molecules() -> tuple[openmm.System, np.ndarray]:
    """Two diatomics, two rigid waters, two waters with a flexible angle, two ions; soft spheres in a periodic box."""
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(np.eye(3) * BOX_NM))
    soft = openmm.CustomNonbondedForce(f"{HEIGHT}*(1-r^2/{REACH_NM**2})^4")
    soft.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    soft.setCutoffDistance(REACH_NM)
    angle = openmm.HarmonicAngleForce()
    rows: list[np.ndarray] = []
    sites = np.array([[i, j, k] for i in range(3) for j in range(2) for k in range(2)]) * np.array([0.4, 0.6, 0.6])
    # Hydrogens of 4 Da, so that 1 fs resolves their librations.
    oh, hh = 0.1, 0.163
    bent = np.array([[0, 0, 0], [hh / 2, np.sqrt(oh**2 - hh**2 / 4), 0], [-hh / 2, np.sqrt(oh**2 - hh**2 / 4), 0]])
    kinds = ["pair"] * 2 + ["rigid"] * 2 + ["bent"] * 2 + ["ion"] * 2
    for kind, site in zip(kinds, sites, strict=False):
        shape = {"pair": bent[:2], "rigid": bent, "bent": bent, "ion": bent[:1]}[kind]
        first = len(rows)
        for n, row in enumerate(shape):
            system.addParticle(16.0 if n == 0 else 4.0)
            soft.addParticle()
            rows.append(site + row + 0.1)
        for i, j in [(0, 1), (0, 2), (1, 2)][: {"pair": 1, "rigid": 3, "bent": 2, "ion": 0}[kind]]:
            system.addConstraint(first + i, first + j, hh if (i, j) == (1, 2) else oh)
        for i, j in [(0, 1), (0, 2), (1, 2)]:
            if max(i, j) < len(shape):
                soft.addExclusion(first + i, first + j)
        if kind == "bent":
            angle.addAngle(first + 1, first, first + 2, 1.9, 300.0)
    system.addForce(soft)
    system.addForce(angle)
    return system, np.array(rows)


def masses(system: openmm.System) -> np.ndarray:
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])


def settle(integrator, *, seed: int = 6) -> openmm.Context:
    """A context with Maxwell-Boltzmann velocities that obey the constraints, centre of mass at rest."""
    system, positions = molecules()
    if integrator.getIntegrationForceGroups() == 1 << FULL:
        inner = openmm.XmlSerializer.clone(system.getForce(1))
        inner.setForceGroup(INNER)
        system.addForce(inner)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    context.applyConstraints(CONSTRAINT_TOLERANCE)
    m = masses(system)
    v = np.random.default_rng(seed).normal(size=positions.shape) * np.sqrt(KT / m)[:, None]
    context.setVelocities(v)
    context.applyVelocityConstraints(CONSTRAINT_TOLERANCE)
    v = context.getState(getVelocities=True).getVelocities(asNumpy=True)._value
    context.setVelocities(v - (m @ v) / m.sum())
    return context


def arrays(context) -> tuple[np.ndarray, np.ndarray]:
    state = context.getState(getPositions=True, getVelocities=True)
    return state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value


def kinetic(context) -> float:
    v = arrays(context)[1]
    return float(0.5 * masses(context.getSystem()) @ (v**2).sum(axis=1))


BATH = {"temperature_K": TEMPERATURE_K, "friction_per_ps": 5.0, "seed": 3}
GLOBAL_BATH = {"temperature_K": TEMPERATURE_K, "relaxation_ps": 0.05}


def make(name: str, timestep_ps: float = 1e-3, *, freedom: int = FREEDOM - 3, constrained: bool = True):
    common = {"timestep_ps": timestep_ps, "constrained": constrained}
    groups = {"inner_steps": 2, "inner_group": INNER, "outer_group": FULL}
    builders = {
        "verlet": lambda: velocity_verlet(**common),
        "baoab": lambda: langevin_baoab(**common, **BATH),
        "bussi": lambda: bussi(**common, **GLOBAL_BATH, degrees_of_freedom=freedom, seed=3),
        "nose-hoover": lambda: nose_hoover(**common, **GLOBAL_BATH, degrees_of_freedom=freedom),
        "respa": lambda: respa(**common, **groups),
        "respa-langevin": lambda: respa(**common, **groups, thermostat=Langevin(**BATH)),
    }
    return builders[name]()


NAMES = ("verlet", "baoab", "bussi", "nose-hoover", "respa", "respa-langevin")


def broken(context) -> tuple[float, float]:
    """Largest relative error of a constrained distance, and largest relative velocity along one, nm/ps."""
    system = context.getSystem()
    x, v = arrays(context)
    rows = [system.getConstraintParameters(k) for k in range(system.getNumConstraints())]
    # OpenMM holds rigid waters by SETTLE, which keeps the distances themselves in float32.
    settled = {4, 5, 6, 7, 8, 9}
    wanted = [float(np.float32(d._value)) if {i, j} <= settled else d._value for i, j, d in rows]
    lengths = [abs(np.linalg.norm(x[i] - x[j]) / d - 1.0) for (i, j, _), d in zip(rows, wanted, strict=True)]
    along = [abs((v[i] - v[j]) @ (x[i] - x[j]) / d._value) for i, j, d in rows]
    return max(lengths), max(along)


def test_degrees_of_freedom_are_counted() -> None:
    system, _ = molecules()
    assert degrees_of_freedom(system, centre_of_mass_at_rest=False) == FREEDOM
    assert degrees_of_freedom(system, centre_of_mass_at_rest=True) == FREEDOM - 3
    system.addParticle(0.0)
    assert degrees_of_freedom(system, centre_of_mass_at_rest=False) == FREEDOM


def test_nothing_that_moves_is_refused() -> None:
    system = openmm.System()
    system.addParticle(1.0)
    with pytest.raises(DynamicsError, match="no degree of freedom"):
        degrees_of_freedom(system, centre_of_mass_at_rest=True)


@pytest.mark.parametrize("name", NAMES)
def test_constraints_hold_in_lengths_and_velocities(name: str) -> None:
    integrator = make(name)
    context = settle(integrator)
    integrator.step(200)
    lengths, along = broken(context)
    # The tolerance is relative to the distance, and for velocities to v ≈ 1 nm/ps; a solver may stop just below it.
    assert lengths < 2.0 * CONSTRAINT_TOLERANCE
    assert along < 10.0 * CONSTRAINT_TOLERANCE


def test_constraints_that_are_not_asked_for_are_lost() -> None:
    integrator = make("verlet", constrained=False)
    context = settle(integrator)
    integrator.step(50)
    assert broken(context)[0] > 0.01


def invariants(name: str, timestep_ps: float, *, integrator=None, seed: int = 6) -> tuple[float, float]:
    """RMS of K + U − heat, and for a chain of the extended energy, over 0.2 ps at instants 2 fs apart."""
    integrator = integrator or make(name, timestep_ps)
    integrator.setRandomNumberSeed(seed)
    context = settle(integrator, seed=seed)
    flat, extended = [], []
    for _ in range(100):
        integrator.step(round(2e-3 / timestep_ps))
        k, u = kinetic(context), recorded_potential(integrator)
        flat.append(k + u - heat(integrator))
        extended.append(extended_energy(integrator, kinetic=k, potential=u) if name == "nose-hoover" else flat[-1])
    return float(np.std(flat)), float(np.std(extended))


@pytest.mark.parametrize("name", ["verlet", "nose-hoover", "respa"])
def test_error_of_the_invariant_falls_with_the_square_of_the_step(name: str) -> None:
    # Rigid hydrogens of 4 Da turn at sqrt(kT/I) ≈ 15 rad/ps and bounce at up to 60 rad/ps: (ω dt)² ≈ 0.4 % at 1 fs.
    coarse, fine = invariants(name, 1e-3), invariants(name, 5e-4)
    assert np.divide(coarse, fine) == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("name", ["baoab", "bussi", "respa-langevin"])
def test_error_of_stochastic_invariants_falls_with_the_square_of_the_step(name: str) -> None:
    coarse, fine = (
        np.sqrt(np.mean([invariants(name, dt, seed=seed)[0] ** 2 for seed in range(1, 9)])) for dt in (2e-3, 2.5e-4)
    )
    # The step shrinks eightfold: 64 in second order, 8 in first. The RMS of a walk of few independent steps scatters by
    # some 50 %, the ratio of two over eight replicas by sqrt(2/8) of that, 25 %.
    assert 64.0 / 2.0 < coarse / fine < 64.0 * 2.0


def test_velocities_that_do_not_feel_the_constraint_are_caught() -> None:
    def deaf(timestep_ps: float) -> openmm.CustomIntegrator:
        integrator = openmm.CustomIntegrator(timestep_ps)
        allow_constraints(integrator)
        kick(integrator, 0.5, constrained=True)
        integrator.addComputePerDof("x", "x + dt*v")
        integrator.addConstrainPositions()
        integrator.addConstrainVelocities()
        kick(integrator, 0.5, constrained=True)
        record(integrator)
        return integrator

    # Sabotage: without (x − x₁)/dt each step projects away θ²/2 of a rotation by θ = ω dt: a loss of first order.
    coarse, fine = (invariants("verlet", dt, integrator=deaf(dt))[0] for dt in (1e-3, 5e-4))
    assert coarse / fine == pytest.approx(2.0, rel=0.15)
    assert fine > 20.0 * invariants("verlet", 5e-4)[0]


def temperature_ratio(name: str, *, freedom: int = FREEDOM - 3, count: int) -> tuple[float, float]:
    """Mean K over that of ``count`` degrees of freedom, and its standard error from eight blocks."""
    integrator = make(name, 2e-3, freedom=freedom)
    context = settle(integrator)
    integrator.step(500)
    values = []
    for _ in range(640):
        integrator.step(30)
        values.append(kinetic(context) / (0.5 * count * KT))
    blocks = np.mean(np.reshape(values, (8, -1)), axis=1)
    return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(8))


@pytest.mark.parametrize(
    ("name", "count"),
    [("baoab", FREEDOM), ("respa-langevin", FREEDOM), ("bussi", FREEDOM - 3), ("nose-hoover", FREEDOM - 3)],
)
def test_temperature_is_that_of_the_counted_degrees_of_freedom(name: str, count: int) -> None:
    mean, error = temperature_ratio(name, count=count)
    # Student's t with seven degrees of freedom exceeds 4.8 twice in a thousand. Blocks of 4.8 ps are many relaxation
    # times of 0.1 ps long. Finite step: (ω dt)²/4 ≈ 0.4 % for the fastest librations at 2 fs.
    assert abs(mean - 1.0) < 4.8 * error + 4e-3
    # Sabotage: 3N instead would read 42/54 of the temperature, 22 % too cold.
    assert abs(mean * count / (3 * ATOMS) - 1.0) > 4.8 * error + 4e-3


def test_a_thermostat_that_is_told_three_for_each_atom_is_caught() -> None:
    mean, error = temperature_ratio("bussi", freedom=3 * ATOMS, count=FREEDOM - 3)
    assert mean == pytest.approx(3 * ATOMS / (FREEDOM - 3), abs=4.8 * error + 4e-3)
    assert mean > 1.3
