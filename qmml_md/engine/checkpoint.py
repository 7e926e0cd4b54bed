"""Checkpoints: everything that a run needs to go on exactly where it stopped.

A folder with OpenMM's exact checkpoint, a portable XML state, the engine's own state as JSON, the anchor clusters as
plain arrays, and, written last, a manifest with the hash of each file.
"""

import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunDirectoryError
from ..records.run_directory import RunDirectory
from ..region.cluster import Cluster, cluster_of, plain_of
from ..system.molecules import Floats

#: Checkpoints that are kept; the newest is the one that run.db names.
KEPT = 2


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
    """
    if folder.exists():
        # Written before a commit that never happened.
        shutil.rmtree(folder)
    folder.mkdir()
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
        _write_synced(folder / name, content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    _write_synced(folder / "manifest.json", json.dumps(hashes, indent=1).encode())
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and check its hashes.

    Raises:
        RunDirectoryError: a file is missing or damaged.
    """
    try:
        hashes = json.loads((folder / "manifest.json").read_bytes())
        contents = {name: (folder / name).read_bytes() for name in hashes}
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"checkpoint {folder} is not whole: {error}", cure="restore it from a copy") from error
    damaged = [name for name, content in contents.items() if hashlib.sha256(content).hexdigest() != hashes[name]]
    if damaged:
        raise RunDirectoryError(f"checkpoint {folder}: {', '.join(damaged)} damaged", cure="restore it from a copy")
    state = json.loads(contents["state.json"])
    return Checkpoint(
        step=state.pop("step"),
        openmm=contents["openmm.chk"],
        openmm_xml=contents["openmm.xml"].decode(),
        state=state,
        clusters=tuple(cluster_of(c) for c in json.loads(contents["clusters.json"])),
        snapshots=np.load(io.BytesIO(contents["snapshots.npy"]), allow_pickle=False),
        boxes=np.load(io.BytesIO(contents["boxes.npy"]), allow_pickle=False),
    )


def forget_old(run: RunDirectory, newest: int, good: int | None = None) -> None:
    """Remove checkpoints older than the last ``KEPT``, but not the one that a rewind would go back to."""
    for folder in (run.root / "checkpoints").iterdir():
        if folder.name.isdecimal() and int(folder.name) <= newest - KEPT and int(folder.name) != good:
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
