"""The run configuration: one YAML file, checked by pydantic, units in the key names, unknown keys refused.

The models here are the single source of the config reference (``docs/config.md``), of the JSON schema
(``qmml template --schema``) and of the template (``qmml template``). Reading files and naming lines is in
``config_file.py``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(ge=1)]


#: Integrators that exchange heat: those that sample a canonical distribution.
THERMOSTATS = frozenset({"langevin", "bussi", "nose_hoover"})


class Section(BaseModel):
    """A part of the configuration: frozen, and refusing unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class System(Section):
    """What is simulated."""

    structure: Path = Field(description="PDB, PDBx/mmCIF or extended XYZ file, relative to this file.")
    periodic: bool | None = Field(
        default=None, description="Whether the box repeats; by default as the structure file says."
    )
    formal_charges: dict[str, int] = Field(
        default_factory=dict,
        description="Formal charge of whole residues by name, in e; others as the structure file says, else 0.",
    )


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
    minimise: bool = Field(default=True, description="Minimise the energy on the ensemble before the first step.")
    equilibration_steps: int = Field(
        default=0, ge=0, description="Langevin steps before step 0 that are neither stored nor learned from."
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="Seed of every random stream of the run.")

    @property
    def keeps_centre_of_mass(self) -> bool:
        """Whether a centre of mass that is at rest stays so: only the kicks of Langevin dynamics move it."""
        return self.integrator != "langevin"


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
    buffer_A: float = Field(
        default=3.5, ge=0, description="Whole molecules within this distance of the core join as buffer, in Å."
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
    clusters_per_frame: PositiveInt = Field(default=1, description="Most disjoint hot places of one frame to label.")

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
        if not self.shortest_steps <= self.check_every_steps <= self.longest_steps:
            raise ValueError("check_every_steps must lie between shortest_check_steps and longest_check_steps")
        return self


class Reference(Section):
    """The quantum level that labels are computed at."""

    method: str = Field(default="wb97x", description="`hf` or a PySCF exchange-correlation functional.")
    basis: str = Field(default="6-31g*", description="PySCF basis set name.")
    cartesian: bool = Field(default=True, description="Cartesian d functions, as ANI was trained with.")
    density_fit: bool = Field(default=True, description="Density fitting (RI) of Coulomb and exchange.")
    grid_level: int = Field(default=3, ge=0, le=9, description="PySCF integration grid level.")
    charge: int | None = Field(
        default=None, description="Charge of every cluster, in e; by default the sum of its formal charges."
    )
    multiplicity: PositiveInt | None = Field(
        default=None, description="2S+1 of every cluster; by default 1, and odd electrons are refused."
    )
    scf_tolerance_hartree: Positive = Field(default=1e-9, description="SCF energy convergence, in hartree.")
    max_cycles: PositiveInt = Field(default=60, description="SCF cycles per rung of the ladder.")
    time_limit_s: Positive = Field(default=600.0, description="Longest time for one label, in s.")
    max_labels: int = Field(default=50, ge=0, description="Most labels that the run may compute.")


class Learning(Section):
    """How the ensemble learns from labels, and when a new model is refused."""

    enabled: bool = Field(
        default=True, description="Whether labels are trained on; `false` does what `control: no_retraining` does."
    )
    force_rmse_eV_per_A: Positive = Field(default=0.005, description="Tolerance: RMSE of forces over the labels, eV/Å.")
    force_maxresid_eV_per_A: Positive = Field(
        default=0.05, description="Tolerance: largest residual of a force component over the labels, eV/Å."
    )
    anchor_weight: float = Field(
        default=0.1,
        ge=0,
        description="Weight of staying at the starting model's predictions on unlabelled clusters; divided by the "
        "square root of the number of labels.",
    )
    anchor_frames: int = Field(default=40, ge=0, description="Unlabelled clusters kept as anchors.")
    anchors_per_step: PositiveInt = Field(default=8, description="Anchors drawn for each optimiser step.")
    energy_weight: float = Field(
        default=30.0, ge=0, description="Weight of energy terms, per atom, in (eV/Å)²/(eV/atom)²."
    )
    learning_rate: Positive = Field(default=3e-4, description="Adam learning rate at the start of an update.")
    max_epochs: PositiveInt = Field(
        default=120, description="Most optimiser steps of one update; the learning rate falls over them."
    )
    require_tolerance: bool = Field(default=False, description="Go all the way; refuse what misses a tolerance.")
    max_anchor_shift_eV_per_A: Positive = Field(
        default=0.1,
        description="Gate: an update that moves forces on held-out unlabelled clusters by more (RMS) is refused, eV/Å.",
    )
    update_policy: Literal["abrupt", "ramp", "rewind"] = Field(
        default="abrupt",
        description="How a new model takes over: at once; blended in over `ramp_steps`; or after going back to the "
        "last commit whose labels were within `rewind_above_eV_per_A`, to run the stretch again.",
    )
    ramp_steps: PositiveInt = Field(default=20, description="Steps over which a ramp blends old and new model.")
    rewind_above_eV_per_A: Positive = Field(
        default=0.1,
        description="A label on which the model errs by more (force RMSE, eV/Å) makes the run rewind.",
    )
    max_rewinds: PositiveInt = Field(
        default=2, description="Most returns to one commit; after that the new model takes over at once."
    )
    hold_out_every: int = Field(
        default=5,
        ge=0,
        description="Labels of every so many triggers are never trained on: the gate's evidence; 0 never.",
    )
    keep_known: bool = Field(
        default=True, description="Gate: also refuse what forgets other molecules, walls or bonds; not for new weights."
    )
    max_worsening: float = Field(
        default=0.02, ge=0, description="Gate: largest relative worsening of the force error on unseen labels."
    )
    sleep_after_checks: int = Field(default=20, ge=0, description="Quiet looks before learning sleeps; 0 for never.")
    bootstrap: bool = Field(default=True, description="Poisson weights of the labels, drawn for each member.")
    control: Literal["none", "no_retraining", "single_member", "random_picking"] = Field(
        default="none",
        description="A control: labels are scored but not trained on; member 0 alone moves the atoms; random labels.",
    )

    @property
    def trains(self) -> bool:
        """Whether any label is trained on."""
        return self.enabled and self.control != "no_retraining"


class Output(Section):
    """What is written, and how often."""

    frame_every_steps: PositiveInt = Field(default=10, description="Steps between stored frames.")
    commit_every_steps: PositiveInt = Field(
        default=100, description="Steps between commits: a finished segment, its ledger entries and a checkpoint."
    )


class Audit(Section):
    """What the auditor judges by."""

    force_rmse_eV_per_A: Positive = Field(
        default=0.05, description="Tolerance: RMSE between the forces used and the final model's, eV/Å."
    )
    force_maxresid_eV_per_A: Positive = Field(
        default=0.5, description="Tolerance: largest difference of a force component, eV/Å."
    )
    drift_kT_per_ns_per_dof: Positive = Field(
        default=1.0, description="Tolerance: slope of the conserved quantity, kT/ns per degree of freedom."
    )
    identity_kj_per_mol: Positive = Field(
        default=1e-6, description="Tolerance: closure of the ledger identity in each frame, kJ/mol."
    )
    forces_every_frames: PositiveInt = Field(
        default=1, description="Forces are re-evaluated on one stored frame in so many; energies on every one."
    )


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
