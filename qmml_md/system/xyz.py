"""Extended XYZ: one frame of symbols and positions, with a box, without bonds.

Read here and not with ASE, whose seam in this package is the reference: the part of the format that a structure needs
is a count, a comment of ``key=value`` pairs and columns named by ``Properties``
(https://github.com/libAtoms/extxyz).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StructureError
from ..units import NM_PER_ANGSTROM
from .bonds import guess_bonds
from .images import Floats, Ints, orient
from .molecules import molecules_of

PAIR = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|(\S+))')
#: A whole number that counts atoms or columns: ASCII digits, and not so many that they would be no number.
COUNT = re.compile(r"[0-9]{1,9}")
TRUE = frozenset({"T", "TRUE", "1"})
FALSE = frozenset({"F", "FALSE", "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class XyzFrame:
    """What the first frame of an XYZ file says.

    Attributes:
        symbols: element symbols, length n.
        positions: nm, shape (n, 3); turned with the box into OpenMM's orientation where the file has another.
        box: reduced box, nm, shape (3, 3); None without ``Lattice``, or with ``pbc="F F F"``.
    """

    symbols: tuple[str, ...]
    positions: Floats
    box: Floats | None


def read_frame(path: Path) -> XyzFrame:
    """Read the first frame of an XYZ or extended XYZ file.

    Raises:
        StructureError: the file is not XYZ, or its box repeats in some directions only.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or not COUNT.fullmatch(lines[0].strip()):
        raise _not_xyz(path, 1, "the number of atoms")
    count = int(lines[0])
    if len(lines) < 2 + count:
        raise _not_xyz(path, len(lines) + 1, f"the remaining {2 + count - len(lines)} of {count} atoms")
    comment = {key: quoted or bare for key, quoted, bare in PAIR.findall(lines[1])}
    species, start = _columns(comment.get("Properties", "species:S:1:pos:R:3"), path)
    symbols, positions = [], np.zeros((count, 3))
    for row, line in enumerate(lines[2 : 2 + count]):
        words = line.split()
        try:
            symbols.append(words[species].capitalize())
            positions[row] = [float(word) for word in words[start : start + 3]]
        except (IndexError, ValueError) as error:
            raise _not_xyz(path, row + 3, "a symbol and three coordinates") from error
    box, positions = _box(comment, positions * NM_PER_ANGSTROM, path)
    return XyzFrame(symbols=tuple(symbols), positions=positions, box=box)


def topology_by_distance(frame: XyzFrame, box: Floats | None) -> Any:
    """An MDTraj topology with bonds guessed from distances.

    Each molecule becomes one residue with its Hill formula for a name (``C2H6O``; water ``HOH``). Where the atoms of a
    molecule do not stand together in the file, all atoms become one residue ``SYS``, since a residue is a run of atoms.

    Args:
        frame: what the file says.
        box: the box to look for bonds across; None in vacuum.
    """
    from mdtraj import Topology
    from mdtraj.core import element

    elements = [_element(element, symbol) for symbol in frame.symbols]
    numbers = np.array([e.number for e in elements], dtype=np.int64)
    finite = np.flatnonzero(np.isfinite(frame.positions).all(axis=1))
    bonds = finite[guess_bonds(numbers[finite], frame.positions[finite], box)]
    residue_of, names = _residues(frame.symbols, molecules_of(bonds, len(numbers)))
    topology = Topology()
    chain = topology.add_chain()
    residues = [topology.add_residue(name, chain, resSeq=k + 1) for k, name in enumerate(names)]
    counts: dict[tuple[int, str], int] = {}
    atoms = []
    for symbol, e, k in zip(frame.symbols, elements, residue_of, strict=True):
        counts[int(k), symbol] = counts.get((int(k), symbol), 0) + 1
        atoms.append(topology.add_atom(f"{symbol}{counts[int(k), symbol]}", e, residues[k]))
    for i, j in bonds:
        topology.add_bond(atoms[i], atoms[j])
    return topology


def _residues(symbols: tuple[str, ...], molecule: Ints) -> tuple[Ints, list[str]]:
    """Residue of each atom, and the names of the residues."""
    if (np.diff(molecule) < 0).any():
        return np.zeros_like(molecule), ["SYS"]
    members: list[list[str]] = [[] for _ in range(int(molecule.max(initial=-1)) + 1)]
    for symbol, k in zip(symbols, molecule, strict=True):
        members[k].append(symbol)
    formulas = [hill_formula(m) for m in members]
    return molecule, ["HOH" if formula == "H2O" else formula for formula in formulas]


def hill_formula(symbols: list[str]) -> str:
    """Formula with carbon first, then hydrogen, then the rest by alphabet (all by alphabet without carbon)."""
    counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
    leading = [symbol for symbol in ("C", "H") if symbol in counts and "C" in counts]
    order = leading + [symbol for symbol in counts if symbol not in leading]
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in order)


def _columns(properties: str, path: Path) -> tuple[int, int]:
    """Columns of the symbol and of the first coordinate."""
    words, column, found = properties.split(":"), 0, {}
    for name, width in zip(words[0::3], words[2::3], strict=False):
        if not COUNT.fullmatch(width) or (name.lower() == "pos" and width != "3"):
            raise _not_xyz(path, 2, f"a number of columns for `{name[:40]}` in Properties (3 for `pos`)")
        found[name.lower()] = column
        column += int(width)
    if "species" not in found or "pos" not in found:
        raise _not_xyz(path, 2, "the columns `species` and `pos` in Properties")
    return found["species"], found["pos"]


def _box(comment: dict[str, str], positions: Floats, path: Path) -> tuple[Floats | None, Floats]:
    if "Lattice" not in comment:
        return None, positions
    flags = comment.get("pbc", "T T T").upper().split()
    if len(flags) != 3 or not set(flags) <= TRUE | FALSE:
        raise _not_xyz(path, 2, 'pbc="T T T" or pbc="F F F"')
    if set(flags) <= FALSE:
        return None, positions
    if not set(flags) <= TRUE:
        raise StructureError(
            f'{path}: pbc="{comment["pbc"]}" repeats in some directions only',
            cure="repeat in all three directions with enough vacuum, or in none (`periodic: false`)",
        )
    try:
        lattice = np.array([float(word) for word in comment["Lattice"].split()]).reshape(3, 3)
    except ValueError as error:
        raise _not_xyz(path, 2, "nine numbers in Lattice") from error
    return orient(lattice * NM_PER_ANGSTROM, positions)


def _element(table: Any, symbol: str) -> Any:
    """MDTraj's element; the virtual one for a symbol that is none, which the structure check names."""
    try:
        return table.get_by_symbol(symbol)
    except KeyError:
        return table.virtual


def _not_xyz(path: Path, line: int, expected: str) -> StructureError:
    return StructureError(
        f"{path} cannot be read as extended XYZ: line {line} should hold {expected}",
        cure="write the file with ase.io.write(..., format='extxyz'), or use PDB",
    )
