"""A trajectory that another program made, as the auditor sees it: what it carries, in which units, block by block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import AuditError, QmmlError, StructureError
from ...records.frames import Floats, Ints
from ...system.images import orient

#: Characters of a parser's complaint that a message repeats.
LONGEST_COMPLAINT = 200
#: Quantities that a trajectory may carry beside positions.
OPTIONAL = ("time", "velocities", "forces", "potential", "kinetic", "total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How coarsely numbers are stored: ``|error| ≤ relative·|x| + absolute``."""

    relative: float = 0.0
    absolute: float = 0.0

    def of(self, values: Floats) -> float:
        """Largest error of these values."""
        size = float(np.abs(values).max(initial=0.0))
        return self.relative * size + self.absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some frames in a row, in this package's units; what the trajectory does not carry is None.

    Attributes:
        first: number of the first frame.
        positions: nm, shape (c, n, 3), wrapped or not.
        box: nm, shape (c, 3, 3), in OpenMM's orientation; None in vacuum.
        time: ps, shape (c,).
        velocities: nm/ps, shape (c, n, 3).
        forces: kJ/mol/nm, shape (c, n, 3).
        potential, kinetic, total: kJ/mol, shape (c,).
    """

    first: int
    positions: Floats
    box: Floats | None = None
    time: Floats | None = None
    velocities: Floats | None = None
    forces: Floats | None = None
    potential: Floats | None = None
    kinetic: Floats | None = None
    total: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A trajectory of another program.

    Attributes:
        sources: the files.
        numbers: atomic numbers, shape (n,).
        masses: Da, shape (n,).
        masses_declared: whether the files say them; else they are standard atomic weights.
        periodic: whether the box repeats.
        frames: how many there are.
        carries: which of ``OPTIONAL`` there is.
        units: unit of each quantity as declared, for the record.
        rounding: how coarsely each quantity is stored.
        blocks: reads all frames from the first, so many at a time.
    """

    sources: tuple[Path, ...]
    numbers: Ints
    masses: Floats
    masses_declared: bool
    periodic: bool
    frames: int
    carries: frozenset[str]
    units: Mapping[str, str]
    rounding: Mapping[str, Rounding] = field(default_factory=dict)
    blocks: Callable[[int], Iterator[Block]]

    def __post_init__(self) -> None:
        if self.masses.shape != self.numbers.shape:
            raise AuditError(f"{len(self.numbers)} atoms, but {len(self.masses)} masses")
        if self.frames < 1:
            raise AuditError(
                f"{self.sources[0]} holds no frames", cure="give the trajectory, not the topology, and a finished file"
            )


@contextmanager
def reading(paths: Sequence[Path]) -> Iterator[None]:
    """Say which file is at fault when a parser trips over what is in it.

    Raises:
        AuditError: the parser tripped.
    """
    try:
        yield
    except StructureError as error:  # a box, of which its reader does not know where it stands
        if any(str(path) in error.what for path in paths):
            raise
        raise AuditError(f"{', '.join(map(str, paths))}: {error.what}", cure=error.cure) from error
    except (QmmlError, MemoryError):
        raise
    except Exception as error:  # a broken file makes parsers raise whatever comes
        raise AuditError(
            f"{', '.join(map(str, paths))} cannot be read: {type(error).__name__}: {str(error)[:LONGEST_COMPLAINT]}",
            cure="check that the file is complete and of the kind that its name says",
        ) from error


def guarded(foreign: Foreign) -> Foreign:
    """The same trajectory, whose blocks are read under ``reading``."""

    def blocks(size: int) -> Iterator[Block]:
        found = foreign.blocks(size)
        while True:
            with reading(foreign.sources):
                block = next(found, None)
            if block is None:
                return
            yield block

    return replace(foreign, blocks=blocks)


def standard_masses(numbers: Ints) -> Floats:
    """Standard atomic weights, Da, shape (n,), as MDTraj and OpenMM hold them.

    Raises:
        AuditError: there is no such element.
    """
    from mdtraj.core import element

    try:
        return np.array([element.Element.getByAtomicNumber(int(z)).mass for z in numbers], dtype=np.float64)
    except KeyError as error:
        raise AuditError(f"there is no element of atomic number {error}", cure="give a --topology") from error


def number_of(symbol: str) -> int:
    """Atomic number of a symbol; 0 if it is none."""
    from mdtraj.core import element

    try:
        return int(element.get_by_symbol(symbol.capitalize()).number)
    except KeyError:
        return 0


def upright(box: Floats, *vectors: Floats) -> tuple[Floats, ...]:
    """One frame's box and vectors, turned together into OpenMM's orientation.

    Args:
        box: nm, shape (3, 3), rows are the box vectors, of any orientation.
        vectors: positions, velocities or forces, shape (n, 3) each.

    Returns:
        The reduced box and the vectors; these are untouched where the box stands upright already.

    Raises:
        StructureError: the box has no volume.
    """
    reduced, turned = orient(box, np.concatenate(vectors))
    return (reduced, *np.split(turned, len(vectors)))
