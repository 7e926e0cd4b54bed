"""OpenMM: a DCD of the DCDReporter with the table of the StateDataReporter, and a topology for the elements.

A DCD holds positions in Å as single-precision numbers and the cell; no velocities, no forces, no usable clock. The
table (``StateDataReporter``) holds time and energies with their units in its head. Row k belongs to frame k: both must
have been reported at the same steps.
"""

import csv
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import AuditError
from ...records.frames import Floats, Ints
from ...system.images import box_from_cell
from ...units import NM_PER_ANGSTROM
from .trajectory import Block, Foreign, Rounding
from .units import factor_of, undeclared

#: Columns of the StateDataReporter that are read, in lower case without their unit.
COLUMNS = {
    "time": "time",
    "potential energy": "potential",
    "kinetic energy": "kinetic",
    "total energy": "total",
}
HEAD = re.compile(r"\s*#?\s*\"?([^(\"]+?)\s*(?:\(([^)]*)\))?\"?\s*$")


def read_dcd(
    dcd: Path, table: Path | None, units: Mapping[str, str], spacing: float | None, topology: tuple[Ints, Floats] | None
) -> Foreign:
    """Read a DCD with its table.

    Args:
        dcd: positions, and the cell if there is one.
        table: of the StateDataReporter; None if there is none.
        units: units that the user declares, by quantity; they go before those of the table.
        spacing: time between frames, ps, if the user declares it.
        topology: atomic numbers, shape (n,), and masses, Da, shape (n,).

    Raises:
        AuditError: there is no topology, or the files do not belong together.
    """
    if topology is None:
        raise AuditError(f"{dcd} holds no elements", cure="give --topology FILE (PDB, mmCIF or XYZ, the same atoms)")
    numbers, masses = topology
    frames, atoms, periodic = _shape(dcd)
    if atoms != len(numbers):
        raise AuditError(f"{dcd} holds {atoms} atoms, the topology {len(numbers)}", cure="give the topology of the DCD")
    columns, declared = read_table(table, units) if table is not None else ({}, {})
    if columns and len(next(iter(columns.values()))) != frames:
        raise AuditError(
            f"{dcd} holds {frames} frames, {table} {len(next(iter(columns.values())))} rows",
            cure="report both at the same steps; a report of step 0 must be in both or in none",
        )
    if spacing is not None:
        columns["time"], declared["time"] = np.arange(frames, dtype=np.float64) * np.float64(spacing), "ps"
    return Foreign(
        sources=(dcd,) if table is None else (dcd, table),
        numbers=numbers,
        masses=masses,
        masses_declared=False,
        periodic=periodic,
        frames=frames,
        carries=frozenset(columns),
        units={"positions": "Angstrom (DCD)", **declared},
        rounding={"positions": Rounding(relative=float(np.finfo(np.float32).eps) / 2)},
        blocks=lambda size: _blocks(dcd, columns, size),
    )


def read_table(path: Path, units: Mapping[str, str]) -> tuple[dict[str, Floats], dict[str, str]]:
    """Columns of a StateDataReporter in this package's units, and their units as declared.

    Raises:
        AuditError: the file is no such table, or a column has no unit.
    """
    with path.open(encoding="utf-8", newline="") as file:
        first = file.readline()
        delimiter = next((d for d in (",", "\t", ";") if d in first), " ")
        rows = list(csv.reader(file, delimiter=delimiter))
    found: dict[str, Floats] = {}
    declared: dict[str, str] = {}
    for column, head in enumerate(next(csv.reader([first.lstrip("#")], delimiter=delimiter))):
        match = HEAD.match(head)
        name = COLUMNS.get(match.group(1).lower()) if match else None
        if match is None or name is None:
            continue
        kind = "time" if name == "time" else "energies"
        unit = units.get(kind) or match.group(2)
        if not unit:
            raise undeclared(kind, f"{path}, column {head!r},")
        try:
            values = np.array([float(row[column]) for row in rows if row], dtype=np.float64)
        except (ValueError, IndexError) as error:
            raise AuditError(f"{path}, column {head!r}: {error}", cure="the table was cut short, or is none") from error
        found[name] = values * factor_of(kind, unit, f"{path}, column {head!r}")
        declared[kind] = unit
    if not found:
        raise AuditError(
            f"{path} has no column of time or energy in its first line",
            cure="give the table of OpenMM's StateDataReporter",
        )
    return found, declared


def _check_head(dcd: Path) -> None:
    """Refuse a DCD whose head names more atoms than the file has room for: MDTraj makes room for them first.

    Raises:
        AuditError: so it is, or this is no DCD.
    """
    size = dcd.stat().st_size
    with dcd.open("rb") as file:
        order = {84: "<", 84 << 24: ">"}.get(_int(file, "<"), "")
        if order:
            file.seek(84 + 8)
            title = _int(file, order)
            file.seek(title + 8, 1) if 0 <= title < size else file.seek(size)
            atoms = _int(file, order)
    if not order or not 0 < atoms <= size // 12:
        raise AuditError(f"{dcd} cannot be read as DCD: its head does not fit it", cure="give a finished DCD file")


def _int(file: BinaryIO, order: str) -> int:
    """The next whole number; -1 at the end of the file."""
    word = file.read(4)
    return int(struct.unpack(f"{order}i", word)[0]) if len(word) == 4 else -1


def _open(dcd: Path) -> Any:
    from mdtraj.formats import DCDTrajectoryFile

    try:
        return DCDTrajectoryFile(str(dcd))
    except OSError as error:
        raise AuditError(f"{dcd} cannot be read as DCD: {error}", cure="give a finished DCD file") from error


def _shape(dcd: Path) -> tuple[int, int, bool]:
    """Frames, atoms, and whether there is a cell."""
    _check_head(dcd)
    with _open(dcd) as file:
        frames = len(file)
        xyz, lengths, _ = file.read(1)
    return frames, xyz.shape[1], lengths is not None and bool((np.asarray(lengths) > 0).all())


def _blocks(dcd: Path, columns: dict[str, Floats], size: int) -> Iterator[Block]:
    first = 0
    with _open(dcd) as file:
        while True:
            xyz, lengths, angles = file.read(size)
            if len(xyz) == 0:
                return
            part = slice(first, first + len(xyz))
            box = None
            if lengths is not None and (lengths > 0).all():
                pairs = zip(_doubles(lengths) * NM_PER_ANGSTROM, _doubles(angles), strict=True)
                box = np.array([box_from_cell(edges, corners) for edges, corners in pairs])
            yield Block(
                first=first,
                positions=_doubles(xyz) * NM_PER_ANGSTROM,
                box=box,
                **{name: values[part] for name, values in columns.items()},
            )
            first += len(xyz)


def _doubles(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)
