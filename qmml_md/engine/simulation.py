"""The OpenMM side of a run: one context that moves the atoms on one model, and can change it."""

from dataclasses import dataclass

import numpy as np
import openmm
from openmm import unit

from ..config import Config, Dynamics
from ..ensemble.force import build_force
from ..ensemble.model import AniEnsemble
from ..errors import DynamicsError, InstallationError
from ..integrators.langevin import langevin_baoab
from ..integrators.substeps import heat, recorded_forces, recorded_potential
from ..integrators.verlet import velocity_verlet
from ..system.build import build_system
from ..system.molecules import Floats, Molecules
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K, PS_PER_FS

#: Most iterations of the minimiser: enough to remove bad contacts, not meant to find a minimum.
MINIMISER_ITERATIONS = 100
#: A force beyond this (about 500 eV/Å) is no physics: the atoms are lost.
EXPLOSION_KJ_PER_MOL_PER_NM = 5e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """Everything about one instant, velocities on-step.

    Attributes:
        positions: nm, shape (n, 3), unwrapped.
        velocities: nm/ps, shape (n, 3).
        forces: kJ/mol/nm, shape (n, 3).
        potential: kJ/mol, self energies subtracted.
        kinetic: kJ/mol.
        box: nm, shape (3, 3); zeros in vacuum.
    """

    positions: Floats
    velocities: Floats
    forces: Floats
    potential: float
    kinetic: float
    box: Floats


class Simulation:
    """An OpenMM context on the ensemble mean."""

    def __init__(self, config: Config, molecules: Molecules, ensemble: AniEnsemble, *, seed: int) -> None:
        self._config = config
        self._molecules = molecules
        self._system = build_system(molecules)
        self._system.addForce(self._force(ensemble))
        self._integrator = make_integrator(config.dynamics, seed)
        self._context = openmm.Context(self._system, self._integrator, platform(config.ensemble.platform))
        self._stepped = False

    def _force(self, ensemble: AniEnsemble) -> openmm.Force:
        periodic = self._molecules.box is not None
        return build_force(ensemble, self._molecules.numbers, periodic=periodic, kind=self._config.ensemble.force)

    @property
    def platform_name(self) -> str:
        """Name of the OpenMM platform in use."""
        return str(self._context.getPlatform().getName())

    def place(self, positions: Floats, velocities: Floats) -> None:
        """Set positions (nm) and velocities (nm/ps), shape (n, 3) each."""
        self._context.setPositions(positions)
        self._context.setVelocities(velocities)
        self._stepped = False

    def step(self) -> None:
        """Advance one step: single steps, so that a signal is answered at the next step boundary."""
        self._integrator.step(1)
        self._stepped = True

    def minimise(self) -> None:
        """Lower the energy until bad contacts are gone."""
        openmm.LocalEnergyMinimizer.minimize(self._context, maxIterations=MINIMISER_ITERATIONS)
        self._stepped = False

    def instant(self) -> Instant:
        """Read everything.

        Raises:
            DynamicsError: something is not finite, or a force is beyond reason.
        """
        state = self._context.getState(getPositions=True, getVelocities=True)
        velocities = _array(state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond))
        potential, forces = self._recorded() if self._stepped else self._computed()
        found = Instant(
            positions=_array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)),
            velocities=velocities,
            forces=forces,
            potential=potential,
            kinetic=0.5 * float(self._molecules.masses @ (velocities**2).sum(axis=1)),
            box=self._box(state),
        )
        _refuse_explosion(found)
        return found

    def _recorded(self) -> tuple[float, Floats]:
        return recorded_potential(self._integrator), recorded_forces(self._integrator)

    def _computed(self) -> tuple[float, Floats]:
        state = self._context.getState(getForces=True, getEnergy=True)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)), _array(forces)

    def _box(self, state: openmm.State) -> Floats:
        if self._molecules.box is None:
            return np.zeros((3, 3))
        return _array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))

    def heat(self) -> float:
        """Energy given by the thermostat since step 0, kJ/mol."""
        return float(heat(self._integrator))

    def swap(self, ensemble: AniEnsemble) -> tuple[float, float]:
        """Go on with another model from the same positions and velocities.

        Returns:
            U_old(x) and U_new(x), kJ/mol.
        """
        before = self._recorded()[0] if self._stepped else self._computed()[0]
        self._system.removeForce(self._system.getNumForces() - 1)
        self._system.addForce(self._force(ensemble))
        self._context.reinitialize(preserveState=True)
        self._stepped = False
        return before, self._computed()[0]

    def checkpoint(self) -> tuple[bytes, str]:
        """OpenMM's exact checkpoint (this machine and version) and a portable XML state."""
        state = self._context.getState(getPositions=True, getVelocities=True, integratorParameters=True)
        return self._context.createCheckpoint(), openmm.XmlSerializer.serialize(state)

    def restore(self, checkpoint: bytes) -> None:
        """Go back to an exact checkpoint, random stream included."""
        self._context.loadCheckpoint(checkpoint)


def make_integrator(dynamics: Dynamics, seed: int) -> openmm.CustomIntegrator:
    """The integrator that a configuration asks for."""
    timestep_ps = dynamics.timestep_fs * PS_PER_FS
    if dynamics.integrator == "verlet":
        return velocity_verlet(timestep_ps)
    return langevin_baoab(
        timestep_ps=timestep_ps,
        temperature_K=dynamics.temperature_K,
        friction_per_ps=dynamics.friction_per_ps,
        seed=seed,
    )


def platform(name: str) -> openmm.Platform:
    """An OpenMM platform; `auto` takes the fastest of CUDA, CPU and Reference that is here.

    Raises:
        InstallationError: this OpenMM does not have it.
    """
    here = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    wanted = [n for n in ("CUDA", "CPU", "Reference") if n in here] if name == "auto" else [name]
    if wanted[0] not in here:
        raise InstallationError(
            f"OpenMM has no platform {name} here, only {', '.join(here)}",
            cure="`pip install 'qmml-md[cuda]'` brings CUDA; or set ensemble.platform: auto",
        )
    return openmm.Platform.getPlatformByName(wanted[0])


def thermal_velocities(masses: Floats, temperature_K: float, rng: np.random.Generator) -> Floats:
    """Maxwell-Boltzmann velocities without centre-of-mass motion, nm/ps, shape (n, 3).

    Args:
        masses: Da, shape (n,).
        temperature_K: temperature, K.
        rng: the random stream.
    """
    width = np.sqrt(BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K / masses)
    velocities: Floats = rng.normal(size=(len(masses), 3)) * width[:, None]
    velocities -= (masses[:, None] * velocities).sum(axis=0) / masses.sum()
    return velocities


def seed_for_openmm(rng: np.random.Generator) -> int:
    """A seed for OpenMM's own random stream; OpenMM takes 0 for one from the clock."""
    return int(rng.integers(1, 2**31 - 1))


def _array(values: object) -> Floats:
    return np.array(values, dtype=np.float64)


def _refuse_explosion(found: Instant) -> None:
    cure = "take a shorter time step, minimise first, or label this geometry; the last commit of the run is whole"
    if not (np.isfinite(found.positions).all() and np.isfinite(found.potential) and np.isfinite(found.forces).all()):
        raise DynamicsError("a position, force or energy is not finite: the dynamics have exploded", cure=cure)
    worst = int(np.abs(found.forces).max(axis=1).argmax())
    if np.abs(found.forces[worst]).max() > EXPLOSION_KJ_PER_MOL_PER_NM:
        raise DynamicsError(f"the force on atom {worst} is beyond reason: the dynamics have exploded", cure=cure)
