"""The parts of the configuration that say what is written and what the auditor judges by."""

from pydantic import Field

from .base import Positive, PositiveInt, Section


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
