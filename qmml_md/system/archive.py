"""A system as a run keeps it: a part on the ensemble in a force field, read back as it was without its input files.

``system.json`` holds all atoms and which of them are on the ensemble, ``field.xml`` the force field of the rest as an
OpenMM System, in which nothing can run code (``field.py``). Parameter files may lie anywhere and include others; what
they amount to lies here.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunDirectoryError
from ..records.limits import read_bounded
from .field import LARGEST_BYTES, Field, load_field
from .fragments import fragments_of
from .molecules import Molecules, molecules_of, topology_json, topology_of
from .subsystem import Subsystem, subsystem_of, whole_subsystem

SYSTEM_FILE, FIELD_FILE = "system.json", "field.xml"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulated:
    """What is simulated.

    Attributes:
        molecules: all atoms.
        part: those that are on the ensemble.
        field: the force field of everything but the interactions within the part; None where all are on the ensemble.
    """

    molecules: Molecules
    part: Subsystem
    field: Field | None = None


def all_on_ensemble(molecules: Molecules) -> Simulated:
    """A system without a force field."""
    return Simulated(molecules=molecules, part=whole_subsystem(molecules))


def write_archive(folder: Path, simulated: Simulated) -> None:
    """Write both files; nothing where everything is on the ensemble.

    Args:
        folder: of the run.
        simulated: what is simulated.
    """
    if simulated.field is None:
        return
    molecules, part, xml = simulated.molecules, simulated.part, simulated.field.xml
    plain = {
        "topology": json.loads(topology_json(molecules)),
        "numbers": molecules.numbers.tolist(),
        "masses": molecules.masses.tolist(),
        # repr of a Python float is exact, so JSON keeps float64 to the bit.
        "positions": molecules.positions.tolist(),
        "box": None if molecules.box is None else molecules.box.tolist(),
        "bonds": molecules.bonds.tolist(),
        "formal_charge": molecules.formal_charge.tolist(),
        "atoms": part.atoms.tolist(),
        "links": part.links.tolist(),
        "distances_nm": part.distances_nm.tolist(),
        "field_sha256": hashlib.sha256(xml.encode()).hexdigest(),
    }
    (folder / FIELD_FILE).write_text(xml, encoding="utf-8")
    (folder / SYSTEM_FILE).write_text(json.dumps(plain), encoding="utf-8")


def has_archive(folder: Path) -> bool:
    """Whether a run is a mixture."""
    return (folder / SYSTEM_FILE).exists()


def read_archive(folder: Path, platform: str = "auto") -> Simulated:
    """Read what ``write_archive`` wrote.

    Args:
        folder: of the run.
        platform: OpenMM platform that the field is evaluated on.

    Raises:
        RunDirectoryError: a file is missing, damaged, or not what was written.
    """
    cure = f"restore {SYSTEM_FILE} and {FIELD_FILE} from a copy of the run directory"
    try:
        plain = json.loads(read_bounded(folder / SYSTEM_FILE))
        xml = read_bounded(folder / FIELD_FILE, LARGEST_BYTES).decode()
        molecules = _molecules(plain)
        atoms, links = (np.array(plain[name], dtype=np.int64) for name in ("atoms", "links"))
        part = subsystem_of(molecules, atoms, links.reshape(-1, 2), np.array(plain["distances_nm"], dtype=np.float64))
        told = plain["field_sha256"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise RunDirectoryError(f"the system in {folder} cannot be read: {error!s:.200}", cure=cure) from error
    if hashlib.sha256(xml.encode()).hexdigest() != told:
        raise RunDirectoryError(f"{folder / FIELD_FILE} is not the force field that the run began with", cure=cure)
    return Simulated(molecules=molecules, part=part, field=load_field(xml, platform))


def _molecules(plain: dict[str, Any]) -> Molecules:
    topology = topology_of(plain["topology"])
    numbers, bonds = np.array(plain["numbers"], dtype=np.int64), np.array(plain["bonds"], dtype=np.int64).reshape(-1, 2)
    return Molecules(
        topology=topology,
        numbers=numbers,
        masses=np.array(plain["masses"], dtype=np.float64),
        positions=np.array(plain["positions"], dtype=np.float64).reshape(-1, 3),
        box=None if plain["box"] is None else np.array(plain["box"], dtype=np.float64),
        bonds=bonds,
        molecule_of=molecules_of(bonds, len(numbers)),
        residue_of=np.array([atom.residue.index for atom in topology.atoms], dtype=np.int64),
        fragment_of=fragments_of(numbers, bonds),
        formal_charge=np.array(plain["formal_charge"], dtype=np.int64),
    )
