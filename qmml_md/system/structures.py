"""Structure files, read into ``Molecules``, and the check that refuses what cannot be simulated."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ElementError, StructureError
from ..units import NM_PER_ANGSTROM
from .checks import problems
from .fragments import fragments_of
from .images import Floats, Ints, box_from_cell
from .molecules import Molecules, molecules_of
from .stated import assign_charges
from .xyz import read_frame, topology_by_distance

#: The PDB format's way of saying "no crystal": a cube of 1 Å.
NO_CRYSTAL_A = 1.0
CIF_SPACE_GROUP = re.compile(
    r"^_(?:symmetry\.space_group_name_H-M|space_group\.name_H-M_alt)\s+(.+?)\s*$", re.MULTILINE
)

#: Largest structure file, bytes: some five million atoms.
LARGEST_BYTES = 512 * 1024**2
#: Characters of a parser's complaint that a message repeats.
SHOWN = 300

#: topology, positions (n, 3) in nm, box (3, 3) in nm or None
Parsed = tuple[Any, Floats, Floats | None]


def read_structure(
    path: Path | str, *, periodic: bool | None = None, formal_charges: Mapping[str, int] | None = None
) -> Molecules:
    """Read a PDB (.pdb), PDBx/mmCIF (.cif, .mmcif, .pdbx) or extended XYZ (.xyz, .extxyz) file.

    Bonds come from residue names, CONECT or struct_conn records (as MDTraj knows them); XYZ files carry none, and
    theirs are guessed from covalent radii. Of several models or frames the first is taken. Names stay as in a PDB file.

    Args:
        path: the file.
        periodic: whether the box repeats; None: as the file says.
        formal_charges: charge in e of whole residues by name. The atoms of a residue that is not named have the charges
            in the file (columns 79-80 of a PDB file), if there are any, else those that follow from its bonds.

    Raises:
        StructureError: the file is missing, of another kind, unreadable or empty; it has no box, or one with symmetry
            copies, where a box is needed; or a formal charge names a residue that is not there.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise StructureError(
            f"{path}: `{path.suffix}` is no structure file that can be read",
            cure=f"give one of {', '.join(READERS)}",
        )
    if not path.is_file():
        raise StructureError(f"{path} does not exist or is not a file", cure="correct `system.structure`")
    refuse_large(path)
    topology, positions, box = _parse(reader, path, periodic)
    if topology is None or topology.n_atoms == 0 or positions.shape[0] == 0:
        raise _no_atoms(path)
    if periodic and box is None:
        raise StructureError(
            f"{path} has no box, but `periodic: true` asks for one",
            cure="add CRYST1 (PDB), _cell (mmCIF) or Lattice (extended XYZ), or set `periodic: false`",
        )
    return molecules_from(topology, positions, box, dict(formal_charges or {}))


def check_structure(
    molecules: Molecules, *, symbols: Sequence[str], cutoff_A: float, multiplicity: int | None = None
) -> None:
    """Refuse what cannot be simulated, naming every problem at once.

    Checked: positions are finite; the weights know every element; the box is at least two cutoffs wide between opposite
    faces; no atoms overlap (0.5 Å, across the box too); bonds, and hydrogens as far as the geometry proves them
    missing, are there; charges follow from bonds, or are given and do not contradict them.

    Args:
        molecules: what is to be simulated.
        symbols: elements that the weights know.
        cutoff_A: the reach of a descriptor, Å.
        multiplicity: 2S + 1 where the user says it: what bonds leave open is then meant, and as many atoms may lack a
            bond as electrons are unpaired.

    Raises:
        ElementError: an element is unknown to the weights (other problems are named in the same message).
        StructureError: any other problem.
    """
    found = problems(molecules, symbols, cutoff_A, multiplicity)
    if not found:
        return
    kind = ElementError if any(problem.element for problem in found) else StructureError
    if len(found) == 1:
        raise kind(found[0].what, cure=found[0].cure)
    lines = [f"the structure cannot be simulated as it stands ({len(found)} problems)"]
    lines += [f"  {k}. {problem.what}" for k, problem in enumerate(found, start=1)]
    raise kind("\n".join(lines), cure="\n        ".join(f"{k}. {p.cure}" for k, p in enumerate(found, start=1)))


def refuse_large(path: Path) -> None:
    """Refuse a file that no structure or force field fills.

    Raises:
        StructureError: it has more than ``LARGEST_BYTES``.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise StructureError(
            f"{path} has {path.stat().st_size / 1e6:.0f} MB, more than {LARGEST_BYTES / 1e6:.0f} MB",
            cure="give the atoms that are to be simulated, in one frame",
        )


def shortened(error: Exception) -> str:
    """What a parser complains of, without the file that it may quote."""
    text = str(error)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"


def _parse(reader: Callable[[Path, bool | None], Parsed], path: Path, periodic: bool | None) -> Parsed:
    try:
        topology, positions, box = reader(path, periodic)
    except StructureError as error:
        raise error if str(path) in error.what else StructureError(f"{path}: {error.what}", cure=error.cure) from error
    except Exception as error:  # the parsers raise whatever a broken file makes them trip over
        raise StructureError(
            f"{path} cannot be read: {type(error).__name__}: {shortened(error)}",
            cure="check that the file is complete and of the kind that its name says",
        ) from error
    return topology, positions, None if periodic is False else box


def _read_pdb(path: Path, periodic: bool | None) -> Parsed:
    from mdtraj.formats import PDBTrajectoryFile

    lines = path.read_text().splitlines()
    _screen_pdb(path, lines)
    with PDBTrajectoryFile(str(path)) as file:
        topology, positions = file.topology, file.positions[0]
        cell = (file.unitcell_lengths, file.unitcell_angles)
    _add_disulfides(topology, positions * NM_PER_ANGSTROM)
    # Standard names are needed to find the bonds, but a person, and `formal_charges`, use those of the file (HIP, WAT).
    with PDBTrajectoryFile(str(path), standard_names=False) as file:
        for ours, theirs in zip(topology.residues, file.topology.residues, strict=True):
            ours.name = theirs.name
        for ours, theirs in zip(topology.atoms, file.topology.atoms, strict=True):
            ours.name = theirs.name
    record = next((line for line in lines if line.startswith("CRYST1")), "")
    box = _cell_box(path, *cell, to_nm=NM_PER_ANGSTROM, space_group=record[55:66], periodic=periodic)
    return topology, positions * NM_PER_ANGSTROM, box


def _no_atoms(path: Path) -> StructureError:
    return StructureError(f"{path} holds no atoms", cure="give a file with ATOM or HETATM records, or XYZ lines")


def _screen_pdb(path: Path, lines: list[str]) -> None:
    """Name the line that cannot be read, which MDTraj does not."""
    records = [(k, line) for k, line in enumerate(lines, start=1) if line.startswith(("ATOM  ", "HETATM"))]
    if not records:
        raise _no_atoms(path)
    for number, line in records:
        try:
            _ = [float(line[k : k + 8]) for k in (30, 38, 46)]
        except ValueError as error:
            raise StructureError(
                f"{path}, line {number}: columns 31-54 should hold three coordinates, not {line[30:54]!r}",
                cure="mend the line; columns of a PDB file are fixed",
            ) from error


def _read_pdbx(path: Path, periodic: bool | None) -> Parsed:
    from mdtraj.formats import PDBxTrajectoryFile

    # MDTraj would leave a file open that it fails to read.
    with path.open() as handle, PDBxTrajectoryFile(handle) as file:
        topology, positions = file.topology, file.positions[0]
        cell = (file.unitcell_lengths, file.unitcell_angles)
    _add_disulfides(topology, positions)
    match = CIF_SPACE_GROUP.search(path.read_text())
    group = match.group(1).strip("'\"") if match else ""
    return topology, positions, _cell_box(path, *cell, to_nm=1.0, space_group=group, periodic=periodic)


def _read_xyz(path: Path, periodic: bool | None) -> Parsed:
    frame = read_frame(path)
    box = None if periodic is False else frame.box
    return topology_by_distance(frame, box), frame.positions, box


def _add_disulfides(topology: Any, positions: Floats) -> None:
    """Bond the sulfurs of cystines, which MDTraj's own PDB reader misses: it hands over Å where nm are compared."""
    known = {frozenset((a.index, b.index)) for a, b in topology.bonds}
    probe = topology.copy()
    probe.create_disulfide_bonds(positions)
    for a, b in probe.bonds:
        if frozenset((a.index, b.index)) not in known:
            topology.add_bond(topology.atom(a.index), topology.atom(b.index))


READERS: dict[str, Callable[[Path, bool | None], Parsed]] = {
    ".pdb": _read_pdb,
    ".cif": _read_pdbx,
    ".mmcif": _read_pdbx,
    ".pdbx": _read_pdbx,
    ".xyz": _read_xyz,
    ".extxyz": _read_xyz,
}


def _cell_box(
    path: Path, lengths: Any, angles: Any, *, to_nm: float, space_group: str, periodic: bool | None
) -> Floats | None:
    """The box of a crystallographic cell; None if there is none or it is not wanted."""
    if lengths is None or angles is None or periodic is False:
        return None
    edges: Floats = np.array(lengths, dtype=np.float64) * to_nm
    if np.allclose(edges, NO_CRYSTAL_A * NM_PER_ANGSTROM):
        return None
    group = space_group.replace(" ", "").upper()
    if periodic is None and group not in ("", "P1", "?", "."):
        raise StructureError(
            f"{path} is a crystal of space group {space_group.strip()}: symmetry copies are missing from the box",
            cure="set `periodic: false`, or build the full P 1 cell (or a solvated box) and set `periodic: true`",
        )
    return box_from_cell(edges, np.array(angles, dtype=np.float64))


def molecules_from(topology: Any, positions: Floats, box: Floats | None, formal_charges: dict[str, int]) -> Molecules:
    """Molecules of a topology with bonds.

    Args:
        topology: of MDTraj.
        positions: nm, shape (n, 3).
        box: reduced box, nm, shape (3, 3); None in vacuum.
        formal_charges: charge in e of whole residues by name.

    Raises:
        StructureError: a formal charge names a residue that is not there.
    """
    atoms = list(topology.atoms)
    elements = [atom.element for atom in atoms]
    pairs = sorted({tuple(sorted((a.index, b.index))) for a, b in topology.bonds})
    bonds: Ints = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    numbers = np.array([0 if e is None else e.number for e in elements], dtype=np.int64)
    return Molecules(
        topology=topology,
        numbers=numbers,
        masses=np.array([0.0 if e is None else e.mass for e in elements], dtype=np.float64),
        positions=np.array(positions, dtype=np.float64),
        box=box,
        bonds=bonds,
        molecule_of=molecules_of(bonds, len(atoms)),
        residue_of=np.array([atom.residue.index for atom in atoms], dtype=np.int64),
        fragment_of=fragments_of(numbers, bonds),
        formal_charge=_charges(topology, numbers, bonds, formal_charges),
    )


def _charges(topology: Any, numbers: Ints, bonds: Ints, formal_charges: dict[str, int]) -> Ints:
    """Formal charges, e, shape (n,); see ``stated.assign_charges``."""
    present = {residue.name for residue in topology.residues}
    unknown = sorted(set(formal_charges) - present)
    if unknown:
        some = ", ".join(sorted(present)[:12])
        raise StructureError(
            f"formal_charges names residue {', '.join(unknown)}, which the structure does not hold",
            cure=f"use the residue names of the structure: {some}{', …' if len(present) > 12 else ''}",
        )
    return assign_charges(topology, numbers, bonds, formal_charges)
