import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from qmml_md.reference.guesses import Density
from qmml_md.reference.label import Embedded, Label, LevelOfTheory, label_key
from qmml_md.reference.wire import (
    LEAD,
    MAGIC,
    MAX_ARRAY_BYTES,
    Frames,
    Message,
    WireError,
    frame,
    pack_cluster,
    pack_density,
    pack_label,
    unpack_cluster,
    unpack_density,
    unpack_label,
)
from qmml_md.region.cluster import Cluster, Surroundings

Make = Callable[..., Cluster]
LEVEL = LevelOfTheory(
    program="pyscf", method="hf", basis="sto-3g", cartesian=True, density_fit=False, grid_level=0, embedding="e"
)


def same(one: object, other: object) -> bool:
    """Equal to the bit, through all parts."""
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if is_dataclass(one):
        return type(one) is type(other) and all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, float):
        return isinstance(other, float) and np.float64(one).tobytes() == np.float64(other).tobytes()
    return type(one) is type(other) and one == other


@pytest.fixture
def cluster(make_cluster: Make) -> Cluster:
    rng = np.random.default_rng(7)
    around = Surroundings(
        positions=rng.normal(size=(5, 3)), charges=rng.normal(size=5), parent=np.arange(5), own=rng.normal(size=4)
    )
    plain = make_cluster([6, 1, 1, 1], rng.normal(size=(4, 3)), parent=[3, 4, 5, -1], links=[[3, 0]], charge=-1)
    whole = np.array([True, False, True, False])
    return replace(plain, outer=np.array([9]), ratios=np.array([0.7]), complete=whole, surroundings=around)


@pytest.fixture
def label(cluster: Cluster) -> Label:
    rng = np.random.default_rng(8)
    forces = rng.normal(size=(4, 3))
    return Label(
        key=label_key(cluster, LEVEL),
        cluster=cluster,
        energy=-1000 / 3,
        forces=forces,
        dipole=np.array([np.nan, -0.0, np.inf]),
        charges=rng.normal(size=4),
        level=LEVEL,
        rung="diis",
        spin_squared=0.0,
        gap=float("inf"),
        wall_time=0.1,
        embedding=Embedded(energy=-5.5, forces=-forces, on_charges=rng.normal(size=(5, 3))),
    )


def through(plain: dict, arrays: dict) -> Message:
    (message,) = Frames().feed(frame(Message(kind="x", id=3, plain=plain, arrays=arrays)))
    assert (message.kind, message.id) == ("x", 3)
    return message


def test_clusters_labels_and_densities_come_back_to_the_bit(cluster: Cluster, label: Label) -> None:
    bare = replace(cluster, complete=None, surroundings=None)
    for each in (cluster, bare):
        message = through(*pack_cluster(each))
        assert same(unpack_cluster(message.plain, message.arrays), each)
    message = through(*pack_label(label))
    assert same(unpack_label(message.plain, message.arrays), label)
    for shape in ((6, 6), (2, 6, 6)):
        matrix = np.random.default_rng(9).normal(size=shape)
        density = Density(cluster=cluster, offsets=np.array([0, 3, 4, 5, 6]), matrix=matrix)
        message = through(*pack_density(density))
        assert same(unpack_density(message.plain, message.arrays), density)
    assert unpack_density({}, {}) is None
    # Sabotaged: the comparison sees the last bit.
    assert not same(replace(label, energy=np.nextafter(label.energy, 0.0)), label)


def test_what_comes_back_is_the_readers_own(cluster: Cluster) -> None:
    message = through(*pack_cluster(cluster))
    message.arrays["cluster.positions"][0, 0] = 1.0


def test_frames_are_found_however_the_bytes_arrive(label: Label) -> None:
    plain, arrays = pack_label(label)
    raw = b"".join(frame(Message(kind="label", id=n, plain=plain, arrays=arrays)) for n in (1, 2, 3))
    for size in (1, 7, 1000, len(raw)):
        frames, found = Frames(), []
        for start in range(0, len(raw), size):
            found += [message.id for message in frames.feed(raw[start : start + size])]
        assert found == [1, 2, 3]
        assert frames.pending == 0


def test_half_a_frame_is_none(label: Label) -> None:
    raw = frame(Message(kind="label", arrays={"x": label.forces}))
    frames = Frames()
    assert list(frames.feed(raw[:-1])) == []
    assert len(list(frames.feed(raw[-1:]))) == 1


def lead(header: bytes, arrays: bytes = b"", magic: bytes = MAGIC) -> bytes:
    return LEAD.pack(magic, len(header), len(arrays)) + header + arrays


def head(arrays: object, **changes: object) -> bytes:
    return json.dumps({"kind": "x", "id": 1, "plain": {}, "arrays": arrays, **changes}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"converged SCF energy = -76.02 hartree",
        lead(head([]), magic=b"QML2"),
        LEAD.pack(MAGIC, 2**31, 0),
        LEAD.pack(MAGIC, 10, MAX_ARRAY_BYTES + 1),
        lead(b"{}"),
        lead(b"not json at all"),
        lead(b"[" * 100_000),
        lead(head([], id="one")),
        lead(head([], plain=[])),
        lead(head([["x", "|O", [1]]]), bytes(8)),
        lead(head([["x", "<f8", [2]]]), bytes(8)),
        lead(head([["x", "<f8", [-1]]]), bytes(8)),
        lead(head([["x", "<f8", [1]]]), bytes(16)),
        lead(head([["x", "<f8", [2**62, 4]]]), bytes(8)),
        lead(head([["x", "<f8"]]), bytes(8)),
        lead(head(5)),
        lead(b"\xff\xfe\x00"),
    ],
)
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        list(Frames().feed(raw))


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(WireError, match="larger"):
        frame(Message(kind="x", plain={"text": "x" * 2**20}))


def test_what_makes_no_label_is_refused(label: Label) -> None:
    plain, arrays = pack_label(label)
    assert same(unpack_label(plain, arrays), label)
    for name in ("forces", "scalars", "cluster.numbers", "embedded.forces"):
        with pytest.raises(WireError):
            unpack_label(plain, {n: a for n, a in arrays.items() if n != name})
    with pytest.raises(WireError):
        unpack_label(plain, {**arrays, "scalars": np.zeros(3)})
    with pytest.raises(WireError):
        unpack_label(plain, {**arrays, "cluster.positions": np.full((4, 3), np.nan)})
    with pytest.raises(WireError):
        unpack_label({**plain, "level": {"program": "pyscf"}}, arrays)
    with pytest.raises(WireError):
        unpack_density(plain, {"start.matrix": np.zeros((2, 2))})
