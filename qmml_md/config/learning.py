"""The part of the configuration that says how the ensemble learns."""

from typing import Literal

from pydantic import Field

from .base import Positive, PositiveInt, Section


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
    boundary_weight: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="What an atom of a label counts that lacks something within the model's cutoff in its cluster, "
        "and a link atom; the others count 1.",
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
