"""What moves the atoms: the integrator of a configuration, the platform it runs on, and thermal velocities."""

import numpy as np
import openmm

from ..config import Dynamics
from ..errors import ConfigError, InstallationError
from ..integrators.bussi import bussi
from ..integrators.langevin import langevin_baoab
from ..integrators.nose_hoover import nose_hoover
from ..integrators.respa import respa
from ..integrators.verlet import velocity_verlet
from ..system.molecules import Floats
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K, PS_PER_FS

#: Force groups: the surface that the run is about, and the cheap potential inside RESPA.
SURFACE, INNER = 0, 1


def make_integrator(
    dynamics: Dynamics, degrees_of_freedom: int, seed: int, *, constrained: bool = False
) -> openmm.CustomIntegrator:
    """The integrator that a configuration asks for.

    Args:
        dynamics: of the configuration.
        degrees_of_freedom: that the thermostats of velocity rescaling and of chains count with.
        seed: of the integrator's own random stream, from 1.
        constrained: hold the constraints of the System.
    """
    timestep_ps, temperature = dynamics.timestep_fs * PS_PER_FS, dynamics.temperature_K
    relaxation_ps = dynamics.relaxation_fs * PS_PER_FS
    match dynamics.integrator:
        case "verlet":
            return velocity_verlet(timestep_ps, constrained=constrained)
        case "respa":
            inner = dynamics.respa_inner_steps
            return respa(timestep_ps=timestep_ps, inner_steps=inner, inner_group=INNER, outer_group=SURFACE)
        case "bussi":
            return bussi(
                timestep_ps=timestep_ps,
                temperature_K=temperature,
                relaxation_ps=relaxation_ps,
                degrees_of_freedom=degrees_of_freedom,
                seed=seed,
                constrained=constrained,
            )
        case "nose_hoover":
            return nose_hoover(
                timestep_ps=timestep_ps,
                temperature_K=temperature,
                relaxation_ps=relaxation_ps,
                degrees_of_freedom=degrees_of_freedom,
                chain_length=dynamics.chain_length,
                constrained=constrained,
            )
    return langevin_baoab(
        timestep_ps=timestep_ps,
        temperature_K=temperature,
        friction_per_ps=dynamics.friction_per_ps,
        seed=seed,
        constrained=constrained,
    )


def inner_member(dynamics: Dynamics) -> int:
    """Number of the member of the ensemble that is RESPA's inner potential.

    Raises:
        ConfigError: ``respa_inner`` names no member.
    """
    name, _, number = dynamics.respa_inner.partition(":")
    if name != "member" or not number.isdecimal():
        raise ConfigError(
            f"dynamics.respa_inner: `{dynamics.respa_inner}` is no inner potential",
            cure="give member:0 or another member of the ensemble, or the path of a .safetensors file",
        )
    return int(number)


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
