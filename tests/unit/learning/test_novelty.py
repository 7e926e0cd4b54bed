"""Novelty: a distance in its own unit, blind to the ensemble, to the order of atoms and to how the molecule lies."""

import time

import numpy as np
import pytest
import torch

from qmml_md.learning.features import Features, featurise
from qmml_md.learning.novelty import KNOWN_SHARE, MOST, SHRINKAGE, make_novelty


@pytest.fixture(scope="module")
def seen(ani1x, frames):
    """Features of ethanol, every sixth frame of the fine series."""
    return [featurise(ani1x, atoms.numbers, atoms.positions) for atoms in frames[::6]]


def brute_unit(seen, element):
    """The unit of distance of one element from its definition, with loops."""
    aev = [f.aev[f.elements == element].double() for f in seen]
    width = torch.cat(aev).std(0, correction=0)
    weight = 1.0 / (width + SHRINKAGE * width.max())
    nearest = [
        min(float(((atom - other) * weight).norm()) for k, others in enumerate(aev) if k != label for other in others)
        for label, atoms in enumerate(aev)
        for atom in atoms
    ]
    return float(np.quantile(nearest, KNOWN_SHARE))


def test_what_was_trained_on_is_not_new(seen):
    # Distances come from products of matrices in double precision: 1e-16 of squared lengths of 1e3, under a root.
    assert make_novelty(seen).score(seen[2]) == pytest.approx(np.zeros(9), abs=1e-5)


def test_unit_is_what_labels_keep_among_themselves(seen):
    known = make_novelty(seen).known
    for element in (0, 1, 3):
        assert known[element].unit == pytest.approx(brute_unit(seen, element), rel=1e-6)


def test_neighbours_in_time_are_known_and_torn_molecules_are_not(ani1x, frames, seen):
    novelty = make_novelty(seen)
    near = novelty.score(featurise(ani1x, frames[1].numbers, frames[1].positions))
    torn = frames[1].positions.copy()
    torn[2] += 0.6 * (torn[2] - torn[1])
    far = novelty.score(featurise(ani1x, frames[1].numbers, torn))
    assert near.max() < 1.0
    # Oxygen, six tenths of a bond away from its carbon.
    assert far[2] > 3.0


def test_order_and_orientation_do_not_matter(ani1x, frames, seen):
    novelty = make_novelty(seen)
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    order = np.random.default_rng(4).permutation(9)
    first = novelty.score(featurise(ani1x, frames[3].numbers, frames[3].positions))
    second = novelty.score(featurise(ani1x, frames[3].numbers[order], (frames[3].positions @ turned)[order]))
    # Descriptors are in single precision, 1e-7 of terms of order 1, divided by widths of order 1e-2.
    assert second == pytest.approx(first[order], abs=1e-3)
    assert second != pytest.approx(first, abs=1e-3)


def test_too_few_labels_have_no_unit(seen):
    for known in ([], seen[:1]):
        assert (make_novelty(known).score(seen[1]) == 1.0).all()


def test_an_element_that_no_label_holds_is_as_new_as_can_be(seen):
    oxygen = int(seen[0].elements[2])
    without = [
        Features(elements=f.elements[f.elements != oxygen], aev=f.aev[f.elements != oxygen], jacobian=f.jacobian)
        for f in seen
    ]
    found = make_novelty(without).score(seen[0])
    assert found[2] == MOST
    assert (found[[0, 1, 3, 4, 5, 6, 7, 8]] < 1e-4).all()


def test_labels_that_are_all_alike_still_have_a_unit(seen):
    found = make_novelty([seen[0], seen[0]]).score(seen[1])
    assert np.isfinite(found).all()
    assert found.max() == MOST


def test_is_cheap():
    # 24 atoms against 50 labels of 24: 5 ms on a quiet core, the best of ten looks; twice that for a busy machine.
    rng = np.random.default_rng(5)
    elements = torch.tensor(np.tile([0, 0, 1, 3], 6))

    def cluster():
        aev = torch.tensor(rng.uniform(size=(24, 384)), dtype=torch.float32)
        return Features(elements=elements, aev=aev, jacobian=torch.zeros(1))

    novelty, new = make_novelty([cluster() for _ in range(50)]), cluster()
    spent = []
    for _ in range(10):
        began = time.process_time()
        novelty.score(new)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.01
