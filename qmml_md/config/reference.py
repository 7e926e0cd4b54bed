"""The part of the configuration that says at which quantum level."""

from typing import Literal

from pydantic import Field

from .base import Positive, PositiveInt, Section


class Reference(Section):
    """The quantum level that labels are computed at."""

    method: str = Field(default="wb97x", min_length=1, description="`hf` or a PySCF exchange-correlation functional.")
    basis: str = Field(default="6-31g*", min_length=1, description="PySCF basis set name.")
    cartesian: bool = Field(default=True, description="Cartesian d functions, as ANI was trained with.")
    density_fit: bool = Field(default=True, description="Density fitting (RI) of Coulomb and exchange.")
    grid_level: int = Field(default=3, ge=0, le=9, description="PySCF integration grid level.")
    embedding: Literal["mechanical", "electrostatic"] = Field(
        default="mechanical",
        description="Labels of clusters in vacuum, or among the point charges of the force field around them.",
    )
    embedding_cutoff_A: Positive = Field(
        default=12.0, description="Whole residues of the force field within this distance are point charges, in Å."
    )
    charge: int | None = Field(
        default=None, description="Charge of every cluster, in e; by default the sum of its formal charges."
    )
    multiplicity: PositiveInt | None = Field(
        default=None, description="2S+1 of every cluster; by default 1, and odd electrons are refused."
    )
    scf_tolerance_hartree: Positive = Field(default=1e-9, description="SCF energy convergence, in hartree.")
    max_cycles: PositiveInt = Field(default=60, description="SCF cycles per rung of the ladder.")
    time_limit_s: Positive = Field(default=600.0, description="Longest time for one label, in s.")
    isolate: bool = Field(
        default=True, description="Compute labels in a process of their own, which may die, hang or be stopped."
    )
    memory_limit_GB: Positive | None = Field(
        default=None, description="Most memory of that process for labels, in GB; by default as much as there is."
    )
    retries: int = Field(default=1, ge=0, le=10, description="Further tries where that process fails to give a label.")
    max_labels: int = Field(default=50, ge=0, description="Most labels that the run may compute.")
