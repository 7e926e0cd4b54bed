"""Checkpoints: everything that a run needs to go on exactly where it stopped.

A folder with OpenMM's exact checkpoint, a portable XML state, the engine's own state as JSON, the anchor clusters as
plain arrays, and a manifest with the hash of each file, whose own hash stands in ``run.db``. The folder is written
under a temporary name and counts only once ``run.db`` names it.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunDirectoryError
from ..records.durable import part_of, sha256_of, sync_folder
from ..records.limits import inside, json_of, npy_of, object_of, read_bounded, sound
from ..records.run_directory import RunDirectory
from ..region.cluster import Cluster, cluster_of, plain_of
from ..system.molecules import Floats

#: Of the newest checkpoints, so many are kept; beside them the newest of each model, and where a rewind would go.
KEPT = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run.

    Attributes:
        step: steps done.
        openmm: OpenMM's exact checkpoint.
        openmm_xml: the same state, portable, without random streams.
        state: the engine's own state, JSON-able.
        clusters: anchor clusters in order.
        snapshots: positions of whole-system anchors, nm, shape (s, n, 3).
        boxes: their boxes, nm, shape (s, 3, 3); zeros in vacuum.
    """

    step: int
    openmm: bytes
    openmm_xml: str
    state: dict[str, Any]
    clusters: tuple[Cluster, ...]
    snapshots: Floats
    boxes: Floats


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint; the folder counts only once run.db names it.

    Returns:
        The folder.

    Raises:
        OSError: it cannot be written; nothing stands under its name then.
    """
    temporary = part_of(folder)
    for left in (temporary, folder):
        # Written before a commit that never happened.
        if left.exists():
            shutil.rmtree(left)
    temporary.mkdir()
    contents = {
        "openmm.chk": checkpoint.openmm,
        "openmm.xml": checkpoint.openmm_xml.encode(),
        "state.json": json.dumps({"step": checkpoint.step, **checkpoint.state}).encode(),
        "clusters.json": json.dumps([plain_of(c) for c in checkpoint.clusters]).encode(),
        "snapshots.npy": _npy(checkpoint.snapshots),
        "boxes.npy": _npy(checkpoint.boxes),
    }
    hashes = {}
    for name, content in contents.items():
        _write_synced(temporary / name, content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    _write_synced(temporary / MANIFEST, json.dumps(hashes, indent=1).encode())
    sync_folder(temporary)
    temporary.rename(folder)
    sync_folder(folder.parent)
    return folder


def read_checkpoint(folder: Path, manifest_sha256: str = "") -> Checkpoint:
    """Read a checkpoint and check its hashes.

    Args:
        folder: of the checkpoint.
        manifest_sha256: hash of its manifest, from ``run.db``; empty where none is known.

    Raises:
        RunDirectoryError: a file is missing or damaged.
    """
    place = f"checkpoint {folder}"
    try:
        if manifest_sha256 and sha256_of(folder / MANIFEST) != manifest_sha256:
            raise RunDirectoryError(f"{place}: {MANIFEST} damaged", cure="restore it from a copy")
        hashes = object_of(read_bounded(folder / MANIFEST), f"{place}: {MANIFEST}")
        contents = {name: read_bounded(inside(folder, name, f"{place}: {MANIFEST}")) for name in hashes}
    except OSError as error:
        raise RunDirectoryError(f"{place} is not whole: {error}", cure="restore it from a copy") from error
    damaged = [name for name, content in contents.items() if hashlib.sha256(content).hexdigest() != hashes[name]]
    if damaged:
        raise RunDirectoryError(f"{place}: {', '.join(damaged)} damaged", cure="restore it from a copy")
    with sound(place):
        state = object_of(contents["state.json"], f"{place}: state.json")
        return Checkpoint(
            step=int(state.pop("step")),
            openmm=contents["openmm.chk"],
            openmm_xml=contents["openmm.xml"].decode(),
            state=state,
            clusters=tuple(cluster_of(c) for c in json_of(contents["clusters.json"], f"{place}: clusters.json")),
            snapshots=npy_of(contents["snapshots.npy"], f"{place}: snapshots.npy"),
            boxes=npy_of(contents["boxes.npy"], f"{place}: boxes.npy"),
        )


def forget_old(run: RunDirectory, kept: Collection[int]) -> None:
    """Remove all checkpoints but those with these numbers.

    Raises:
        OSError: one cannot be removed.
    """
    for folder in (run.root / "checkpoints").iterdir():
        if not folder.name.isdecimal() or int(folder.name) not in kept:
            shutil.rmtree(folder)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _npy(array: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
