"""Everything that one training sees, by where it came from, and how much each member sees of it.

Bootstrap: each member counts each label ``w ~ Poisson(1)`` times (Efron, Ann. Stat. 7, 1, 1979,
doi:10.1214/aos/1176344552; in the online form of Oza and Russell, AISTATS 2001). Members that all see the same labels
grow alike, and their disagreement stops meaning doubt. A weight depends on the seed and on the label's key alone: it is
the same in every update, after a resume, and whatever else was labelled. Only the first label of a set is seen by every
member, so that none is ever left without labels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..reference.label import Label
from ..region.cluster import Cluster
from ..system.molecules import Floats

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """What one training sees.

    Attributes:
        labels: of this run, in order.
        replayed: labels of earlier runs, from their stores.
        recent: unlabelled clusters of the stretch just run.
        reservoir: a uniform sample of the unlabelled clusters of the whole run.
        base: geometries of the base set.
        seed: of the bootstrap.
    """

    labels: Sequence[Label]
    replayed: Sequence[Label] = field(default=())
    recent: Sequence[Cluster] = field(default=())
    reservoir: Sequence[Cluster] = field(default=())
    base: Sequence[Cluster] = field(default=())
    seed: int = 0

    def trained_on(self) -> tuple[Label, ...]:
        """Replayed labels, then those of this run; each key once."""
        return tuple({label.key: label for label in (*self.replayed, *self.labels)}.values())

    def anchors(self) -> tuple[Cluster, ...]:
        """Clusters on which the members are paid to stay what they were; each once."""
        return tuple({id(c): c for c in (*self.recent, *self.reservoir, *self.base)}.values())

    def weights(self, members: int) -> Floats:
        """Bootstrap weights of ``trained_on``, shape (members, n)."""
        return bootstrap([label.key for label in self.trained_on()], members, self.seed)

    def leaks(self, held_out: Sequence[Label]) -> list[str]:
        """Keys of held-out labels that this training sees as a label, or whose geometry it sees as an anchor."""
        keys = {label.key for label in self.trained_on()}
        shapes = {cluster.geometry for cluster in self.anchors()}
        return [label.key for label in held_out if label.key in keys or label.cluster.geometry in shapes]

    def provenance(self) -> dict[str, Any]:
        """As JSON has it: keys of labels, numbers of the rest."""
        known = {label.key for label in self.replayed}
        return {
            "labels": [label.key for label in self.labels if label.key not in known],
            "replayed": [label.key for label in self.replayed],
            "recent": len(self.recent),
            "reservoir": len(self.reservoir),
            "base": len(self.base),
            "bootstrap_seed": self.seed,
        }


def bootstrap(keys: Sequence[str], members: int, seed: int) -> Floats:
    """Poisson(1) weights, shape (members, n); no label is zero for all members, and no member is without labels.

    Args:
        keys: of the labels, in order.
        members: K.
        seed: of the run.
    """
    weights = np.empty((members, len(keys)))
    for column, key in enumerate(keys):
        digest = hashlib.sha256(f"{seed}|{key}".encode()).digest()
        rng = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
        drawn = rng.poisson(1.0, members)
        while not drawn.any():
            drawn = rng.poisson(1.0, members)
        weights[:, column] = drawn
    if len(keys):
        weights[:, 0] = np.maximum(weights[:, 0], 1.0)
    return weights


def split(triggers: Sequence[Sequence[T]], every: int) -> tuple[list[T], list[T]]:
    """Labels to train on, and labels to hold out: every so many triggers one is held out whole.

    Labels of one trigger lie femtoseconds apart. If some of them were trained on, the others would be no evidence.

    Args:
        triggers: labels of each trigger, in the order of time.
        every: the ``every``-th trigger is held out, and each ``every``-th after it; 0 never.

    Returns:
        Both lists in the order of time.
    """
    train: list[T] = []
    apart: list[T] = []
    for number, labels in enumerate(triggers, start=1):
        (apart if held_out(number, every) else train).extend(labels)
    return train, apart


def held_out(number: int, every: int) -> bool:
    """Whether the trigger of this number, counted from 1, is held out."""
    return every > 0 and number % every == 0
