"""The gate accepts what is better where it was labelled and unchanged elsewhere, and says why it refuses."""

import numpy as np

from qmml_md.config import Learning
from qmml_md.learning.anchors import HELD_OUT_EVERY, AnchorPool
from qmml_md.learning.finetune import Fit, finetune, make_image
from qmml_md.learning.gate import anchor_shift, cluster_forces, judge


def trained(ensemble, labels) -> Fit:
    """Trained on labels without anchors."""
    images = [make_image(ensemble, label) for label in labels]
    return finetune(ensemble, images, [], Learning(anchor_weight=0.0), np.random.default_rng(0))


def test_accepts_a_model_within_tolerance(ani1x, frames, label_of) -> None:
    labels = [label_of(frames[0], "a")]
    verdict = judge(trained(ani1x, labels).ensemble, ani1x, labels, [], Learning())
    assert verdict.accepted
    assert verdict.reasons == ()
    assert verdict.force_rmse <= 0.005
    assert np.isnan(verdict.anchor_shift)


def test_refuses_a_model_that_did_not_learn(ani1x, frames, label_of, cluster_of) -> None:
    verdict = judge(ani1x, ani1x, [label_of(frames[0], "a")], [cluster_of(frames[3])], Learning())
    assert not verdict.accepted
    assert "force RMSE" in verdict.reasons[0]
    assert verdict.anchor_shift == 0.0


def test_refuses_a_model_that_moved_elsewhere(ani1x, frames, hot, label_of, cluster_of) -> None:
    labels = [label_of(frames[0], "a")]
    candidate = trained(ani1x, labels).ensemble
    held_out = [cluster_of(atoms) for atoms in hot[::8]]
    shift = anchor_shift(candidate, ani1x, held_out)
    verdict = judge(candidate, ani1x, labels, held_out, Learning(max_anchor_shift_eV_per_A=shift / 2))
    assert not verdict.accepted
    assert "held-out unlabelled clusters" in verdict.reasons[-1]
    assert judge(candidate, ani1x, labels, held_out, Learning(max_anchor_shift_eV_per_A=2 * shift)).accepted


def test_measures_what_the_label_says(ani1x, frames, label_of) -> None:
    label = label_of(frames[4], "a")
    verdict = judge(ani1x, ani1x, [label], [], Learning())
    wrong = cluster_forces(ani1x, label.cluster) - label.forces
    assert verdict.force_rmse == np.sqrt((wrong**2).mean())
    assert verdict.force_maxresid == np.abs(wrong).max()


def test_pool_keeps_training_and_gate_apart(mini, frames, cluster_of) -> None:
    pool, rng = AnchorPool(mini, 5), np.random.default_rng(2)
    clusters = [cluster_of(atoms) for atoms in frames]
    for cluster in clusters:
        pool.offer(cluster, rng)
    training, held_out = {id(c) for c in pool.training.kept}, {id(c) for c in pool.held_out.kept}
    assert not training & held_out
    assert len(training) == 5
    assert len(held_out) == len(clusters) // HELD_OUT_EVERY
    first = pool.anchors()
    again = pool.anchors()
    assert all(a is b for a, b in zip(first, again, strict=True))
