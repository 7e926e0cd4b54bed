"""HDF5 that points elsewhere, or declares more than it holds: segments of a run, and trajectories of other programs."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bad_files import ETHANE
from hostile_files import MINI, SECRET, Trap
from hostile_runs import Change, forged


def traps() -> list[Trap]:
    """All of them."""
    return [*_segments(), *_h5md()]


def _first(run: Path) -> Path:
    return sorted(run.glob("segments/*.h5"))[0]


def in_segment(change: Callable[[h5py.File, Path], None]) -> Change:
    """Changes the first segment of a run."""

    def apply(run: Path, canary: Path) -> None:
        with h5py.File(_first(run), "r+") as file:
            change(file, run)

    return apply


def _replace(file: h5py.File, name: str, **how: Any) -> None:
    del file[name]
    file.create_dataset(name, **how)


def _segments() -> Iterator[Trap]:
    def external(file: h5py.File, run: Path) -> None:
        _replace(file, "time", shape=(2,), dtype="f8", external=[(str(run.parent / "secret"), 0, 16)])

    def linked(file: h5py.File, run: Path) -> None:
        del file["time"]
        file["time"] = h5py.ExternalLink(str(run.parent / "other.h5"), "/time")

    def soft(file: h5py.File, run: Path) -> None:
        del file["time"]
        file["time"] = h5py.SoftLink("/step")

    def virtual(file: h5py.File, run: Path) -> None:
        del file["time"]
        layout = h5py.VirtualLayout(shape=(2,), dtype="f8")
        layout[:] = h5py.VirtualSource(str(run.parent / "other.h5"), "time", shape=(2,))
        file.create_virtual_dataset("time", layout)

    def bomb(file: h5py.File, run: Path) -> None:
        _replace(file, "coordinates", shape=(10**6, 10**5, 3), dtype="f8", chunks=(1, 10**5, 3), compression="gzip")

    def unwritten(file: h5py.File, run: Path) -> None:
        _replace(file, "step", shape=(10**11,), dtype="i8", chunks=(10**6,))

    def objects(file: h5py.File, run: Path) -> None:
        _replace(file, "time", data=["a", "b"], dtype=h5py.string_dtype())

    def circle(file: h5py.File, run: Path) -> None:
        group = file.create_group("a")
        group["b"] = group

    def crowd(file: h5py.File, run: Path) -> None:
        for k in range(3000):
            file.create_group(f"g{k}")

    def ragged(file: h5py.File, run: Path) -> None:
        _replace(file, "velocities", data=np.zeros((1, 1, 1)))

    kinds: dict[str, tuple[Callable[[h5py.File, Path], None], ...]] = {
        "HDF5 that points elsewhere": (external, linked, soft, virtual),
        "HDF5 bombs": (bomb, unwritten, crowd),
        "HDF5 of other kinds": (objects, ragged),
    }
    for kind, changes in kinds.items():
        for change in changes:
            for command in ("export", "audit"):
                yield Trap(
                    kind=kind, name=f"{command}, {change.__name__}", build=forged(command, in_segment(change)),
                    names=r"\d+\.h5",
                )  # fmt: skip


def _h5md() -> Iterator[Trap]:
    def bomb(group: h5py.Group, folder: Path) -> None:
        group.create_dataset("position/value", shape=(10**7, 9, 3), dtype="f8", chunks=(1, 9, 3), compression="gzip")

    def external(group: h5py.Group, folder: Path) -> None:
        group.create_group("position")["value"] = h5py.ExternalLink(str(folder / "secret"), "/x")

    def stored(group: h5py.Group, folder: Path) -> None:
        files = [(str(folder / "secret"), 0, 216)]
        group.create_dataset("position/value", shape=(1, 9, 3), dtype="f8", external=files)

    for change in (bomb, external, stored):

        def build(folder: Path, canary: Path, change: Callable[[h5py.Group, Path], None] = change) -> Sequence[str]:
            (folder / "secret").write_text(SECRET * 20)
            with h5py.File(folder / "x.h5", "w") as file:
                file.create_group("h5md")
                change(file.create_group("particles/all"), folder)
            return ["audit", "--trajectory", str(folder / "x.h5"), "--weights", str(MINI), "--topology",
                    str(ETHANE / "ethane.pdb")]  # fmt: skip

        kind = "HDF5 bombs" if change is bomb else "HDF5 that points elsewhere"
        yield Trap(kind=kind, name=f"H5MD, {change.__name__}", build=build, names=r"x\.h5")
