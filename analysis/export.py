"""Exporting a trajectory to files that other programs open.

XTC, DCD, PDB and MDTraj's HDF5 hold positions in single precision, written by MDTraj. Extended XYZ holds positions,
forces, disagreement and the region of each atom in full precision; the keys are those that ASE reads.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..ensemble.card import SYMBOLS
from ..errors import RunDirectoryError
from ..records.frames import Frames
from ..records.run_directory import RunDirectory
from ..records.segment import box_lengths_and_angles
from ..units import ANGSTROM_PER_NM, EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL, FS_PER_PS
from .blocks import take
from .record import Record, read_record, region_flags

if TYPE_CHECKING:
    import mdtraj

#: Formats by name: what a file name may end in.
SUFFIXES = {
    "xtc": (".xtc",),
    "dcd": (".dcd",),
    "pdb": (".pdb",),
    "h5": (".h5", ".hdf5"),
    "extxyz": (".extxyz", ".xyz"),
}
PROPERTIES = "species:S:1:pos:R:3:forces:R:3:disagreement:R:1:region:I:1"


def export(
    run: RunDirectory, path: Path | str, format: str | None = None, *, stride: int = 1, overwrite: bool = False
) -> Path:
    """Write all committed frames of a run to one file.

    Args:
        run: a run that has committed frames; finished or not.
        path: of the new file.
        format: `xtc`, `dcd`, `pdb`, `h5` or `extxyz`; by default as the file name ends.
        stride: write every so many-th frame.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        RunDirectoryError: no run, no frames, an unknown format, a file that exists, or one that cannot be written.
    """
    target = Path(path)
    chosen = _format(target, format)
    if target.exists() and not overwrite:
        raise RunDirectoryError(f"{target} exists already", cure="give another name, or remove the file first")
    if not target.parent.is_dir():
        raise RunDirectoryError(f"the folder {target.parent} does not exist", cure="make it first")
    if stride < 1:
        raise RunDirectoryError(f"stride is {stride}", cure="give a whole number from 1 on")
    record = read_record(run)
    part = target.with_name(f".{target.name}.part{SUFFIXES[chosen][0]}")
    try:
        if chosen == "extxyz":
            with part.open("w", encoding="utf-8") as file:
                file.writelines(extxyz(record, stride))
        else:
            _WRITERS[chosen](part, _topology(run, record), trimmed(record, stride))
        part.replace(target)
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write {target}: {error.strerror or error}", cure="give a writable folder with enough space"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _format(path: Path, name: str | None) -> str:
    if name is not None:
        if name in SUFFIXES:
            return name
        raise RunDirectoryError(f"unknown format `{name}`", cure=f"one of {', '.join(SUFFIXES)}")
    for known, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return known
    endings = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    raise RunDirectoryError(
        f"the format of {path.name} cannot be told from its name", cure=f"let it end in one of {endings}"
    )


def trimmed(record: Record, stride: int) -> Iterator[Frames]:
    """Every so many-th frame of a record, a few at a time."""
    done = 0
    for block in record.blocks():
        chosen = np.flatnonzero((done + np.arange(len(block))) % stride == 0)
        done += len(block)
        if len(chosen):
            yield take(block, chosen)


def extxyz(record: Record, stride: int) -> Iterator[str]:
    """Frames as extended XYZ, one text each: Å, eV, eV/Å, fs.

    Args:
        record: of the run.
        stride: every so many-th frame.

    Yields:
        One frame. ``disagreement`` (eV/Å) is `nan` where it was not computed; ``region`` is 0 rest, 1 buffer, 2 core;
        ``energy`` (eV) and ``forces`` are of the model that moved the atoms, self energies subtracted.
    """
    symbols = [SYMBOLS.get(int(z), "X") for z in record.particles.numbers]
    for block in trimmed(record, stride):
        flags = region_flags(block, record.regions)
        for i in range(len(block)):
            yield f"{record.atoms}\n{_comment(block, i, record.particles.periodic)}\n"
            positions = block.positions[i] * ANGSTROM_PER_NM
            forces = block.forces_used[i] * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
            for k, symbol in enumerate(symbols):
                numbers = " ".join(map(exact, (*positions[k], *forces[k], block.disagreement[i, k])))
                yield f"{symbol} {numbers} {flags[i, k]}\n"


def exact(value: float) -> str:
    """The shortest text that reads back as the same double."""
    return repr(float(value))


def _comment(frames: Frames, i: int, periodic: bool) -> str:
    fields = {
        "Properties": PROPERTIES,
        "energy": exact(frames.potential_used[i] * EV_PER_KJ_PER_MOL),
        "kinetic_energy": exact(frames.kinetic[i] * EV_PER_KJ_PER_MOL),
        "conserved_energy": exact(frames.conserved[i] * EV_PER_KJ_PER_MOL),
        "step": str(int(frames.step[i])),
        "time_fs": exact(round(frames.time[i] * FS_PER_PS, 9)),
        "model": frames.model_id[i],
        "pbc": '"T T T"' if periodic else '"F F F"',
    }
    if periodic:
        cell = " ".join(exact(value * ANGSTROM_PER_NM) for value in frames.box[i].ravel())
        fields = {"Lattice": f'"{cell}"', **fields}
    return " ".join(f"{key}={value}" for key, value in fields.items())


def _topology(run: RunDirectory, record: Record) -> "mdtraj.Topology":
    from mdtraj.formats import HDF5TrajectoryFile

    with HDF5TrajectoryFile(str(run.root / record.segments[0].file)) as file:
        return file.topology


def _cell(frames: Frames) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Lengths (nm) and angles (degrees), or nothing in vacuum."""
    return box_lengths_and_angles(frames.box) if frames.box.any() else (None, None)


def _write_xtc(path: Path, topology: "mdtraj.Topology", blocks: Iterator[Frames]) -> None:
    from mdtraj.formats import XTCTrajectoryFile

    with XTCTrajectoryFile(str(path), "w") as file:
        for frames in blocks:
            box = frames.box.astype(np.float32) if frames.box.any() else None
            file.write(
                frames.positions.astype(np.float32),
                time=frames.time.astype(np.float32),
                step=frames.step.astype(np.int32),
                box=box,
            )


def _write_dcd(path: Path, topology: "mdtraj.Topology", blocks: Iterator[Frames]) -> None:
    from mdtraj.formats import DCDTrajectoryFile

    with DCDTrajectoryFile(str(path), "w") as file:
        for frames in blocks:
            lengths, angles = _cell(frames)
            if lengths is not None and angles is not None:
                lengths, angles = (lengths * ANGSTROM_PER_NM).astype(np.float32), angles.astype(np.float32)
            positions = (frames.positions * ANGSTROM_PER_NM).astype(np.float32)
            file.write(positions, cell_lengths=lengths, cell_angles=angles)


def _write_h5(path: Path, topology: "mdtraj.Topology", blocks: Iterator[Frames]) -> None:
    from mdtraj.formats import HDF5TrajectoryFile

    with HDF5TrajectoryFile(str(path), "w") as file:
        file.topology = topology
        for frames in blocks:
            lengths, angles = _cell(frames)
            file.write(frames.positions, time=frames.time, cell_lengths=lengths, cell_angles=angles)


def _write_pdb(path: Path, topology: "mdtraj.Topology", blocks: Iterator[Frames]) -> None:
    from mdtraj.formats import PDBTrajectoryFile

    done = 0
    with PDBTrajectoryFile(str(path), "w") as file:
        for frames in blocks:
            lengths, angles = _cell(frames)
            for i, positions in enumerate(frames.positions):
                cell = {}
                if lengths is not None and angles is not None:
                    cell = {
                        "unitcell_lengths": tuple(lengths[i] * ANGSTROM_PER_NM),
                        "unitcell_angles": tuple(angles[i]),
                    }
                file.write(positions * ANGSTROM_PER_NM, topology, modelIndex=done, **cell)
                done += 1


_WRITERS = {"xtc": _write_xtc, "dcd": _write_dcd, "h5": _write_h5, "pdb": _write_pdb}
