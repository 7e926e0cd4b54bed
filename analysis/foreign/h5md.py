"""H5MD 1.1 files: positions, velocities, forces and energies with the units that the file declares.

de Buyl, Colberg, Höfling, Comput. Phys. Commun. 185, 1546 (2014), doi:10.1016/j.cpc.2014.01.018;
https://www.nongnu.org/h5md/h5md.html. Time-dependent elements hold ``value`` with ``step`` and ``time``, each a list or
one increment (with an attribute ``offset``). Elements that are stored at other steps than the positions do not belong
to their frames and are refused. ``species`` has no fixed meaning: it is read as atomic numbers only where names or
masses prove it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...errors import AuditError
from ...records.frames import Floats, Ints
from ...records.limits import FOREIGN_RATIO, check_hdf5
from .trajectory import Block, Foreign, Rounding, number_of, standard_masses, upright
from .units import factor_of, undeclared

PARTICLES = {"positions": "position", "velocities": "velocity", "forces": "force"}
OBSERVABLES = {"potential": "potential_energy", "kinetic": "kinetic_energy", "total": "total_energy"}
#: Largest difference between a stored mass and a standard atomic weight, Da: below that of any two elements up to Ar.
MASS_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where each quantity lies in one file, and its factor."""

    path: Path
    places: dict[str, str]
    factors: dict[str, float]
    box: str
    periodic: bool
    time: Floats | None
    frames: int


def read_h5md(path: Path, units: Mapping[str, str], spacing: float | None, topology: Ints | None) -> Foreign:
    """Read an H5MD file with one group of particles.

    Args:
        path: the file.
        units: units that the user declares, by quantity; they go before those of the file.
        spacing: time between frames, ps, if the user declares it.
        topology: atomic numbers from a topology file, shape (n,), if there is one.

    Raises:
        AuditError: it is no H5MD, or a unit or the elements are ambiguous.
    """
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, path, ratio=FOREIGN_RATIO, soft_links=True)
            return _read(file, path, units, spacing, topology)
    except OSError as error:
        raise AuditError(f"{path} cannot be read as HDF5: {error}", cure="give a finished H5MD file") from error


def _read(
    file: h5py.File, path: Path, units: Mapping[str, str], spacing: float | None, topology: Ints | None
) -> Foreign:
    if "h5md" not in file or "particles" not in file:
        raise AuditError(f"{path} is HDF5 but not H5MD", cure="give an H5MD file: it has the groups h5md and particles")
    groups = list(file["particles"])
    if len(groups) != 1:
        raise AuditError(f"{path} has {len(groups)} groups of particles: {groups}", cure="write one group of all atoms")
    group = file["particles"][groups[0]]
    places = _places(file, group, path)
    declared = {q: _unit(file[place], q, units, path) for q, place in places.items()}
    factors = {q: factor_of(_kind(q), unit, f"{path}, {places[q]}") for q, unit in declared.items()}
    frames = file[places["positions"]].shape[0]
    time, time_unit = _time(file[places["positions"]].parent, frames, units, spacing, path)
    masses_declared = "mass" in group
    numbers = topology if topology is not None else _numbers(group, path)
    masses = standard_masses(numbers)
    if masses_declared:
        dataset = _value(group["mass"])
        declared["masses"] = _unit(dataset, "masses", units, path)
        masses = _first(dataset) * factor_of("masses", declared["masses"], str(path))
    periodic = _boundary(group, path)
    layout = Layout(
        path=path, places=places, factors=factors, box=f"{group.name}/box/edges", periodic=periodic, time=time,
        frames=frames,
    )  # fmt: skip
    if time is not None:
        declared["time"] = time_unit
    return Foreign(
        sources=(path,),
        numbers=numbers,
        masses=masses,
        masses_declared=masses_declared,
        periodic=periodic,
        frames=frames,
        carries=frozenset(places.keys() - {"positions"}) | ({"time"} if time is not None else frozenset()),
        units=declared,
        rounding={q: Rounding(relative=_epsilon(file[place])) for q, place in places.items()},
        blocks=lambda size: _blocks(layout, size),
    )


def _places(file: h5py.File, group: h5py.Group, path: Path) -> dict[str, str]:
    """Where each quantity lies; every one at the steps of the positions."""
    if "position" not in group:
        raise AuditError(f"{path}: {group.name} holds no positions", cure="write positions; nothing is judged without")
    found = {q: _value(group[name]).name for q, name in PARTICLES.items() if name in group}
    observables = file.get("observables", {})
    inside = observables.get(group.name.split("/")[-1], {}) if len(observables) else {}
    for quantity, name in OBSERVABLES.items():
        home = inside if name in inside else observables
        if name in home:
            found[quantity] = _value(home[name]).name
    steps = _steps(file[found["positions"]])
    for place in found.values():
        if not np.array_equal(_steps(file[place]), steps):
            raise AuditError(
                f"{path}: {place} is stored at other steps than the positions",
                cure="write positions, velocities, forces and energies at the same steps",
            )
    return found


def _value(element: Any) -> h5py.Dataset:
    """The dataset of an element, time-dependent or not."""
    return element["value"] if isinstance(element, h5py.Group) else element


def _steps(value: h5py.Dataset) -> Floats:
    """The steps of a time-dependent element, shape (f,)."""
    step = value.parent.get("step")
    return np.arange(len(value), dtype=np.float64) if step is None else _series(step, len(value))


def _series(dataset: h5py.Dataset, frames: int) -> Floats:
    """Explicit values, or an increment with its offset."""
    if dataset.shape == ():
        return float(dataset.attrs.get("offset", 0.0)) + float(dataset[()]) * np.arange(frames, dtype=np.float64)
    return np.asarray(dataset[...], dtype=np.float64)


def _time(
    element: h5py.Group, frames: int, units: Mapping[str, str], spacing: float | None, path: Path
) -> tuple[Floats | None, str]:
    if spacing is not None:
        return np.arange(frames, dtype=np.float64) * np.float64(spacing), "ps"
    if "time" not in element:
        return None, ""
    unit = _unit(element["time"], "time", units, path)
    return _series(element["time"], frames) * factor_of("time", unit, f"{path}, {element['time'].name}"), unit


def _kind(quantity: str) -> str:
    return "energies" if quantity in OBSERVABLES else quantity


def _unit(dataset: h5py.Dataset, quantity: str, units: Mapping[str, str], path: Path) -> str:
    kind = _kind(quantity)
    if kind in units:
        return units[kind]
    if "unit" not in dataset.attrs:
        raise undeclared(kind, f"{path}, {dataset.name}, which has no attribute `unit`,")
    return _text(dataset.attrs["unit"])


def _text(value: Any) -> str:
    value = np.asarray(value).ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def _first(dataset: h5py.Dataset) -> Floats:
    """Values of the first frame of an element that does not change."""
    array = np.asarray(dataset[0] if isinstance(dataset.parent.get("step"), h5py.Dataset) else dataset[...])
    return array.astype(np.float64)


def _numbers(group: h5py.Group, path: Path) -> Ints:
    if "species" not in group:
        raise _no_elements(path, "the file has no species")
    dataset = _value(group["species"])
    names = h5py.check_enum_dtype(dataset.dtype)
    species = np.asarray(_first(dataset), dtype=np.int64)
    if names is not None:
        by_value = {value: number_of(name) for name, value in names.items()}
        numbers = np.array([by_value[int(s)] for s in species], dtype=np.int64)
        if (numbers == 0).any():
            raise _no_elements(path, "its names of species are no elements")
        return numbers
    if "mass" not in group or not ((species > 0) & (species < 119)).all():
        raise _no_elements(path, "its species are bare integers, which may be atom types")
    if (np.abs(standard_masses(species) - _first(_value(group["mass"]))) > MASS_TOLERANCE).any():
        raise _no_elements(path, "its species are not the atomic numbers of its masses")
    return species


def _no_elements(path: Path, why: str) -> AuditError:
    return AuditError(
        f"{path} does not say which elements its atoms are: {why}",
        cure="give --topology FILE (PDB, mmCIF or XYZ, atoms in the same order), or name the species in an HDF5 enum",
    )


def _boundary(group: h5py.Group, path: Path) -> bool:
    box = group.get("box")
    kinds = {_text(b) for b in np.ravel(box.attrs.get("boundary", [b"none"]))} if box is not None else {"none"}
    if len(kinds) != 1:
        raise AuditError(f"{path}: the box repeats in some directions only", cure="the models know all or none")
    if kinds == {"periodic"} and "edges" not in box:
        raise AuditError(f"{path}: the box is periodic but has no edges", cure="write box/edges")
    return kinds == {"periodic"}


def _epsilon(dataset: h5py.Dataset) -> float:
    return float(np.finfo(dataset.dtype).eps) / 2 if dataset.dtype.kind == "f" else 0.0


def _blocks(layout: Layout, size: int) -> Iterator[Block]:
    with h5py.File(layout.path, "r") as file:
        for first in range(0, layout.frames, size):
            part = slice(first, min(first + size, layout.frames))
            found: dict[str, Any] = {
                q: np.asarray(file[place][part], dtype=np.float64) * layout.factors[q]
                for q, place in layout.places.items()
            }
            if layout.time is not None:
                found["time"] = layout.time[part]
            if layout.periodic:
                edges = _edges(file[layout.box], part) * layout.factors["positions"]
                found["box"] = np.empty_like(edges)
                vectors = [q for q in PARTICLES if q in found]
                for i, box in enumerate(edges):
                    found["box"][i], *turned = upright(box, *(found[q][i] for q in vectors))
                    for q, array in zip(vectors, turned, strict=True):
                        found[q][i] = array
            yield Block(first=first, **found)


def _edges(element: Any, part: slice) -> Floats:
    """Box vectors of some frames in the unit of positions, shape (c, 3, 3); three edges are a cuboid."""
    dataset = _value(element)
    edges = np.asarray(dataset[part] if isinstance(element, h5py.Group) else dataset[...], dtype=np.float64)
    if not isinstance(element, h5py.Group):
        edges = np.broadcast_to(edges, (part.stop - part.start, *edges.shape))
    return np.array([np.diag(e) if e.ndim == 1 else e for e in edges])
