"""AMBER, GROMACS and CHARMM files: atoms and bonds with their parameters in one, coordinates in another."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from ..config import System
from ..config.system import AMBER, GROMACS
from ..errors import ForceFieldError, StructureError
from .images import Floats, reduce_box
from .molecules import Molecules
from .structures import molecules_from, read_structure, refuse_large, shortened

#: Coordinates without atoms of their own.
COORDINATES = frozenset({".inpcrd", ".rst7", ".gro"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """What a parameter file holds.

    Attributes:
        path: of the file.
        topology: atoms and bonds in OpenMM's form.
        build: makes the OpenMM System, with the keywords of ``ForceField.createSystem``.
    """

    path: Path
    topology: app.Topology
    build: Callable[..., openmm.System]


def open_parameters(system: System, folder: Path, box: Floats | None) -> Parameters:
    """Read the parameter file of a configuration.

    Args:
        system: of the configuration, with a topology.
        folder: where its relative paths start.
        box: reduced box, nm, shape (3, 3); None in vacuum. CHARMM and GROMACS files have none of their own.

    Raises:
        ForceFieldError: a file is missing or cannot be read.
    """
    path = folder / Path(system.topology or "")
    for file in (path, *(folder / name for name in system.parameters)):
        if not file.is_file():
            raise ForceFieldError(f"{file} does not exist or is not a file", cure="correct the `system` section")
        refuse_large(file)
    kind, vectors = path.suffix.lower(), None if box is None else box * unit.nanometer
    try:
        if kind in AMBER:
            amber = app.AmberPrmtopFile(str(path), periodicBoxVectors=vectors)
            return Parameters(path=path, topology=amber.topology, build=amber.createSystem)
        if kind in GROMACS:
            include = None if system.gromacs_include is None else str(folder / system.gromacs_include)
            with warnings.catch_warnings():
                # OpenMM leaves closing the files to the garbage collector.
                warnings.simplefilter("ignore", ResourceWarning)
                top = _Contained(str(path), periodicBoxVectors=vectors, includeDir=include)
            return Parameters(path=path, topology=top.topology, build=top.createSystem)
        psf = app.CharmmPsfFile(str(path), periodicBoxVectors=vectors)
        charmm = app.CharmmParameterSet(*(str(folder / name) for name in system.parameters))
        return Parameters(path=path, topology=psf.topology, build=lambda **options: psf.createSystem(charmm, **options))
    except ForceFieldError:
        raise
    except Exception as error:  # the parsers raise whatever a broken file makes them trip over
        raise unreadable(path, error) from error


class _Contained(app.GromacsTopFile):  # type: ignore[misc]
    """A GROMACS topology that includes only what lies with it or in the folder of includes.

    OpenMM reads the topology and each file that it includes through this method, and quotes lines that it cannot read.
    """

    _home: Path | None = None

    def _processFile(self, file: str) -> None:
        place = Path(file).resolve()
        self._home = self._home or place.parent
        allowed = (self._home, *(Path(each).resolve() for each in self._includeDirs))
        if not any(place.is_relative_to(root) for root in allowed):
            raise ForceFieldError(
                f"the topology in {self._home} includes {file}, which lies elsewhere",
                cure="copy that file beside the topology, or name its folder in system.gromacs_include",
            )
        refuse_large(place)
        super()._processFile(file)


def read_with_parameters(system: System, folder: Path) -> Molecules:
    """Molecules whose atoms and bonds are those of the parameter file, at the coordinates of the structure file.

    Raises:
        ForceFieldError: the parameter file cannot be read.
        StructureError: the coordinates cannot be read, or are of other atoms.
    """
    from mdtraj import Topology

    place = folder / system.structure
    positions, box, numbers = _coordinates(place, system.periodic)
    found = open_parameters(system, folder, box)
    atoms = list(found.topology.atoms())
    if len(atoms) != len(positions):
        raise StructureError(
            f"{found.path} has {len(atoms)} atoms, {place} has {len(positions)}",
            cure="give coordinates of the same system, with the same atoms in the same order",
        )
    ours = np.array([0 if a.element is None else a.element.atomic_number for a in atoms])
    differing = np.flatnonzero(ours != (ours if numbers is None else numbers))
    if len(differing):
        raise StructureError(
            f"atom {differing[0]} is {atoms[differing[0]].name} in {found.path}, another element in {place} "
            f"({len(differing)} such)",
            cure="give coordinates with the atoms in the same order",
        )
    if box is None and system.periodic is not False and found.topology.getPeriodicBoxVectors() is not None:
        # An old AMBER topology holds the box that its coordinates lack.
        box = _box(found.topology.getPeriodicBoxVectors())
    if box is None and system.periodic:
        raise StructureError(
            f"{place} has no box, but `periodic: true` asks for one",
            cure="give coordinates with a box, or set `periodic: false`",
        )
    return molecules_from(Topology.from_openmm(found.topology), positions, box, dict(system.formal_charges))


def unreadable(path: Path | str, error: Exception) -> ForceFieldError:
    """What to say of a file that a parser tripped over."""
    return ForceFieldError(
        f"{path} cannot be read: {type(error).__name__}: {shortened(error)}",
        cure="check that the file is complete and of the kind that its name says, with what it includes at hand "
        "(system.gromacs_include)",
    )


def _coordinates(path: Path, periodic: bool | None) -> tuple[Floats, Floats | None, Any]:
    """Positions (nm), box (nm) or None, and atomic numbers, which only files with atoms of their own have."""
    if path.suffix.lower() not in COORDINATES:
        molecules = read_structure(path, periodic=periodic)
        return molecules.positions, molecules.box, molecules.numbers
    if not path.is_file():
        raise StructureError(f"{path} does not exist or is not a file", cure="correct `system.structure`")
    refuse_large(path)
    try:
        if path.suffix.lower() == ".gro":
            file = app.GromacsGroFile(str(path))
            positions, vectors = file.getPositions(asNumpy=True), file.getPeriodicBoxVectors()
        else:
            file = app.AmberInpcrdFile(str(path))
            positions, vectors = file.getPositions(asNumpy=True), file.boxVectors
    except Exception as error:  # the parsers raise whatever a broken file makes them trip over
        raise StructureError(
            f"{path} cannot be read: {type(error).__name__}: {shortened(error)}", cure="check that the file is complete"
        ) from error
    box = None if vectors is None or periodic is False else _box(vectors)
    return np.array(positions.value_in_unit(unit.nanometer), dtype=np.float64), box, None


def _box(vectors: Any) -> Floats | None:
    """A reduced box; None for one without volume, which is how GROMACS says that there is none."""
    box = np.array(vectors.value_in_unit(unit.nanometer), dtype=np.float64)
    return reduce_box(box) if (box.diagonal() > 0.0).all() else None
