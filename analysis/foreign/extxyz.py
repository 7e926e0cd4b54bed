"""Extended XYZ with many frames: Å, eV and eV/Å by custom, momenta as ASE writes them.

The format has no place for units (https://github.com/libAtoms/extxyz). Its custom is ASE's; velocities have no custom
(Å/fs, Å per ASE time, m/s and nm/ps all occur), so that their unit must be declared, and so must that of a key
``time``. Keys ``time_fs`` and ``time_ps`` speak for themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ...errors import AuditError
from ...records.frames import Floats, Ints
from ...system.xyz import COUNT, FALSE, PAIR, TRUE
from .trajectory import Block, Foreign, Rounding, number_of, standard_masses, upright
from .units import factor_of, undeclared

#: What the columns and keys of an extended XYZ file are in, unless the user declares otherwise.
CUSTOM = {"positions": "Angstrom", "energies": "eV", "forces": "eV/Angstrom", "momenta": "Da*Angstrom/ase_time"}
COLUMNS = {
    "pos": "positions",
    "forces": "forces",
    "force": "forces",
    "momenta": "momenta",
    "velocities": "velocities",
    "velocity": "velocities",
    "velo": "velocities",
    "vel": "velocities",
    "masses": "masses",
}
WIDTHS = {"species": "1", "masses": "1", "positions": "3", "forces": "3", "momenta": "3", "velocities": "3"}
#: Characters of a symbol or number.
LONGEST_WORD = 64
_WRITE = "write it with ase.io.write"
ENERGY_KEYS = {"energy": "potential", "kinetic_energy": "kinetic", "total_energy": "total"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read the frames of one file: columns by quantity, factors by quantity, atoms, time."""

    path: Path
    count: int
    columns: dict[str, slice]
    factors: dict[str, float]
    masses: Floats
    keys: frozenset[str]
    time_key: str
    time_factor: float
    spacing: float | None


def read_extxyz(path: Path, units: Mapping[str, str], spacing: float | None) -> Foreign:
    """Read an extended XYZ file of one system.

    Args:
        path: the file.
        units: units that the user declares, by quantity.
        spacing: time between frames, ps, if the user declares it.

    Raises:
        AuditError: it is no extended XYZ, or a unit is ambiguous.
    """
    with path.open(encoding="utf-8") as file:
        comment, words = _next_frame(file, path, None) or _refuse_empty(path)
    columns = _columns(comment.get("Properties", "species:S:1:pos:R:3"), path)
    needed = max(part.stop for part in columns.values())
    if words.shape[1] < needed:
        raise AuditError(
            f"{path}: Properties name {needed} columns, the lines have {words.shape[1]}", cure="write every column"
        )
    numbers = _numbers(words, columns, path)
    declared = {**CUSTOM, **units}
    factors = {}
    for quantity in columns.keys() - {"species"}:
        if quantity not in declared and quantity != "masses":
            raise undeclared(quantity, f"{path}, column `{quantity}`")
        factors[quantity] = factor_of(quantity, declared.get(quantity, "Da"), str(path))
    factors["energies"] = factor_of("energies", declared["energies"], str(path))
    keys = frozenset(key for key in ENERGY_KEYS if key in comment)
    time_key, time_factor = _time(comment, units, spacing, path)
    masses = standard_masses(numbers)
    if "masses" in columns:
        masses = words[:, columns["masses"]].astype(np.float64)[:, 0] * factors["masses"]
    layout = Layout(
        path=path, count=len(numbers), columns=columns, factors=factors, masses=masses, keys=keys,
        time_key=time_key, time_factor=time_factor, spacing=spacing,
    )  # fmt: skip
    carries = {ENERGY_KEYS[key] for key in keys} | ({"forces"} & columns.keys())
    carries |= {"velocities"} if {"momenta", "velocities"} & columns.keys() else set()
    carries |= {"time"} if time_key or spacing is not None else set()
    used = [q for q in (*factors, *(("time",) if time_key == "time" else ())) if q in declared]
    return Foreign(
        sources=(path,),
        numbers=numbers,
        masses=masses,
        masses_declared="masses" in columns,
        periodic=_periodic(comment, path),
        frames=_count_frames(path, len(numbers)),
        carries=frozenset(carries),
        units={quantity: declared[quantity] for quantity in used},
        rounding={
            q: Rounding(absolute=_last_digit(words[:, s]) * factors[q]) for q, s in columns.items() if q in factors
        },
        blocks=lambda size: _blocks(layout, numbers, size),
    )


def _blocks(layout: Layout, numbers: Ints, size: int) -> Iterator[Block]:
    held: list[dict[str, Floats]] = []
    first = 0
    with layout.path.open(encoding="utf-8") as file:
        while (frame := _next_frame(file, layout.path, layout.count)) is not None:
            held.append(_frame(*frame, layout, numbers, first + len(held)))
            if len(held) == size:
                yield _stack(held, first)
                first, held = first + len(held), []
    if held:
        yield _stack(held, first)


def _frame(comment: dict[str, str], words: Floats, layout: Layout, numbers: Ints, index: int) -> dict[str, Floats]:
    """One frame by quantity, in this package's units."""
    where = f"{layout.path}, frame {index}"
    if not np.array_equal(_numbers(words, layout.columns, layout.path), numbers):
        raise AuditError(f"{where} holds other atoms than frame 0", cure="give frames of one system in one order")
    found: dict[str, Floats] = {}
    try:
        for quantity in layout.columns.keys() - {"species", "masses"}:
            found[quantity] = words[:, layout.columns[quantity]].astype(np.float64) * layout.factors[quantity]
        for key in layout.keys:
            found[ENERGY_KEYS[key]] = np.asarray(float(comment[key]) * layout.factors["energies"])
        if layout.time_key:
            found["time"] = np.asarray(float(comment[layout.time_key]) * layout.time_factor)
        elif layout.spacing is not None:
            found["time"] = np.asarray(index * layout.spacing)
        if _periodic(comment, layout.path):
            lattice = np.array(comment["Lattice"].split(), dtype=np.float64).reshape(3, 3)
            found["box"] = lattice * layout.factors["positions"]
    except (KeyError, ValueError) as error:
        raise AuditError(f"{where} cannot be read: {error}", cure="mend the frame, or take it out") from error
    if "momenta" in found:
        found["velocities"] = found.pop("momenta") / layout.masses[:, None]
    if "box" in found:
        vectors = [q for q in ("positions", "velocities", "forces") if q in found]
        found["box"], *turned = upright(found["box"], *(found[q] for q in vectors))
        found.update(zip(vectors, turned, strict=True))
    return found


def _stack(held: list[dict[str, Floats]], first: int) -> Block:
    return Block(first=first, **{key: np.array([frame[key] for frame in held]) for key in held[0]})


def _next_frame(file: Iterator[str], path: Path, count: int | None) -> tuple[dict[str, str], Floats] | None:
    """The pairs of the comment and the words of the lines, shape (n, w); None at the end of the file."""
    head = next(file, "").strip()
    if not head:
        return None
    if not COUNT.fullmatch(head) or (count is not None and int(head) != count):
        expected = "a number of atoms" if count is None else f"{count}, the number of atoms"
        raise AuditError(f"{path}: found {head[:40]!r} where a frame should begin with {expected}")
    comment = {key: quoted or bare for key, quoted, bare in PAIR.findall(next(file, ""))}
    rows = [line.split() for line in islice(file, int(head))]
    if len(rows) != int(head) or len({len(row) for row in rows}) != 1:
        raise AuditError(f"{path}: a frame is cut short", cure="the file was not finished: take the last frame out")
    if any(len(word) > LONGEST_WORD for row in rows for word in row):
        # All words become as wide as the widest: one long one could fill the memory.
        raise AuditError(f"{path}: a frame holds a word of more than {LONGEST_WORD} characters", cure=_WRITE)
    return comment, np.array(rows)


def _columns(properties: str, path: Path) -> dict[str, slice]:
    words, column, found = properties.split(":"), 0, {}
    for name, width in zip(words[0::3], words[2::3], strict=False):
        known = "species" if name == "species" else COLUMNS.get(name.lower())
        if not COUNT.fullmatch(width) or width != WIDTHS.get(str(known), width):
            raise AuditError(f"{path}: Properties give `{name[:40]}` {width[:40]!r} columns", cure=_WRITE)
        end = column + int(width)
        if known is not None:
            found[known] = slice(column, end)
        column = end
    if not {"species", "positions"} <= found.keys():
        raise AuditError(f"{path}: Properties name no `species` and `pos`", cure=_WRITE)
    return found


def _numbers(words: Floats, columns: dict[str, slice], path: Path) -> Ints:
    symbols = words[:, columns["species"]][:, 0]
    known = {symbol: number_of(str(symbol)) for symbol in np.unique(symbols)}
    if 0 in known.values():
        raise AuditError(f"{path}: {', '.join(s for s in known if known[s] == 0)} is no element")
    return np.array([known[s] for s in symbols], dtype=np.int64)


def _periodic(comment: dict[str, str], path: Path) -> bool:
    flags = set(comment.get("pbc", "T T T" if "Lattice" in comment else "F F F").upper().split())
    if not (flags <= TRUE or flags <= FALSE):
        raise AuditError(
            f'{path}: pbc="{comment["pbc"]}" repeats in some directions only', cure="the models know all or none"
        )
    return flags <= TRUE


def _time(comment: dict[str, str], units: Mapping[str, str], spacing: float | None, path: Path) -> tuple[str, float]:
    """Key of the time and its factor; an empty key where there is none or the user declares the spacing."""
    if spacing is not None:
        return "", 1.0
    for key, unit in (("time_fs", "fs"), ("time_ps", "ps")):
        if key in comment:
            return key, factor_of("time", unit, str(path))
    if "time" not in comment:
        return "", 1.0
    if "time" not in units:
        raise undeclared("time", f"{path}, key `time`")
    return "time", factor_of("time", units["time"], str(path))


def _last_digit(words: Floats) -> float:
    """Half a unit of the last printed digit of the coarsest number."""
    coarsest = 0.0
    for word in map(str, words.ravel()):
        mantissa, _, exponent = word.lower().partition("e")
        decimals = len(mantissa.partition(".")[2])
        coarsest = max(coarsest, 0.5 * 10.0 ** (int(exponent or 0) - decimals))
    return coarsest


def _count_frames(path: Path, atoms: int) -> int:
    with path.open(encoding="utf-8") as file:
        lines = sum(1 for _ in file)
    return lines // (atoms + 2)


def _refuse_empty(path: Path) -> tuple[dict[str, str], Floats]:
    raise AuditError(f"{path} holds no frames", cure="give an extended XYZ file with at least one frame")
