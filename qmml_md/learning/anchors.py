"""Anchors: unlabelled clusters that the run itself produces, kept by reservoir sampling.

Every ``HELD_OUT_EVERY``-th cluster goes to a pool that no training ever sees; the gate measures on it how far an update
moves the forces where nothing was labelled.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from ..ensemble.model import AniEnsemble
from ..region.cluster import Cluster
from ..system.molecules import Molecules
from .base_set import anchor_set
from .bulk import Bulk, make_bulk
from .feature_store import FeatureStore
from .features import featurise
from .images import Anchor, make_anchor

HELD_OUT_EVERY = 4
HELD_OUT_FRAMES = 12
#: Whole-system snapshots that are kept.
SNAPSHOTS = 10

#: Memory for features, beyond which they go to disk.
FEATURE_BYTES = 512 * 2**20

#: Energies and forces of the members of the starting model.
Said = tuple[Tensor, Tensor]

T = TypeVar("T")


@dataclass(slots=True)
class Reservoir(Generic[T]):
    """A uniform sample of fixed size from a stream (Vitter, ACM Trans. Math. Softw. 11, 37, 1985)."""

    capacity: int
    kept: list[T]
    seen: int = 0

    def offer(self, item: T, rng: np.random.Generator) -> None:
        """Keep the item, perhaps in place of another."""
        self.seen += 1
        if len(self.kept) < self.capacity:
            self.kept.append(item)
        elif self.capacity > 0 and (place := int(rng.integers(self.seen))) < self.capacity:
            self.kept[place] = item


def base_anchors(base: AniEnsemble) -> list[Anchor]:
    """The half of the base set that may be trained on, with what the starting model says of it."""
    return [make_anchor(base, featurise(base, c.numbers, c.positions)) for c in anchor_set(base.card)]


class AnchorPool:
    """Unlabelled clusters for training and, apart from them, for the gate."""

    def __init__(
        self, base: AniEnsemble, capacity: int, *, hold_bulk: bool = False, features: FeatureStore | None = None
    ) -> None:
        """Make empty pools.

        Args:
            base: the starting model.
            capacity: most clusters kept for training.
            hold_bulk: whether snapshots of the whole system are kept: where it is larger than a cluster.
            features: where features are kept; by default in memory, up to ``FEATURE_BYTES``.
        """
        self._base = base
        self._features = features or FeatureStore(FEATURE_BYTES)
        self.training = Reservoir[Cluster](capacity, [])
        self.held_out = Reservoir[Cluster](HELD_OUT_FRAMES if capacity > 0 else 0, [])
        self.snapshots = Reservoir[Molecules](SNAPSHOTS if capacity > 0 and hold_bulk else 0, [])
        self.offered = 0
        self._said: dict[int, tuple[Cluster, Said]] = {}
        self._bulk: dict[int, tuple[Molecules, Bulk]] = {}

    def visit(self, molecules: Molecules, rng: np.random.Generator) -> None:
        """Consider a snapshot of the whole system: what is simulated, with positions and box as they are now."""
        if self.snapshots.capacity > 0:
            self.snapshots.offer(molecules, rng)

    def offer(self, cluster: Cluster, rng: np.random.Generator) -> None:
        """Consider one more unlabelled cluster."""
        self.offered += 1
        pool = self.held_out if self.offered % HELD_OUT_EVERY == 0 else self.training
        pool.offer(cluster, rng)

    def anchors(self) -> list[Anchor]:
        """The training anchors, features and the starting model's predictions computed once each."""
        kept = {id(cluster): cluster for cluster in self.training.kept}
        self._said = {key: value for key, value in self._said.items() if key in kept}
        return [self._anchor(key, cluster) for key, cluster in kept.items()]

    def _anchor(self, key: int, cluster: Cluster) -> Anchor:
        features = self._features.get(self._base, cluster.numbers, cluster.positions)
        if key not in self._said:
            new = make_anchor(self._base, features)
            self._said[key] = (cluster, (new.energies, new.forces))
        energies, forces = self._said[key][1]
        return Anchor(features=features, energies=energies, forces=forces)

    def bulk(self) -> list[Bulk]:
        """The snapshots, features and the starting model's energies computed once each."""
        kept = {id(snapshot): snapshot for snapshot in self.snapshots.kept}
        self._bulk = {key: value for key, value in self._bulk.items() if key in kept}
        for key, snapshot in kept.items():
            if key not in self._bulk:
                self._bulk[key] = (snapshot, make_bulk(self._base, snapshot))
        return [self._bulk[key][1] for key in kept]
