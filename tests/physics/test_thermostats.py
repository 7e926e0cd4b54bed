"""Thermostats sample the canonical distribution of the kinetic energy: its mean, its variance, its shape.

The kinetic energy of N_f degrees of freedom is a gamma variate of shape N_f/2 and scale kT: mean N_f kT/2, variance
N_f (kT)²/2.
"""

import numpy as np
import openmm
import pytest
from scipy import stats

from qmml_md.integrators import bussi as bussi_module
from qmml_md.integrators.bussi import bussi, gamma_variate
from qmml_md.integrators.langevin import langevin_baoab
from qmml_md.integrators.nose_hoover import nose_hoover
from qmml_md.integrators.substeps import BEFORE, drift, kick, kinetic_energy, open_heat_account, record, rescale
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

TEMPERATURE_K, MASS_DA = 300.0, 12.0
KT = BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K
REFERENCE = "Reference"


def context_of(system: openmm.System, integrator, positions: np.ndarray, velocities: np.ndarray) -> openmm.Context:
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(REFERENCE))
    context.setPositions(positions)
    context.setVelocities(velocities)
    return context


def velocities_of(context) -> np.ndarray:
    return context.getState(getVelocities=True).getVelocities(asNumpy=True)._value


def kinetic(context) -> float:
    return float(0.5 * MASS_DA * (velocities_of(context) ** 2).sum())


def at_rest(rng: np.random.Generator, count: int) -> np.ndarray:
    """Maxwell-Boltzmann velocities without total momentum, equal masses."""
    v = rng.normal(size=(count, 3)) * np.sqrt(KT / MASS_DA)
    return v - v.mean(axis=0)


def far_from(sample: np.ndarray, cdf) -> bool:
    """Kolmogorov-Smirnov at p = 1e-3: a sound sampler fails for one choice of the seed in a thousand."""
    return bool(stats.kstest(sample, cdf).pvalue < 1e-3)


# --- the gamma variate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [1.0, 1.5, 6.0, 150.0])
def test_gamma_variates_have_the_gamma_distribution(shape: float) -> None:
    integrator = openmm.CustomIntegrator(1e-3)
    integrator.setRandomNumberSeed(17)
    gamma_variate(integrator, shape)
    system = openmm.System()
    system.addParticle(1.0)
    context = context_of(system, integrator, np.zeros((1, 3)), np.zeros((1, 3)))
    sample = []
    for _ in range(4000):
        integrator.step(1)
        sample.append(integrator.getGlobalVariableByName("gamma"))
    assert context is not None
    assert not far_from(np.array(sample), stats.gamma(shape).cdf)
    # Sabotage: a shape that moves the mean by a fifth of the standard deviation; D ≈ 0.08, and 4000 draws see 0.03.
    assert far_from(np.array(sample), stats.gamma(shape + 0.2 * np.sqrt(shape)).cdf)


# --- Bussi's propagator, on free particles, where it is all that happens ---------------------------------------------

FREE, FREE_FREEDOM, MEMORY = 5, 12, 0.3
DRAWS = 6000


def one_step_from(start: float, *, freedom: int = FREE_FREEDOM, count: int = FREE) -> np.ndarray:
    """Signed velocity factors of independent single steps from one kinetic energy, shape (DRAWS,)."""
    integrator = bussi(
        timestep_ps=1e-3,
        temperature_K=TEMPERATURE_K,
        relaxation_ps=-1e-3 / np.log(MEMORY),
        degrees_of_freedom=freedom,
        seed=5,
    )
    system = openmm.System()
    for _ in range(count):
        system.addParticle(MASS_DA)
    v = at_rest(np.random.default_rng(2), count)
    v *= np.sqrt(start / (0.5 * MASS_DA * (v**2).sum()))
    context = context_of(system, integrator, np.zeros((count, 3)), v)
    factors = []
    for _ in range(DRAWS):
        context.setVelocities(v)
        integrator.step(1)
        factors.append(velocities_of(context)[0, 0] / v[0, 0])
    return np.array(factors)


def exact(start: float, freedom: int = FREE_FREEDOM):
    """Distribution of K after one step: (1 − c) kT/2 times a noncentral χ² of N_f with λ = 2 c K₀/((1 − c) kT)."""
    noncentrality = 2.0 * MEMORY * start / ((1.0 - MEMORY) * KT)
    return stats.ncx2(freedom, noncentrality, scale=0.5 * (1.0 - MEMORY) * KT)


@pytest.mark.parametrize("start", [0.2 * 6 * KT, 3.0 * 6 * KT])
def test_one_step_of_rescaling_is_the_exact_propagator(start: float) -> None:
    after = start * one_step_from(start) ** 2
    assert not far_from(after, exact(start).cdf)
    # Sabotage: the degrees of freedom of a centre of mass that is at rest counted too.
    assert far_from(after, exact(start, 3 * FREE).cdf)


def test_noise_in_one_direction_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sabotage: the sum of N_f − 1 squares replaced by its mean, as a "large N" shortcut would.
    def mean_only(integrator, shape: float) -> None:
        integrator.addGlobalVariable("gamma", shape)

    monkeypatch.setattr(bussi_module, "gamma_variate", mean_only)
    start = 0.2 * 6 * KT
    assert far_from(start * one_step_from(start) ** 2, exact(start).cdf)


def test_the_factor_changes_sign_as_often_as_it_should() -> None:
    start = 0.2 * KT
    reversed_ = float(np.mean(one_step_from(start, freedom=4, count=2) < 0.0))
    # r = sqrt(c) + s R₁ is negative with probability Φ(−sqrt(c)/s), s² = (1 − c) kT/(2K): here 0.34; binomial error.
    expected = stats.norm.cdf(-np.sqrt(MEMORY * 2.0 * start / ((1.0 - MEMORY) * KT)))
    assert reversed_ == pytest.approx(expected, abs=4.0 * np.sqrt(expected * (1.0 - expected) / DRAWS))
    assert expected > 0.2


# --- a fluid, where the thermostat and the dynamics act together -----------------------------------------------------

ATOMS, BOX_NM, REACH_NM, HEIGHT = 12, 1.0, 0.5, 100.0  # the fluid: 8 neighbours in reach; ω ≈ 15/ps
FREEDOM = 3 * ATOMS - 3
STEP_PS = 4e-3  # ω dt = 0.06: K of these second-order splittings is off by at most (ω dt)²/4 ≈ 0.1 %
REPLICAS, SAMPLES, STRIDE = 10, 350, 15


def fluid() -> openmm.System:
    """Soft spheres in a periodic box: no conserved angular momentum, chaotic, smooth to third order at the cutoff."""
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(np.eye(3) * BOX_NM))
    force = openmm.CustomNonbondedForce(f"{HEIGHT}*(1-r^2/{REACH_NM**2})^4")
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(REACH_NM)
    for _ in range(ATOMS):
        system.addParticle(MASS_DA)
        force.addParticle()
    system.addForce(force)
    return system


@pytest.fixture(scope="module")
def starts() -> list[tuple[np.ndarray, np.ndarray]]:
    """States of the fluid at equilibrium, 1.6 ps apart, made by strongly damped Langevin dynamics."""
    rng = np.random.default_rng(4)
    bath = langevin_baoab(timestep_ps=STEP_PS, temperature_K=TEMPERATURE_K, friction_per_ps=5.0, seed=8)
    context = context_of(fluid(), bath, rng.uniform(size=(ATOMS, 3)) * BOX_NM, at_rest(rng, ATOMS))
    found = []
    bath.step(1000)
    for _ in range(REPLICAS):
        bath.step(400)
        positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value.copy()
        found.append((positions, at_rest(rng, ATOMS)))
    return found


def langevin(freedom: int, seed: int):
    return langevin_baoab(timestep_ps=STEP_PS, temperature_K=TEMPERATURE_K, friction_per_ps=5.0, seed=seed)


def rescaling(freedom: int, seed: int):
    return bussi(
        timestep_ps=STEP_PS, temperature_K=TEMPERATURE_K, relaxation_ps=0.05, degrees_of_freedom=freedom, seed=seed
    )


def chain(freedom: int, seed: int):
    return nose_hoover(timestep_ps=STEP_PS, temperature_K=TEMPERATURE_K, relaxation_ps=0.05, degrees_of_freedom=freedom)


def berendsen(freedom: int, seed: int):
    """Sabotage: relax the kinetic energy to its mean without noise."""
    integrator = openmm.CustomIntegrator(STEP_PS)
    integrator.addGlobalVariable("factor", 1.0)
    open_heat_account(integrator)
    kick(integrator, 0.5)
    drift(integrator, 1.0)
    kick(integrator, 0.5)
    kinetic_energy(integrator, BEFORE)
    integrator.addComputeGlobal("factor", f"sqrt(1 + (1-exp(-dt/0.05))*({0.5 * freedom * KT}/{BEFORE} - 1))")
    rescale(integrator, "factor")
    record(integrator)
    return integrator


def moments(make, starts, told: int, free: int) -> np.ndarray:
    """Mean and variance of K over the canonical ones of ``free`` degrees of freedom; shape (REPLICAS, 2)."""
    rows = []
    for i, (positions, velocities) in enumerate(starts):
        integrator = make(told, 100 + i)
        context = context_of(fluid(), integrator, positions, velocities)
        integrator.step(150)
        values = []
        for _ in range(SAMPLES):
            integrator.step(STRIDE)
            values.append(kinetic(context))
        if free < 3 * ATOMS:
            # Rounding of 12 velocities of order 1 nm/ps, some 6000 times at random: 1e-16 · sqrt(12 · 6000).
            assert np.abs(velocities_of(context).sum(axis=0)).max() < 1e-12
        k = np.array(values) / KT
        rows.append((k.mean() / (0.5 * free), ((k - 0.5 * free) ** 2).mean() / (0.5 * free)))
    return np.array(rows)


def standard_error(rows: np.ndarray) -> np.ndarray:
    """Of the mean over replicas, from their scatter: they are independent, however correlated each of them is."""
    return rows.std(axis=0, ddof=1) / np.sqrt(len(rows))


@pytest.mark.parametrize(
    ("make", "free"), [(langevin, 3 * ATOMS), (rescaling, FREEDOM), (chain, FREEDOM)], ids=["baoab", "bussi", "chain"]
)
def test_kinetic_energy_of_a_fluid_is_canonical(make, free: int, starts) -> None:
    rows = moments(make, starts, FREEDOM, free)
    error = standard_error(rows)
    # Student's t with nine degrees of freedom exceeds 4.3 twice in a thousand; 0.1 % for the finite step.
    assert (np.abs(rows.mean(axis=0) - 1.0) < 4.3 * error + 1e-3).all()
    # The test has teeth: 1000 to 2000 independent samples give sqrt(2/33/1000) = 0.8 % and sqrt(2/1000) = 4 %; a degree
    # of freedom more is 3 %.
    assert error[0] < 0.015
    assert error[1] < 0.08


def test_rescaling_without_noise_is_caught(starts) -> None:
    rows = moments(berendsen, starts[:4], FREEDOM, FREEDOM)
    mean, variance = rows.mean(axis=0)
    assert mean == pytest.approx(1.0, abs=0.03)
    assert variance < 1.0 - 6.0 * 0.08


@pytest.mark.parametrize("make", [rescaling, chain], ids=["bussi", "chain"])
def test_wrong_degrees_of_freedom_give_a_wrong_temperature(make, starts) -> None:
    # Sabotage: 3N, though the centre of mass is at rest: too hot by 36/33, 9 %, with an error of about 1 % here.
    rows = moments(make, starts[:4], 3 * ATOMS, FREEDOM)
    assert rows.mean(axis=0)[0] == pytest.approx(36.0 / 33.0, abs=0.04)
