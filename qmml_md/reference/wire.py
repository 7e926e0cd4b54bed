"""What goes between a run and the process that computes its labels: frames of JSON and raw arrays over pipes.

::

    "QML1" · length of the header (4 bytes) · length of the arrays (8 bytes) · header (JSON) · arrays, little-endian

Nothing that is read here can run code, and nothing is allocated before its announced size was found to be allowed.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..region.cluster import Cluster, Surroundings
from .guesses import Density
from .label import Embedded, Label, LevelOfTheory

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

MAGIC = b"QML1"
#: Magic number, length of the header, length of the arrays.
LEAD = struct.Struct("<4sIQ")
#: Everything but a few names and numbers travels as arrays.
MAX_HEADER_BYTES = 1 << 20
#: A density of eight thousand orbitals with its cluster; labels are computed with a tenth of that.
MAX_ARRAY_BYTES = 1 << 30
#: Types that travel, all little-endian.
TYPES = ("<f8", "<i8", "|b1")

_SCALARS = ("energy", "spin_squared", "gap", "wall_time")


class WireError(ValueError):
    """What was read is no frame, or does not hold what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One frame.

    Attributes:
        kind: what it is for.
        id: of the request that it belongs to.
        plain: what JSON can hold.
        arrays: by name.
    """

    kind: str
    id: int = 0
    plain: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


def frame(message: Message) -> bytes:
    """A message as bytes.

    Raises:
        WireError: it is larger than what the other side would read.
    """
    described, parts = [], []
    for name, array in message.arrays.items():
        raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        described.append([name, raw.dtype.str, list(array.shape)])
        parts.append(raw.tobytes())
    header = json.dumps(
        {"kind": message.kind, "id": message.id, "plain": dict(message.plain), "arrays": described}
    ).encode()
    arrays = b"".join(parts)
    _check_sizes(len(header), len(arrays))
    return LEAD.pack(MAGIC, len(header), len(arrays)) + header + arrays


class Frames:
    """Collects bytes as they come, and gives out messages as they are complete."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._bytes)

    def feed(self, received: bytes) -> Iterator[Message]:
        """Take bytes; give the messages that they complete.

        Raises:
            WireError: these are no frames, or larger ones than allowed.
        """
        self._bytes += received
        while len(self._bytes) >= LEAD.size:
            magic, header, arrays = LEAD.unpack_from(self._bytes)
            if magic != MAGIC:
                raise WireError(f"{bytes(self._bytes[:24])!r} begins no frame")
            _check_sizes(header, arrays)
            end = LEAD.size + header + arrays
            if len(self._bytes) < end:
                return
            message = _message(bytes(self._bytes[LEAD.size : LEAD.size + header]), self._bytes[end - arrays : end])
            del self._bytes[:end]
            yield message


def _check_sizes(header: int, arrays: int) -> None:
    if header > MAX_HEADER_BYTES or arrays > MAX_ARRAY_BYTES:
        raise WireError(f"a frame of {header} and {arrays} bytes is larger than any label")


def _message(header: bytes, arrays: bytearray) -> Message:
    try:
        found = json.loads(header)
        if not isinstance(found["plain"], dict) or not isinstance(found["id"], int):
            raise WireError("a header without its parts")
        return Message(
            kind=str(found["kind"]), id=found["id"], plain=found["plain"], arrays=_arrays(found["arrays"], arrays)
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WireError(f"a frame that cannot be read: {type(error).__name__}: {error}") from error


def _arrays(described: list[Any], raw: bytearray) -> Arrays:
    found: Arrays = {}
    start = 0
    for name, kind, shape in described:
        if kind not in TYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise WireError(f"array {name} of type {kind} and shape {shape}")
        end = start + np.dtype(kind).itemsize * prod(shape)
        if end > len(raw):
            raise WireError(f"array {name} ends beyond the frame")
        # A copy: aligned, the reader's own, and in the machine's byte order.
        found[str(name)] = np.frombuffer(raw[start:end], dtype=kind).reshape(shape).astype(np.dtype(kind[1:]))
        start = end
    if start != len(raw):
        raise WireError(f"{len(raw) - start} bytes belong to no array")
    return found


def pack_cluster(cluster: Cluster, name: str = "cluster") -> tuple[dict[str, Any], Arrays]:
    """A cluster as a JSON part and arrays, each under its name."""
    plain = {"charge": cluster.charge, "multiplicity": cluster.multiplicity}
    arrays: Arrays = {
        f"{name}.{part}": getattr(cluster, part)
        for part in ("numbers", "positions", "parent", "links", "outer", "ratios", "complete")
        if getattr(cluster, part) is not None
    }
    around = cluster.surroundings
    if around is not None:
        arrays |= {f"{name}.around.{part}": getattr(around, part) for part in ("positions", "charges", "parent", "own")}
    return {name: plain}, arrays


def unpack_cluster(plain: Mapping[str, Any], arrays: Mapping[str, Array], name: str = "cluster") -> Cluster:
    """The cluster that ``pack_cluster`` took, equal to the bit.

    Raises:
        WireError: it is not there, or makes no cluster.
    """
    try:
        around = None
        if f"{name}.around.positions" in arrays:
            parts = ("positions", "charges", "parent", "own")
            around = Surroundings(**{part: arrays[f"{name}.around.{part}"] for part in parts})
        return Cluster(
            numbers=arrays[f"{name}.numbers"],
            positions=arrays[f"{name}.positions"],
            parent=arrays[f"{name}.parent"],
            links=arrays[f"{name}.links"],
            charge=int(plain[name]["charge"]),
            multiplicity=int(plain[name]["multiplicity"]),
            outer=arrays[f"{name}.outer"],
            ratios=arrays[f"{name}.ratios"],
            complete=arrays.get(f"{name}.complete"),
            surroundings=around,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"no {name}: {type(error).__name__}: {error}") from error


def pack_density(density: Density) -> tuple[dict[str, Any], Arrays]:
    """A density as a JSON part and arrays."""
    plain, arrays = pack_cluster(density.cluster, "start")
    return plain, {**arrays, "start.offsets": density.offsets, "start.matrix": density.matrix}


def unpack_density(plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> Density | None:
    """The density that ``pack_density`` took, equal to the bit; None if there is none.

    Raises:
        WireError: it makes no density.
    """
    if "start.matrix" not in arrays:
        return None
    try:
        cluster = unpack_cluster(plain, arrays, "start")
        return Density(cluster=cluster, offsets=arrays["start.offsets"], matrix=arrays["start.matrix"])
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"no density: {error}") from error


def pack_label(label: Label) -> tuple[dict[str, Any], Arrays]:
    """A label as a JSON part and arrays."""
    plain, arrays = pack_cluster(label.cluster)
    plain |= {"key": label.key, "rung": label.rung, "level": asdict(label.level)}
    # As an array: JSON has no word for what is not finite.
    arrays["scalars"] = np.array([getattr(label, name) for name in _SCALARS], dtype=np.float64)
    arrays |= {"forces": label.forces, "dipole": label.dipole, "charges": label.charges}
    if label.embedding is not None:
        arrays["embedded.energy"] = np.array([label.embedding.energy], dtype=np.float64)
        arrays |= {"embedded.forces": label.embedding.forces, "embedded.on_charges": label.embedding.on_charges}
    return plain, arrays


def unpack_label(plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> Label:
    """The label that ``pack_label`` took, equal to the bit.

    Raises:
        WireError: it makes no label.
    """
    try:
        embedding = None
        if "embedded.energy" in arrays:
            embedding = Embedded(
                energy=float(arrays["embedded.energy"][0]),
                forces=arrays["embedded.forces"],
                on_charges=arrays["embedded.on_charges"],
            )
        return Label(
            key=str(plain["key"]),
            cluster=unpack_cluster(plain, arrays),
            forces=arrays["forces"],
            dipole=arrays["dipole"],
            charges=arrays["charges"],
            level=LevelOfTheory(**plain["level"]),
            rung=str(plain["rung"]),
            embedding=embedding,
            **dict(zip(_SCALARS, arrays["scalars"].tolist(), strict=True)),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WireError(f"no label: {type(error).__name__}: {error}") from error
