"""The base set: small molecules, the same for ever, half to train on and half to look at."""

import numpy as np
import pytest
from ase.collections import g2

from qmml_md.learning import base_set
from qmml_md.learning.base_set import anchor_set, probe_set


def formulas(clusters) -> set[tuple[int, ...]]:
    return {tuple(np.sort(c.numbers)) for c in clusters}


def test_halves_are_disjoint_and_known_to_the_weights(ani1x) -> None:
    training, probes = anchor_set(ani1x.card), probe_set(ani1x.card)
    assert len(training) == len(probes) == 60
    shapes = {c.positions.tobytes() for c in training} & {c.positions.tobytes() for c in probes}
    assert shapes == set()
    for cluster in (*training, *probes):
        assert set(cluster.numbers.tolist()) <= set(ani1x.card.numbers)
        assert cluster.numbers.sum() % 2 == 0


def test_every_element_of_the_weights_is_looked_at(ani1x) -> None:
    assert set(np.concatenate([c.numbers for c in probe_set(ani1x.card)]).tolist()) == set(ani1x.card.numbers)


def test_geometries_are_those_of_the_named_source() -> None:
    # Coordinates are rounded to 1e-4 Å; the distortion has a standard deviation of 0.06 Å by coordinate.
    drawn = []
    for row in base_set._molecules():
        assert g2[row["name"]].numbers.tolist() == row["numbers"]
        assert np.abs(g2[row["name"]].positions - row["equilibrium"]).max() <= 0.5001e-4
        drawn.append((np.array(row["distorted"]) - row["equilibrium"]).ravel())
    # 1962 coordinates: the standard error of the deviation is 1.6 % of it; four of these.
    assert np.concatenate(drawn).std() == pytest.approx(0.06, rel=0.064)
