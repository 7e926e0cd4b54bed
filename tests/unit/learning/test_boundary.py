"""What atoms at the boundary of a label count: what they are given; with weights of one all is as before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qmml_md.config import Learning
from qmml_md.ensemble import weights
from qmml_md.learning.block import bare_networks, used_columns
from qmml_md.learning.boundary import atom_weights, counted_rmse, simulated, weighted_largest, weighted_rmse
from qmml_md.learning.evidence import Evidence, pooled_rmse, record_of
from qmml_md.learning.features import featurise
from qmml_md.learning.finetune import finetune, residuals
from qmml_md.learning.gate import cluster_forces, judge
from qmml_md.learning.images import make_anchor, make_image
from qmml_md.learning.loss import label_targets, loss_on
from qmml_md.records.rows import LabelRow

#: Ethanol: the first five atoms stand for a core that sees everything, the other four for the boundary.
COMPLETE = np.array([True] * 5 + [False] * 4)


def with_complete(label, complete):
    """The label, with what is known of completeness."""
    return replace(label, cluster=replace(label.cluster, complete=complete))


def with_garbage(label, where):
    """The label with forces of 3 eV/Å added to some atoms."""
    return replace(label, forces=label.forces + 3.0 * where[:, None])


@pytest.fixture
def trained(mini, frames, label_of):
    """Trains on two labels of ethanol, with or without garbage on the boundary."""

    def train(boundary_weight: float, *, garbage: bool = False, complete=COMPLETE, energy_weight: float = 0.0):
        labels = [label_of(atoms, str(i)) for i, atoms in enumerate(frames[:2])]
        labels = [with_garbage(label, ~COMPLETE) if garbage else label for label in labels]
        labels = [with_complete(label, complete) for label in labels]
        images = [make_image(mini, label, boundary_weight=boundary_weight) for label in labels]
        anchors = [make_anchor(mini, featurise(mini, a.numbers, a.positions)) for a in frames[10:14]]
        settings = Learning(max_epochs=5, energy_weight=energy_weight)
        return finetune(mini, images, anchors, settings, np.random.default_rng(1))

    return train


def identity(ensemble) -> str:
    """Of the weights, to the bit."""
    return weights.serialise(ensemble)[1]


def test_a_weight_of_zero_ignores_garbage_on_the_boundary(trained) -> None:
    clean, dirty = trained(0.0), trained(0.0, garbage=True)
    assert identity(clean.ensemble) == identity(dirty.ensemble)
    assert clean.curve == dirty.curve
    # Sabotage: with any weight on the boundary the garbage is learned.
    assert identity(trained(0.1).ensemble) != identity(trained(0.1, garbage=True).ensemble)


@pytest.mark.parametrize("energy_weight", [0.0, 30.0])
def test_weights_of_one_change_no_bit(trained, energy_weight) -> None:
    unknown = trained(0.3, complete=None, energy_weight=energy_weight)
    everything = trained(0.3, complete=np.ones(9, dtype=bool), energy_weight=energy_weight)
    full = trained(1.0, energy_weight=energy_weight)
    assert identity(unknown.ensemble) == identity(everything.ensemble) == identity(full.ensemble)
    assert unknown.curve == everything.curve == full.curve
    # Sabotage: less than one is seen.
    assert identity(trained(0.999, energy_weight=energy_weight).ensemble) != identity(full.ensemble)


def test_a_label_that_vouches_for_nothing_teaches_nothing(mini, trained, frames, label_of) -> None:
    none = np.zeros(9, dtype=bool)
    fit = trained(0.0, complete=none)
    assert (fit.epochs, fit.converged, fit.curve) == (0, False, ())
    assert identity(fit.ensemble) == identity(mini)
    # Beside a label that counts it is as if it were not there.
    labels = [label_of(atoms, str(i)) for i, atoms in enumerate(frames[:2])]
    empty = make_image(mini, with_complete(labels[1], none), boundary_weight=0.0)
    known = make_image(mini, labels[0])
    alone, beside = (
        finetune(mini, images, [], Learning(max_epochs=3), np.random.default_rng(0), weights=np.ones((k, n)))
        for images, k, n in (([known], mini.members, 1), ([empty, known], mini.members, 2))
    )
    assert identity(alone.ensemble) == identity(beside.ensemble)


def test_equal_weights_scale_the_whole_label(mini, frames, label_of) -> None:
    # A label all of whose atoms count a quarter is a quarter of a label, energy and all: exact, a power of two.
    label = with_complete(label_of(frames[0], "a"), np.zeros(9, dtype=bool))

    def loss(weight: float, energy: float) -> float:
        image = make_image(mini, label, boundary_weight=weight)
        columns = used_columns([image.features.aev])
        targets = replace(label_targets([image], columns, None, mini.members), energy=torch.tensor([energy]))
        networks = bare_networks(mini, torch.unique(image.features.elements).tolist(), columns)
        return float(loss_on(networks, targets, [0], torch.ones(1), 30.0).detach())

    assert loss(0.25, 0.25) == 0.25 * loss(1.0, 1.0) > 0.0
    # Sabotage: an energy that counts in full beside forces that count a quarter.
    assert loss(0.25, 1.0) > 1.01 * loss(0.25, 0.25)


def test_errors_are_means_over_what_counts(mini, frames, label_of) -> None:
    label = with_complete(label_of(frames[0], "a"), COMPLETE)
    image, full = make_image(mini, label, boundary_weight=0.0), make_image(mini, label)
    rmse, worst = residuals(mini, [image])
    wrong = featured_error(mini, label)
    assert rmse == pytest.approx(np.sqrt(np.mean(wrong[COMPLETE] ** 2)), rel=1e-6)
    assert worst == pytest.approx(np.abs(wrong[COMPLETE]).max(), rel=1e-6)
    assert residuals(mini, [full])[0] == pytest.approx(np.sqrt(np.mean(wrong**2)), rel=1e-6)


def featured_error(ensemble, label):
    """Force residual of the mean by the route of training, eV/Å."""
    return cluster_forces(ensemble, label.cluster) - label.forces


def test_link_atoms_and_incomplete_atoms_count_less(cluster_of, frames) -> None:
    # The cap is said to be complete by mistake: it counts as boundary all the same.
    capped = replace(cluster_of(frames[0]), complete=np.ones(9, dtype=bool), links=np.array([[8, 0]]))
    assert atom_weights(capped, 0.25).tolist() == [1.0] * 8 + [0.25]
    assert simulated(capped).tolist() == [True] * 8 + [False]
    assert atom_weights(replace(capped, complete=None), 0.25).tolist() == [1.0] * 9


def test_weighted_errors() -> None:
    rng = np.random.default_rng(0)
    wrong = [rng.normal(size=(4, 3)), rng.normal(size=(2, 3))]
    one = [np.ones(4), np.ones(2)]
    assert weighted_rmse(wrong, one) == pooled_rmse(wrong)
    some = [np.array([1.0, 0.0, 0.25, 1.0]), np.zeros(2)]
    assert weighted_rmse(wrong, some) == pytest.approx(np.sqrt((some[0] @ (wrong[0] ** 2).sum(1)) / (3 * 2.25)))
    assert weighted_largest(wrong, some) == pytest.approx(np.abs(wrong[0] * np.sqrt(some[0])[:, None]).max())
    for found in (weighted_rmse, weighted_largest):
        assert np.isnan(found([], []))
        assert np.isnan(found(wrong[1:], [np.zeros(2)]))
    assert counted_rmse(wrong[1], np.zeros(2)) is None


def test_the_gate_judges_by_what_counts(mini, frames, label_of) -> None:
    labels = [with_complete(label_of(atoms, str(i)), COMPLETE) for i, atoms in enumerate(frames[:2])]
    dirty = [with_garbage(label, ~COMPLETE) for label in labels]
    clean, spoiled, seen = (
        judge(mini, mini, mini, Evidence(labels=each, held_out=apart), Learning(boundary_weight=b, keep_known=False))
        for each, apart, b in ((labels[:1], labels[1:], 0.0), (dirty[:1], dirty[1:], 0.0), (dirty[:1], dirty[1:], 0.1))
    )
    for name in ("force_rmse", "force_maxresid", "held_out_start", "held_out_after"):
        assert getattr(clean, name) == getattr(spoiled, name)
        # Sabotage: a tenth of the weight and the garbage is seen.
        assert getattr(seen, name) > 1.2 * getattr(clean, name)


def test_the_gate_says_that_no_atom_counts(mini, frames, label_of) -> None:
    none = np.zeros(9, dtype=bool)
    labels = [with_complete(label_of(atoms, str(i)), none) for i, atoms in enumerate(frames[:2])]
    evidence = Evidence(labels=labels[:1], held_out=labels[1:])
    verdict = judge(mini, mini, mini, evidence, Learning(boundary_weight=0.0, keep_known=False))
    assert not verdict.accepted
    assert any("no atom of the labels counts" in reason for reason in verdict.reasons)
    # A held-out label that says nothing is no evidence.
    assert any("no held-out label yet" in note for note in verdict.notes)
    assert np.isfinite(judge(mini, mini, mini, evidence, Learning(keep_known=False)).held_out_after)


def row(key: str, **data) -> LabelRow:
    """A scored label."""
    return LabelRow(key=key, step=0, model="later", region_epoch=0, data=data)


def test_the_record_counts_atoms_as_training_does() -> None:
    plain = {"force_rmse": 0.2, "force_rmse_start": 0.3, "shadow": None}
    weighted = {"weighted_force_rmse": 0.02, "weighted_force_rmse_start": 0.03}
    shadow = {"force_rmse": 0.4, "weighted_force_rmse": 0.04}
    rows = [
        row("old", **plain),
        row("new", **plain, **weighted),
        row("refused", **plain | weighted | {"shadow": shadow}),
        row("silent", **plain, weighted_force_rmse=None, weighted_force_rmse_start=None),
    ]
    found = [(r.key, r.force_rmse, r.force_rmse_start) for r in record_of(rows, "first")]
    assert found == [("old", 0.2, 0.3), ("new", 0.02, 0.03), ("refused", 0.04, 0.03)]
