"""Segments: immutable HDF5 files in the MDTraj layout, with what an audit needs beside it, all in float64.

``mdtraj.load("000012.h5")`` opens one. The layout is MDTraj's HDF5 convention 1.1 (datasets ``coordinates``, ``time``,
``cell_lengths``, ``cell_angles``, ``velocities``, ``kineticEnergy``, ``potentialEnergy``, ``topology``); the additional
datasets carry the names of ``Frames``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..errors import RunDirectoryError
from .durable import write_durably
from .frames import ARRAYS, Floats, Frames, Ints
from .limits import check_hdf5, regular

#: Dataset name and unit of each array; names that MDTraj knows take MDTraj's spelling.
LAYOUT = {
    "step": ("step", "dimensionless"),
    "time": ("time", "picoseconds"),
    "positions": ("coordinates", "nanometers"),
    "velocities": ("velocities", "nanometers/picosecond"),
    "forces_used": ("forces_used", "kilojoules_per_mole/nanometer"),
    "potential_used": ("potentialEnergy", "kilojoules_per_mole"),
    "kinetic": ("kineticEnergy", "kilojoules_per_mole"),
    "conserved": ("conserved", "kilojoules_per_mole"),
    "entries": ("ledger_entries", "dimensionless"),
    "box": ("box_vectors", "nanometers"),
    "region_epoch": ("region_epoch", "dimensionless"),
    "disagreement": ("disagreement", "electronvolts/angstrom"),
    "blend": ("blend", "dimensionless"),
}

#: Largest segment, bytes; one is kept in memory when it is written.
MOST_SEGMENT_BYTES = 64 * 1024**3

#: Arrays that hold one number for each frame.
SCALARS = ("step", "time", "potential_used", "kinetic", "conserved", "entries", "region_epoch", "blend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """What stays the same in all frames.

    Attributes:
        numbers: atomic numbers, shape (n,).
        masses: Da, shape (n,).
        topology_json: topology in MDTraj's HDF5 JSON form.
        periodic: whether the box repeats.
        degrees_of_freedom: after constraints and conserved momentum.
    """

    numbers: Ints
    masses: Floats
    topology_json: str
    periodic: bool
    degrees_of_freedom: int


def write_segment(path: Path, frames: Frames, particles: Particles) -> str:
    """Write a segment durably.

    Args:
        path: final name; must not exist.
        frames: all on one model.
        particles: the atoms.

    Returns:
        SHA-256 of the file, in hexadecimal.

    Raises:
        RunDirectoryError: the segment exists already, or its frames ran on more than one model.
        OSError: it cannot be written.
    """
    if path.exists():
        raise RunDirectoryError(f"segment {path} exists already", cure="resume the run instead of starting it again")
    models = set(zip(frames.model_id, frames.blend_id, strict=True))
    if len(models) != 1:
        raise RunDirectoryError(f"segment {path.name} holds frames of {len(models)} models")
    return write_durably(path, _image(frames, particles))


def _image(frames: Frames, particles: Particles) -> bytes:
    """The file as bytes: made in memory, since HDF5 leaves behind whatever it had when a disk fills up."""
    with h5py.File("segment.h5", "w", driver="core", backing_store=False, track_order=False) as file:
        _write_header(file, frames, particles)
        for name, (dataset, unit) in LAYOUT.items():
            _put(file, dataset, getattr(frames, name), unit)
        if particles.periodic:
            lengths, angles = box_lengths_and_angles(frames.box)
            _put(file, "cell_lengths", lengths, "nanometers")
            _put(file, "cell_angles", angles, "degrees")
        file.flush()
        return bytes(file.id.get_file_image())


def read_segment(path: Path) -> Frames:
    """Read all frames of a segment.

    Raises:
        RunDirectoryError: the file is missing, or not a segment.
    """
    return next(read_blocks(path, None))


def read_blocks(path: Path, size: int | None) -> Iterator[Frames]:
    """Read the frames of a segment in order, so many at a time; all at once if no size is given.

    Raises:
        RunDirectoryError: the file is missing, or not a segment.
    """
    with _opened(path) as file:
        count = len(file[LAYOUT["step"][0]])
        for start in range(0, max(count, 1), size or max(count, 1)):
            yield _frames(file, slice(start, start + size if size else count))


def read_rows(path: Path, rows: Ints) -> Frames:
    """Read single frames of a segment.

    Args:
        path: of the segment.
        rows: increasing numbers of the frames within it, shape (f,).

    Raises:
        RunDirectoryError: the file is missing, or not a segment.
    """
    with _opened(path) as file:
        return _frames(file, rows)


def read_scalars(path: Path) -> tuple[dict[str, Floats | Ints], str, str]:
    """What a segment holds of each frame except arrays over atoms and the box, and the models that it ran on.

    Returns:
        The arrays by the names of ``Frames``, shape (f,) each; the model; the model that was being blended in.

    Raises:
        RunDirectoryError: the file is missing, or not a segment.
    """
    with _opened(path) as file:
        arrays = {name: np.asarray(file[LAYOUT[name][0]][...]) for name in SCALARS}
        return arrays, str(file.attrs["model_id"]), str(file.attrs["blend_id"])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(regular(path, MOST_SEGMENT_BYTES), "r") as file:
            check_hdf5(file, path)
            _check_shapes(file, path)
            yield file
    except RunDirectoryError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read as a segment: {error!s:.200}",
            cure="restore the file from a copy of the run directory",
        ) from error


def _check_shapes(file: h5py.File, path: Path) -> None:
    """Every array has as many frames and atoms as the others.

    Raises:
        RunDirectoryError: one has not.
    """
    frames, atoms = len(file[LAYOUT["step"][0]]), len(file["atomic_numbers"])
    vectors, single = ("positions", "velocities", "forces_used"), {"disagreement": (frames, atoms)}
    expected = dict.fromkeys(vectors, (frames, atoms, 3)) | single | {"box": (frames, 3, 3)}
    for name in ARRAYS:
        dataset = file[LAYOUT[name][0]]
        if dataset.shape != expected.get(name, (frames,)) or dataset.dtype.kind not in "fiu":
            raise RunDirectoryError(
                f"{path}: {dataset.name} has the shape {dataset.shape}, expected {expected.get(name, (frames,))}",
                cure="restore the file from a copy of the run directory",
            )


def _frames(file: h5py.File, chosen: slice | Ints) -> Frames:
    arrays = {name: np.asarray(file[LAYOUT[name][0]][chosen]) for name in ARRAYS}
    model_id, blend_id = str(file.attrs["model_id"]), str(file.attrs["blend_id"])
    count = len(arrays["step"])
    return Frames(**arrays, model_id=(model_id,) * count, blend_id=(blend_id,) * count)


def read_particles(path: Path) -> Particles:
    """Read what stays the same in all frames from any segment of a run.

    Raises:
        RunDirectoryError: the file is missing, or not a segment.
    """
    with _opened(path) as file:
        return Particles(
            numbers=np.asarray(file["atomic_numbers"][...], dtype=np.int64),
            masses=np.asarray(file["masses"][...], dtype=np.float64),
            topology_json=bytes(file["topology"][0]).decode(),
            periodic=bool(file.attrs["periodic"]),
            degrees_of_freedom=int(file.attrs["degrees_of_freedom"]),
        )


def box_lengths_and_angles(box: Floats) -> tuple[Floats, Floats]:
    """Lengths (nm) and angles (degrees) of box vectors.

    Args:
        box: rows are the vectors a, b, c, shape (f, 3, 3).

    Returns:
        Lengths, shape (f, 3), and angles α (b, c), β (a, c), γ (a, b), shape (f, 3).
    """
    lengths = np.linalg.norm(box, axis=2)
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = [np.einsum("fi,fi->f", box[:, i], box[:, j]) / (lengths[:, i] * lengths[:, j]) for i, j in pairs]
    return lengths, np.degrees(np.arccos(np.clip(np.stack(cosines, axis=1), -1.0, 1.0)))


def _write_header(file: h5py.File, frames: Frames, particles: Particles) -> None:
    file.attrs["conventions"] = np.bytes_("Pande")
    file.attrs["conventionVersion"] = np.bytes_("1.1")
    file.attrs["program"] = np.bytes_("qmml-md")
    file.attrs["application"] = np.bytes_("qmml-md")
    file.attrs["model_id"] = frames.model_id[0]
    file.attrs["blend_id"] = frames.blend_id[0]
    file.attrs["periodic"] = int(particles.periodic)
    file.attrs["degrees_of_freedom"] = particles.degrees_of_freedom
    file.create_dataset("topology", data=np.array([particles.topology_json.encode("ascii")]))
    _put(file, "atomic_numbers", particles.numbers, "dimensionless")
    _put(file, "masses", particles.masses, "daltons")


def _put(file: h5py.File, name: str, data: Floats | Ints, unit: str) -> None:
    dataset = file.create_dataset(name, data=data, track_times=False)
    dataset.attrs["units"] = np.bytes_(unit)
