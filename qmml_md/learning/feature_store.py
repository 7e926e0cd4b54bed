"""Features of many clusters in bounded memory: what does not fit is kept on disk, and comes back equal to the bit.

Features depend on the descriptor and the geometry only, so they are found by a hash of both. Columns of the AEV that
are zero for all atoms, with all their derivatives, belong to elements that the cluster does not hold: they are left out
of what is kept and put back when asked for. The Jacobian is nearly all of the memory.
"""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..ensemble.batch import DESCRIPTOR
from ..ensemble.model import AniEnsemble
from ..system.molecules import Floats, Ints
from .features import Features, featurise

_ARRAYS = ("elements", "columns", "values")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """Features without the columns that are zero.

    Attributes:
        elements: element indices, shape (m,).
        columns: columns of the AEV that are kept, sorted, shape (d,).
        values: AEV and Jacobian side by side in those columns, shape (m, d, 1 + 3 m).
        width: D, the columns of the whole AEV.
    """

    elements: Tensor
    columns: Tensor
    values: Tensor
    width: int

    @property
    def bytes(self) -> int:
        """Memory held, in bytes."""
        return sum(t.numel() * t.element_size() for t in (self.elements, self.columns, self.values))


def pack(features: Features) -> Packed:
    """Leave out the columns of the AEV whose values and derivatives have no bit set for any atom."""
    m, width = features.aev.shape
    whole = torch.cat([features.aev.unsqueeze(2), features.jacobian.reshape(m, width, -1)], dim=2)
    # A negative zero has a bit set: it is kept, so that what comes back is equal to the bit.
    bits = whole.view(torch.int32 if whole.dtype == torch.float32 else torch.int64)
    columns = (bits != 0).any(2).any(0).nonzero().flatten()
    values = whole[:, columns].contiguous()
    return Packed(elements=features.elements.clone(), columns=columns, values=values, width=width)


def unpack(packed: Packed) -> Features:
    """The features that ``pack`` took."""
    m, width = len(packed.elements), packed.width
    aev = packed.values.new_zeros(m, width)
    aev[:, packed.columns] = packed.values[:, :, 0]
    jacobian = packed.values.new_zeros(m, width, 3 * m)
    jacobian[:, packed.columns] = packed.values[:, :, 1:]
    return Features(elements=packed.elements.clone(), aev=aev, jacobian=jacobian.reshape(m * width, 3 * m))


class FeatureStore:
    """Computes features once and keeps them; the least recently used go to disk when memory is full.

    The folder on disk belongs to this object and is removed with it. After a kill it may stay behind; nothing reads it.

    Attributes:
        limit_bytes: most memory that kept features take.
    """

    def __init__(self, limit_bytes: int, folder: Path | None = None) -> None:
        """Make an empty store.

        Args:
            limit_bytes: most memory for what is kept, in bytes; 0 keeps everything on disk.
            folder: where the temporary folder is made; by default where the system makes them.

        Raises:
            ValueError: the limit is negative.
        """
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes is {limit_bytes}; give 0 or more")
        self.limit_bytes = limit_bytes
        self._parent = folder
        self._folder: Path | None = None
        self._kept: OrderedDict[str, Packed] = OrderedDict()
        self._held = 0
        self._on_disk: dict[str, tuple[Path, int]] = {}
        self._remove: weakref.finalize[..., FeatureStore] | None = None

    @property
    def bytes_in_memory(self) -> int:
        """Memory that kept features take, in bytes."""
        return self._held

    def __len__(self) -> int:
        return len(self._kept.keys() | self._on_disk.keys())

    def get(self, ensemble: AniEnsemble, numbers: Ints, positions: Floats) -> Features:
        """Features of an isolated cluster, computed if they are not kept.

        Args:
            ensemble: the model whose descriptor and precision are used.
            numbers: atomic numbers, shape (m,).
            positions: Å, shape (m, 3).

        Raises:
            ElementError: the weights do not know an element.
            OSError: the disk is full.
        """
        key = content_key(ensemble, numbers, positions)
        packed = self._kept.get(key)
        if packed is not None:
            self._kept.move_to_end(key)
            return unpack(packed)
        if key in self._on_disk:
            packed = self._read(key)
            features = unpack(packed)
        else:
            features = featurise(ensemble, numbers, positions)
            packed = pack(features)
        self._keep(key, packed)
        return features

    def close(self) -> None:
        """Forget everything and remove the folder."""
        self._kept.clear()
        self._on_disk.clear()
        self._held = 0
        if self._remove is not None:
            self._remove()
        self._folder = self._remove = None

    def _keep(self, key: str, packed: Packed) -> None:
        if packed.bytes > self.limit_bytes:
            # It would push out everything else and not fit all the same.
            self._write(key, packed)
            return
        self._kept[key] = packed
        self._held += packed.bytes
        while self._held > self.limit_bytes:
            oldest, out = self._kept.popitem(last=False)
            self._held -= out.bytes
            self._write(oldest, out)

    def _write(self, key: str, packed: Packed) -> None:
        if key in self._on_disk:
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="qmml-features-", dir=self._parent))
            self._remove = weakref.finalize(self, shutil.rmtree, str(self._folder), ignore_errors=True)
        for name in _ARRAYS:
            np.save(self._folder / f"{key}.{name}.npy", getattr(packed, name).numpy(), allow_pickle=False)
        self._on_disk[key] = (self._folder, packed.width)

    def _read(self, key: str) -> Packed:
        folder, width = self._on_disk[key]
        arrays = {name: np.load(folder / f"{key}.{name}.npy", allow_pickle=False) for name in _ARRAYS}
        return Packed(width=width, **{name: torch.from_numpy(array) for name, array in arrays.items()})


def content_key(ensemble: AniEnsemble, numbers: Ints, positions: Floats) -> str:
    """SHA-256 of everything that features depend on: descriptor, precision, elements, positions to the bit."""
    card = asdict(ensemble.card)
    digest = hashlib.sha256(json.dumps([str(ensemble.dtype), *(card[name] for name in DESCRIPTOR)]).encode())
    digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(positions, dtype="<f8").tobytes())
    return digest.hexdigest()
