"""The configuration of a whole run."""

from pydantic import Field, model_validator

from .base import Section
from .dynamics import THERMOSTATS, Dynamics, Ensemble
from .learning import Learning
from .output import Audit, Output
from .reference import Reference
from .region import Region
from .system import System


class Config(Section):
    """A whole run."""

    title: str = Field(default="", description="One line for the report.")
    system: System
    ensemble: Ensemble = Field(default_factory=Ensemble)
    dynamics: Dynamics = Field(default_factory=Dynamics)
    region: Region = Field(default_factory=Region)
    reference: Reference = Field(default_factory=Reference)
    learning: Learning = Field(default_factory=Learning)
    output: Output = Field(default_factory=Output)
    audit: Audit = Field(default_factory=Audit)

    @model_validator(mode="after")
    def _barostat(self) -> "Config":
        if self.dynamics.pressure_bar is not None and self.dynamics.integrator not in THERMOSTATS:
            raise ValueError("dynamics.pressure_bar needs a thermostat: integrator langevin, bussi or nose_hoover")
        return self

    @model_validator(mode="after")
    def _embedding(self) -> "Config":
        if self.reference.embedding == "electrostatic" and not self.system.mixed:
            raise ValueError(
                "reference.embedding: electrostatic needs a force field around the clusters: set system.ml_atoms"
            )
        return self

    @model_validator(mode="after")
    def _respa(self) -> "Config":
        if self.dynamics.integrator == "respa" and self.system.mixed:
            raise ValueError("dynamics.integrator: respa is not available inside a force field: take verlet")
        return self
