"""B3: the error of the invariant against the time step: RMS(H̃) at dt, dt/2, dt/4, and the ratio of each to the next.

All integrators here are of second order: the ratio tends to 4 as dt → 0, and the goal is 4 within 5 %. RMS(H̃) is the
root of the mean square of H̃ about its mean over a window of fixed simulated time, at the same instants for every step,
averaged over replicas that start from the same equilibrium states for every step.

How many replicas: under noise H̃ − H̃(0) is dt² times a random function, so the mean square of one window scatters by up
to sqrt(2) of itself (a walk of one dominant mode, χ² of one degree of freedom), and the ratio of two *independent* RMS
over M replicas by 1/sqrt(M): M = 6400 for four such bars inside 5 %. Starting all steps from the same states
correlates what is not noise and needs fewer. The standard error is measured, by a jackknife over replicas, and a goal
counts as met only if the ratio that deviates most stays within 5 % *with two standard errors added*.

The ensemble is no smooth function: its activation (CELU) has a jump in the second derivative, so forces have kinks.
Each kink that a trajectory crosses errs by O(dt²) too, but with a factor that depends on where in the step it lies.
Where kinks dominate, even a deterministic ratio scatters between windows: hence several replicas there, and for RESPA
a force field as inner potential (with one member inside, the smooth part nearly cancels and the kinks are left).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import openmm
from figures import Figure
from numpy.typing import NDArray

from qmml_md.ensemble.force import build_force
from qmml_md.ensemble.weights import load
from qmml_md.integrators.bussi import bussi
from qmml_md.integrators.freedom import degrees_of_freedom
from qmml_md.integrators.langevin import langevin_baoab
from qmml_md.integrators.nose_hoover import nose_hoover
from qmml_md.integrators.respa import respa
from qmml_md.integrators.substeps import heat, recorded_potential, refresh
from qmml_md.integrators.verlet import velocity_verlet
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K, NM_PER_ANGSTROM, PS_PER_FS

Floats = NDArray[np.float64]

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
TEMPERATURE_K = 300.0
#: As the configuration has them by default.
FRICTION_PER_PS, RELAXATION_PS, INNER_STEPS = 1.0, 0.1, 2
FULL, INNER = 0, 1
SHRINK = (1, 2, 4)
GOAL = 0.05
STOCHASTIC = ("baoab", "bussi")
INTEGRATORS = ("verlet", "baoab", "bussi", "nose-hoover", "respa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A system and how to look at it.

    Attributes:
        name: of the system.
        build: the System; with True it also holds an inner potential for RESPA in its own group.
        positions: to start from, nm, shape (n, 3).
        timestep_fs: the longest step; ω dt of the fastest vibration stays below 0.15, so that the next order, some
            (ω dt)²/10, is below 0.3 %.
        windows: number of longest steps in a window for deterministic integrators, and for stochastic ones.
        replicas: number of windows, likewise.
    """

    name: str
    build: Callable[[bool], openmm.System]
    positions: Floats
    timestep_fs: float
    windows: tuple[int, int]
    replicas: tuple[int, int]


def figures(*, quick: bool) -> list[Figure]:
    """Figures B3.<integrator>.<system>."""
    if quick:
        # The two that need no replicas: fewer than the thousands of the full form decide nothing under noise.
        case = oscillators(replicas=(2, 0))
        return [measure(case, name) for name in ("verlet", "nose-hoover")]
    # Under noise: as many as bring the standard error to 0.03, so that a true 4 is met.
    cases = (oscillators(replicas=(8, 3000)), waters(replicas=(8, 800)), ethanol(replicas=(12, 160)))
    return [measure(case, name) for case in cases for name in INTEGRATORS]


def measure(case: Case, name: str) -> Figure:
    """The ratio that deviates most from 4, with its standard error."""
    replicas, window = case.replicas[name in STOCHASTIC], case.windows[name in STOCHASTIC]
    states = equilibrium(case, replicas)
    squares = np.array([mean_squares(case, name, states, case.timestep_fs / n, window) for n in SHRINK])
    ratios = [ratio(squares[i], squares[i + 1]) for i in range(2)]
    value, error = max(ratios, key=lambda pair: abs(pair[0] - 4.0))
    steps = ", ".join(f"{case.timestep_fs / n:g}" for n in SHRINK)
    both = ", ".join(f"{r:.3f} ± {e:.3f}" for r, e in ratios)
    return Figure(
        id=f"B3.{name}.{case.name}",
        what=f"RMS(H̃) ratio at {steps} fs: {both} (standard error); {replicas} replicas of "
        f"{case.timestep_fs * window:g} fs; RMS at the longest step {math.sqrt(squares[0].mean()):.2g} kJ/mol",
        value=value,
        unit="",
        goal="4 ± 5 %",
        met=abs(value - 4.0) + 2.0 * error <= 4.0 * GOAL,
    )


def ratio(coarse: Floats, fine: Floats) -> tuple[float, float]:
    """Root of the ratio of the mean squares, and its jackknife standard error over replicas (0 for a single one)."""
    found = math.sqrt(coarse.mean() / fine.mean())
    n = len(coarse)
    if n < 2:
        return found, 0.0
    without = np.sqrt((coarse.sum() - coarse) / (fine.sum() - fine))
    return found, math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))


def mean_squares(case: Case, name: str, states: list[tuple[Floats, Floats]], timestep_fs: float, window: int) -> Floats:
    """Mean square of H̃ about its mean in each window, (kJ/mol)², shape (replicas,)."""
    system = case.build(name == "respa")
    integrator = make(name, system, timestep_fs * PS_PER_FS)
    context = context_of(system, integrator)
    fresh = [integrator.getGlobalVariable(i) for i in range(integrator.getNumGlobalVariables())]
    masses = masses_of(system)
    every = round(case.timestep_fs / timestep_fs)
    found = []
    for positions, velocities in states:
        for i, value in enumerate(fresh):
            integrator.setGlobalVariable(i, value)
        context.setPositions(positions)
        context.setVelocities(velocities)
        refresh(integrator)
        values = []
        for _ in range(window):
            integrator.step(every)
            values.append(kinetic(context, masses) + recorded_potential(integrator) - heat(integrator))
        found.append(np.var(values))
    return np.array(found)


def make(name: str, system: openmm.System, timestep_ps: float) -> openmm.CustomIntegrator:
    """An integrator by name."""
    bath = {"timestep_ps": timestep_ps, "temperature_K": TEMPERATURE_K}
    if name == "verlet":
        return velocity_verlet(timestep_ps)
    if name == "baoab":
        return langevin_baoab(**bath, friction_per_ps=FRICTION_PER_PS, seed=20183)
    if name == "respa":
        return respa(timestep_ps=timestep_ps, inner_steps=INNER_STEPS, inner_group=INNER, outer_group=FULL)
    freedom = degrees_of_freedom(system, centre_of_mass_at_rest=False)
    if name == "bussi":
        return bussi(**bath, relaxation_ps=RELAXATION_PS, degrees_of_freedom=freedom, seed=20183)
    return nose_hoover(**bath, relaxation_ps=RELAXATION_PS, degrees_of_freedom=freedom)


def equilibrium(case: Case, count: int) -> list[tuple[Floats, Floats]]:
    """Positions and velocities of a damped run, 20 longest steps apart at γ = 50/ps, so that velocities are renewed."""
    step_ps = case.timestep_fs * PS_PER_FS
    integrator = langevin_baoab(timestep_ps=step_ps, temperature_K=TEMPERATURE_K, friction_per_ps=50.0, seed=20184)
    context = context_of(case.build(False), integrator)
    context.setPositions(case.positions)
    context.setVelocitiesToTemperature(TEMPERATURE_K, 20185)
    integrator.step(500)
    found = []
    for _ in range(count):
        integrator.step(20)
        state = context.getState(getPositions=True, getVelocities=True)
        found.append((state.getPositions(asNumpy=True)._value.copy(), state.getVelocities(asNumpy=True)._value.copy()))
    return found


def context_of(system: openmm.System, integrator: openmm.CustomIntegrator) -> openmm.Context:
    """On the Reference platform: double precision throughout."""
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


def masses_of(system: openmm.System) -> Floats:
    """Masses, Da, shape (n,)."""
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])


def kinetic(context: openmm.Context, masses: Floats) -> float:
    """Kinetic energy of the on-step velocities, kJ/mol."""
    velocities = context.getState(getVelocities=True).getVelocities(asNumpy=True)._value
    return 0.5 * float(masses @ (velocities**2).sum(axis=1))


# --- systems ---------------------------------------------------------------------------------------------------------


def oscillators(*, replicas: tuple[int, int]) -> Case:
    """Twenty independent anharmonic oscillators, ω from 58 rad/ps; the inner potential is their harmonic part."""
    count, harmonic = 20, "2e4*(x^2+y^2+z^2)"

    def build(inner: bool) -> openmm.System:
        system = openmm.System()
        for _ in range(count):
            system.addParticle(12.0)
        for expression, group in ((f"{harmonic}+2e6*x^4", FULL), (harmonic, INNER))[: 1 + inner]:
            force = openmm.CustomExternalForce(expression)
            force.setForceGroup(group)
            for i in range(count):
                force.addParticle(i)
            system.addForce(force)
        return system

    width = math.sqrt(BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K / 4e4)
    positions = np.random.default_rng(20186).normal(size=(count, 3)) * width
    return Case(
        name="oscillators", build=build, positions=positions, timestep_fs=1.0, windows=(500, 100), replicas=replicas
    )


def waters(*, replicas: tuple[int, int]) -> Case:
    """Five flexible waters: bonds, angles, charges, Lennard-Jones; the inner potential is bonds and angles.

    SPC/Fw: Wu, Tepper, Voth, J. Chem. Phys. 124, 024503 (2006), doi:10.1063/1.2136877. Its stretch has ω ≈ 700 rad/ps.
    """
    frame = ase.io.read(DATA / "quantum" / "water5_350K_wb97x_631gd.extxyz", 0)
    oxygens = range(0, len(frame), 3)
    bonds = [(o, o + h, 0.1012, 443153.3) for o in oxygens for h in (1, 2)]
    angles = [(o + 1, o, o + 2, math.radians(113.24), 317.5656) for o in oxygens]

    def build(inner: bool) -> openmm.System:
        system = openmm.System()
        for mass in frame.get_masses():
            system.addParticle(mass)
        add_bonded(system, bonds, angles, FULL)
        if inner:
            add_bonded(system, bonds, angles, INNER)
        nonbonded = openmm.NonbondedForce()
        for o in oxygens:
            for charge, radius, depth in ((-0.82, 0.3165492, 0.6502), (0.41, 0.1, 0.0), (0.41, 0.1, 0.0)):
                nonbonded.addParticle(charge, radius, depth)
            for i, j in ((o, o + 1), (o, o + 2), (o + 1, o + 2)):
                nonbonded.addException(i, j, 0.0, 0.1, 0.0)
        system.addForce(nonbonded)
        return system

    positions = np.asarray(frame.positions) * NM_PER_ANGSTROM
    return Case(
        name="waters", build=build, positions=positions, timestep_fs=0.2, windows=(1000, 100), replicas=replicas
    )


def ethanol(*, replicas: tuple[int, int]) -> Case:
    """Ethanol on a small ensemble of neural networks in double precision; the inner potential is bonds and angles.

    The force constants are typical of force fields; the equilibrium values are those of the first frame.
    """
    frame = ase.io.read(DATA / "quantum" / "ethanol_300K_fine_wb97x_631gd.extxyz", 0)
    numbers = np.asarray(frame.numbers, dtype=np.int64)
    ensemble = load(str(DATA / "ani_mini.safetensors"), "double")
    distance = frame.get_all_distances()
    pairs = [(i, j) for i in range(len(frame)) for j in range(i) if distance[i, j] < BONDED_A[1 in numbers[[i, j]]]]
    bonds = [(i, j, distance[i, j] * NM_PER_ANGSTROM, 3e5) for i, j in pairs]
    ends = {j: sorted({a for pair in pairs if j in pair for a in pair} - {j}) for j in range(len(frame))}
    angles = [
        (i, j, k, math.radians(frame.get_angle(i, j, k)), 400.0)
        for j in ends
        for i in ends[j]
        for k in ends[j]
        if i < k
    ]

    def build(inner: bool) -> openmm.System:
        system = openmm.System()
        for mass in frame.get_masses():
            system.addParticle(mass)
        force = build_force(ensemble, numbers, periodic=False, kind="torchforce")
        force.setForceGroup(FULL)
        system.addForce(force)
        if inner:
            add_bonded(system, bonds, angles, INNER)
        return system

    positions = np.asarray(frame.positions) * NM_PER_ANGSTROM
    return Case(name="ethanol", build=build, positions=positions, timestep_fs=0.2, windows=(50, 25), replicas=replicas)


#: Longest bond between heavy atoms, and of a hydrogen, Å.
BONDED_A = (1.7, 1.25)


def add_bonded(
    system: openmm.System,
    bonds: list[tuple[int, int, float, float]],
    angles: list[tuple[int, int, int, float, float]],
    group: int,
) -> None:
    """Harmonic bonds (nm, kJ/mol/nm²) and angles (rad, kJ/mol/rad²) in a force group."""
    stretches, bends = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for bond in bonds:
        stretches.addBond(*bond)
    for angle in angles:
        bends.addAngle(*angle)
    for force in (stretches, bends):
        force.setForceGroup(group)
        system.addForce(force)
