"""The parts of the configuration that say what moves the atoms, and how."""

from typing import Literal

from pydantic import Field

from .base import Positive, PositiveInt, Section

#: Integrators that exchange heat: those that sample a canonical distribution.
THERMOSTATS = frozenset({"langevin", "bussi", "nose_hoover"})


class Ensemble(Section):
    """The surface that moves the atoms."""

    weights: str = Field(
        default="ani1x",
        description="`ani1x`, `ani1ccx`, `ani2x`, or the path of a .safetensors file with its .json card.",
    )
    force: Literal["torchforce", "pythonforce"] = Field(
        default="torchforce", description="How the ensemble is handed to OpenMM."
    )
    precision: Literal["single", "double"] = Field(
        default="single",
        description="Arithmetic of features and networks. Geometry and sums of energies are always double.",
    )
    platform: Literal["auto", "Reference", "CPU", "CUDA"] = Field(
        default="auto", description="OpenMM platform; `auto` takes CUDA, then CPU, then Reference."
    )
    threads: PositiveInt | None = Field(
        default=None, description="Threads for torch and PySCF; by default all cores. One thread is reproducible."
    )


class Dynamics(Section):
    """How the atoms move."""

    integrator: Literal["langevin", "verlet", "bussi", "nose_hoover", "respa"] = Field(
        default="langevin",
        description="BAOAB Langevin (NVT), velocity Verlet (NVE), Bussi velocity rescaling (NVT), Nosé-Hoover chains "
        "(NVT), or RESPA with a cheap inner potential (NVE).",
    )
    timestep_fs: Positive = Field(default=0.5, le=2.0, description="Time step, in fs.")
    steps: PositiveInt = Field(default=2000, description="Steps of the run, equilibration not counted.")
    temperature_K: Positive = Field(
        default=300.0, description="Temperature of thermostat and initial velocities, in K."
    )
    friction_per_ps: Positive = Field(default=1.0, description="Langevin friction, in 1/ps.")
    relaxation_fs: Positive = Field(
        default=100.0, description="Relaxation time of the Bussi and Nosé-Hoover thermostats, in fs."
    )
    chain_length: PositiveInt = Field(default=3, description="Length of the Nosé-Hoover chain.")
    respa_inner_steps: PositiveInt = Field(default=2, description="RESPA: inner steps in each time step.")
    respa_inner: str = Field(
        default="member:0",
        description="RESPA: inner potential, `member:k` of the ensemble (from 0), or the path of a .safetensors file.",
    )
    pressure_bar: float | None = Field(
        default=None, description="Pressure of a Monte-Carlo barostat, in bar; none without a value."
    )
    barostat_every_steps: PositiveInt = Field(default=25, description="Steps between volume moves of the barostat.")
    remove_com_every_steps: int = Field(
        default=0, ge=0, description="Steps between removals of the centre-of-mass motion; 0 for never."
    )
    redraw_velocities_every_steps: int = Field(
        default=0, ge=0, description="Steps between draws of all velocities from the thermal distribution; 0 for never."
    )
    max_temperature_K: Positive = Field(
        default=10_000.0, description="Dynamics that get hotter have exploded: the run goes back and learns, in K."
    )
    max_bond_stretch: Positive | None = Field(
        default=None,
        description="Dynamics with a bond longer than this many times the sum of its covalent radii have exploded; "
        "without a value bonds may break.",
    )
    minimise: bool = Field(default=True, description="Minimise the energy on the ensemble before the first step.")
    equilibration_steps: int = Field(
        default=0, ge=0, description="Langevin steps before step 0 that are neither stored nor learned from."
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="Seed of every random stream of the run.")

    @property
    def keeps_centre_of_mass(self) -> bool:
        """Whether a centre of mass that is at rest stays so: only the kicks of Langevin dynamics move it."""
        return self.integrator != "langevin"
