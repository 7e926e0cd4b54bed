"""Checkpoints: exact, checked, and only the last ones kept."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.engine.checkpoint import KEPT, Checkpoint, forget_old, read_checkpoint, write_checkpoint
from qmml_md.errors import RunDirectoryError
from qmml_md.records.run_directory import RunDirectory
from qmml_md.region.cluster import Cluster


def checkpoint(step: int = 7) -> Checkpoint:
    rng = np.random.default_rng(step)
    cluster = Cluster(
        numbers=np.array([8, 1, 1]),
        positions=rng.normal(size=(3, 3)) / 3.0,
        parent=np.array([4, 5, -1]),
        links=np.array([[2, 0]]),
        charge=-1,
        multiplicity=2,
    )
    return Checkpoint(
        step=step,
        openmm=b"\x00\x01exact",
        openmm_xml="<State/>",
        state={"heat": 0.1 + 0.2, "rng": np.random.default_rng(1).bit_generator.state},
        clusters=(cluster,),
        snapshots=rng.normal(size=(2, 3, 3)),
        boxes=np.zeros((2, 3, 3)),
    )


def test_comes_back_to_the_bit(tmp_path: Path) -> None:
    one = checkpoint()
    again = read_checkpoint(write_checkpoint(tmp_path / "000000", one))
    assert (again.step, again.openmm, again.openmm_xml, again.state) == (
        one.step,
        one.openmm,
        one.openmm_xml,
        one.state,
    )
    assert again.snapshots.tobytes() == one.snapshots.tobytes()
    a, b = again.clusters[0], one.clusters[0]
    assert a.positions.tobytes() == b.positions.tobytes()
    assert (a.charge, a.multiplicity, a.parent.tolist(), a.links.tolist()) == (-1, 2, [4, 5, -1], [[2, 0]])


@pytest.mark.parametrize("name", ["openmm.chk", "state.json", "clusters.json", "snapshots.npy", "boxes.npy"])
def test_one_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "000000", checkpoint())
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(RunDirectoryError, match=name.replace(".", r"\.")):
        read_checkpoint(folder)


def test_without_a_manifest_it_does_not_count(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "000000", checkpoint())
    (folder / "manifest.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"manifest\.json cannot be read"):
        read_checkpoint(folder)


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    for number in range(5):
        write_checkpoint(run.checkpoint(number), checkpoint(number))
        forget_old(run, {number, number - 1})
    assert sorted(p.name for p in (run.root / "checkpoints").iterdir()) == ["000003", "000004"]
    assert KEPT == 2


def test_the_one_that_a_rewind_would_go_back_to_is_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    for number in range(6):
        write_checkpoint(run.checkpoint(number), checkpoint(number))
        forget_old(run, {number, number - 1, 1})
    assert sorted(path.name for path in (run.root / "checkpoints").iterdir()) == ["000001", "000004", "000005"]
