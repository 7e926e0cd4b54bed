"""The part of the configuration that says what is simulated."""

from pathlib import Path

from pydantic import Field

from .base import Section


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
