"""A fixed set of small molecules: what the weights knew before any run, kept in view while they learn.

Labels of one system say nothing about other molecules, so nothing in them stops the networks from forgetting those.
Half of the set may be trained on as anchors (``anchor_set``), the other half is never trained on and is what the gate
looks at (``probe_set``). Each molecule stands at its equilibrium and distorted. The data file says where the geometries
come from.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from ..ensemble.card import EnsembleCard
from ..region.cluster import Cluster, lone_cluster

DATA_FILE = "base_set.json"


def anchor_set(card: EnsembleCard) -> tuple[Cluster, ...]:
    """The half that may be trained on: every second molecule that the weights know, at both geometries."""
    return _half(card, 0)


def probe_set(card: EnsembleCard) -> tuple[Cluster, ...]:
    """The half that no training ever sees, at both geometries."""
    return _half(card, 1)


def _half(card: EnsembleCard, which: int) -> tuple[Cluster, ...]:
    known = [m for m in _molecules() if set(m["numbers"]) <= set(card.numbers)]
    chosen = known[which::2]
    return tuple(
        lone_cluster(np.array(m["numbers"]), np.array(m[shape]))
        for m in chosen
        for shape in ("equilibrium", "distorted")
    )


@cache
def _molecules() -> tuple[dict[str, Any], ...]:
    text = resources.files(__package__).joinpath(DATA_FILE).read_text(encoding="utf-8")
    return tuple(json.loads(text)["molecules"])
