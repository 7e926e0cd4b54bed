"""Anchors: unlabelled clusters that the run itself produces, kept by reservoir sampling.

Every ``HELD_OUT_EVERY``-th cluster goes to a pool that no training ever sees; the gate measures on it how far an update
moves the forces where nothing was labelled.
"""

from dataclasses import dataclass

import numpy as np

from ..ensemble.model import AniEnsemble
from ..region.cluster import Cluster
from .features import featurise
from .finetune import Anchor, make_anchor

HELD_OUT_EVERY = 4
HELD_OUT_FRAMES = 12


@dataclass(slots=True)
class Reservoir:
    """A uniform sample of fixed size from a stream (Vitter, ACM Trans. Math. Softw. 11, 37, 1985)."""

    capacity: int
    kept: list[Cluster]
    seen: int = 0

    def offer(self, cluster: Cluster, rng: np.random.Generator) -> None:
        """Keep the cluster, perhaps in place of another."""
        self.seen += 1
        if len(self.kept) < self.capacity:
            self.kept.append(cluster)
        elif self.capacity > 0 and (place := int(rng.integers(self.seen))) < self.capacity:
            self.kept[place] = cluster


class AnchorPool:
    """Unlabelled clusters for training and, apart from them, for the gate."""

    def __init__(self, base: AniEnsemble, capacity: int) -> None:
        self._base = base
        self.training = Reservoir(capacity, [])
        self.held_out = Reservoir(HELD_OUT_FRAMES if capacity > 0 else 0, [])
        self.offered = 0
        self._prepared: dict[int, tuple[Cluster, Anchor]] = {}

    def offer(self, cluster: Cluster, rng: np.random.Generator) -> None:
        """Consider one more unlabelled cluster."""
        self.offered += 1
        pool = self.held_out if self.offered % HELD_OUT_EVERY == 0 else self.training
        pool.offer(cluster, rng)

    def anchors(self) -> list[Anchor]:
        """The training anchors, features and the starting model's forces computed once each."""
        kept = {id(cluster): cluster for cluster in self.training.kept}
        self._prepared = {key: value for key, value in self._prepared.items() if key in kept}
        for key, cluster in kept.items():
            if key not in self._prepared:
                features = featurise(self._base, cluster.numbers, cluster.positions)
                self._prepared[key] = (cluster, make_anchor(self._base, features))
        return [self._prepared[key][1] for key in kept]
