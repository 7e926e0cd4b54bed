"""The part of the configuration that says where quantum mechanics looks."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from .base import Positive, PositiveInt, Section


class Region(Section):
    """Where Region A goes: the atoms that quantum mechanics looks at."""

    check_every_steps: PositiveInt = Field(
        default=20, description="N: steps between looks at the disagreement, at first; see `adapt_interval`."
    )
    enter_eV_per_A: Positive = Field(
        default=0.6, description="An atom whose disagreement reaches this becomes core, in eV/Å."
    )
    stay_eV_per_A: Positive = Field(
        default=0.4, description="A core atom stays core while its disagreement is at least this, in eV/Å."
    )
    smoothing_fs: float = Field(
        default=0.0,
        ge=0,
        description="Time constant, fs, of the moving average of the disagreement that is held against the thresholds; "
        "0 for none.",
    )
    min_residence_checks: PositiveInt = Field(
        default=1, description="Least number of looks in a row that an atom is core once it has become hot."
    )
    unit: Literal["auto", "fragments", "residues", "molecules"] = Field(
        default="auto",
        description="What joins at once: `molecules`, `residues`, `fragments` (what lies between bonds that may be "
        "cut), or with `auto` molecules of up to `max_qm_atoms` atoms and the fragments of larger ones.",
    )
    buffer_A: float = Field(
        default=3.5, ge=0, description="Units within this distance of the core join as buffer, in Å."
    )
    buffer_bonds: int = Field(
        default=0, ge=0, description="Units within so many bonds of a core atom join as buffer, however far they are."
    )
    solvent_molecules: PositiveInt | None = Field(
        default=None,
        description="The buffer holds exactly so many molecules of `solvent`, the nearest to the core, in place of "
        "those within `buffer_A`.",
    )
    solvent: str = Field(
        default="water", min_length=1, description="Selection (MDTraj) of the molecules that are solvent; always whole."
    )
    seed: str | None = Field(
        default=None, min_length=1, description="Selection (MDTraj) of atoms that are always core; none by default."
    )
    exclude: str | None = Field(
        default=None, min_length=1, description="Selection (MDTraj) of atoms that never enter; none by default."
    )
    max_qm_atoms: PositiveInt = Field(default=24, description="Most atoms of one quantum cluster, link atoms included.")
    target_force_error_eV_per_A: Positive | None = Field(
        default=None,
        description="Force error of an atom that is good enough, eV/Å (norm): enter becomes the disagreement at which "
        "the calibration expects it, stay two thirds of that, in place of both keys above.",
    )
    stop_eV_per_A: Positive | None = Field(
        default=None,
        description="Trust window: disagreement at which the run labels, trains and goes back to the last good commit, "
        "eV/Å; never without a value.",
    )
    adapt_interval: bool = Field(default=True, description="Whether N follows the measured horizon of validity.")
    shortest_check_steps: PositiveInt | None = Field(default=None, description="Shortest N; by default N/4.")
    longest_check_steps: PositiveInt | None = Field(default=None, description="Longest N; by default 4 N.")
    label_every_checks: int = Field(default=0, ge=0, description="Looks after which a label is due; 0 for never.")
    labels_per_trigger: PositiveInt = Field(default=3, description="Most labels of one trigger.")
    label_budget_s: Positive | None = Field(
        default=None, description="Estimated cost, s, that the labels of one trigger may have together."
    )
    clusters_per_frame: PositiveInt = Field(
        default=1, description="Most disjoint hot places of one frame to label; those that overlap are one if they fit."
    )

    @field_validator("solvent", "seed", "exclude")
    @classmethod
    def _says_something(cls, expression: str | None) -> str | None:
        if expression is not None and not expression.strip():
            raise ValueError("an empty selection selects nothing; leave the key out instead")
        return expression

    @property
    def shortest_steps(self) -> int:
        """Shortest interval between looks, steps."""
        every = self.check_every_steps
        return (self.shortest_check_steps or max(1, every // 4)) if self.adapt_interval else every

    @property
    def longest_steps(self) -> int:
        """Longest interval between looks, steps."""
        every = self.check_every_steps
        return (self.longest_check_steps or 4 * every) if self.adapt_interval else every

    @model_validator(mode="after")
    def _hysteresis(self) -> "Region":
        if self.stay_eV_per_A > self.enter_eV_per_A:
            raise ValueError("stay_eV_per_A must not exceed enter_eV_per_A, or atoms would leave as they enter")
        given = self.target_force_error_eV_per_A is None
        if given and self.stop_eV_per_A is not None and self.stop_eV_per_A < self.enter_eV_per_A:
            raise ValueError("stop_eV_per_A must not be below enter_eV_per_A: the run would go back before it learns")
        if self.seed is not None and self.seed == self.exclude:
            raise ValueError("seed and exclude select the same atoms: what is always core cannot stay outside")
        if self.solvent_molecules is not None and self.solvent_molecules >= self.max_qm_atoms:
            raise ValueError("solvent_molecules leave no room in max_qm_atoms, not even of one atom each")
        if not self.shortest_steps <= self.check_every_steps <= self.longest_steps:
            raise ValueError("check_every_steps must lie between shortest_check_steps and longest_check_steps")
        return self
