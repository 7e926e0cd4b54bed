"""The part of the configuration that says what is simulated."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from .base import Positive, Section

#: How parameter files are told apart: by the end of their names.
AMBER, GROMACS, CHARMM = frozenset({".prmtop", ".parm7"}), frozenset({".top"}), frozenset({".psf"})


class System(Section):
    """What is simulated."""

    structure: Path = Field(
        description="PDB, PDBx/mmCIF or extended XYZ file, relative to this file; beside a `topology` also AMBER "
        "(.inpcrd, .rst7) or GROMACS (.gro) coordinates."
    )
    periodic: bool | None = Field(
        default=None, description="Whether the box repeats; by default as the structure file says."
    )
    formal_charges: dict[str, int] = Field(
        default_factory=dict,
        description="Formal charge of whole residues by name, in e; others as the structure file says, else as "
        "their bonds say.",
    )
    ml_atoms: str = Field(
        default="all",
        min_length=1,
        description="The atoms that the ensemble moves, in the MDTraj selection language; the others are in the force "
        "field of `force_field` or `topology`.",
    )
    force_field: tuple[str, ...] = Field(
        default=(),
        description="OpenMM force field files, by name (amber14-all.xml) or as paths; for atoms that are not ML.",
    )
    topology: Path | None = Field(
        default=None,
        description="AMBER (.prmtop, .parm7), GROMACS (.top) or CHARMM (.psf) file with atoms, bonds and parameters, "
        "in place of `force_field`.",
    )
    gromacs_include: Path | None = Field(
        default=None, description="Folder of the files that a GROMACS topology includes beside those next to it."
    )
    parameters: tuple[Path, ...] = Field(
        default=(), description="CHARMM parameter files (.rtf, .prm, .str) that belong to a .psf file."
    )
    nonbonded: Literal["auto", "pme", "cutoff", "none"] = Field(
        default="auto",
        description="Long-range part of the force field: particle mesh Ewald, reaction field, or no cutoff. `auto` is "
        "`none` in vacuum; in a box `pme` if the ML atoms are one molecule, else `cutoff`.",
    )
    nonbonded_cutoff_A: Positive = Field(default=9.0, description="Cutoff of the force field, Å.")
    nonbonded_switch_A: float = Field(
        default=1.0, ge=0, description="Width below the cutoff in which Lennard-Jones terms go to zero, Å; 0 for none."
    )
    ewald_tolerance: Positive = Field(default=1e-4, lt=0.1, description="Relative error of PME forces.")
    constraints: Literal["none", "h_bonds"] = Field(
        default="none", description="Which bonds are rigid, outside of the ML atoms."
    )
    rigid_water: bool = Field(default=True, description="Whether water is rigid, outside of the ML atoms.")
    hydrogen_mass_Da: Positive | None = Field(
        default=None, description="Mass of hydrogens of other than water, taken from their neighbours; None: as it is."
    )

    @property
    def mixed(self) -> bool:
        """Whether some atoms may be in a force field."""
        return self.ml_atoms.strip() != "all"

    @model_validator(mode="after")
    def _force_field(self) -> "System":
        if self.force_field and self.topology is not None:
            raise ValueError("force_field and topology both give parameters: name one of them")
        if self.mixed and not self.force_field and self.topology is None:
            raise ValueError("ml_atoms leaves atoms to a force field: give force_field or topology")
        if not self.mixed and self.force_field:
            raise ValueError("force_field has no atoms, since ml_atoms is `all`: give a selection, or leave it out")
        return self

    @model_validator(mode="after")
    def _parameter_files(self) -> "System":
        kind = "" if self.topology is None else self.topology.suffix.lower()
        if self.topology is not None and kind not in AMBER | GROMACS | CHARMM:
            known = ", ".join(sorted(AMBER | GROMACS | CHARMM))
            raise ValueError(f"topology: `{kind}` is no file of parameters that can be read, only {known}")
        if kind in CHARMM and not self.parameters:
            raise ValueError("a CHARMM topology needs parameters: give the .rtf, .prm and .str files")
        if self.parameters and kind not in CHARMM:
            raise ValueError("parameters belong to a CHARMM topology (.psf)")
        if self.gromacs_include is not None and kind not in GROMACS:
            raise ValueError("gromacs_include belongs to a GROMACS topology (.top)")
        if self.nonbonded_switch_A >= self.nonbonded_cutoff_A:
            raise ValueError("nonbonded_switch_A must be less than nonbonded_cutoff_A")
        return self
