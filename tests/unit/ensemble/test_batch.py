"""Batches of frames and models say what single evaluations say."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from qmml_md.ensemble import batch, weights
from qmml_md.ensemble.batch import BATCH_ATOMS, evaluate_models
from qmml_md.ensemble.descriptor import Descriptor
from qmml_md.ensemble.model import evaluate
from qmml_md.ensemble.weights import build, tensors_of
from qmml_md.units import KJ_PER_MOL_PER_HARTREE

DATA = Path(__file__).parents[2] / "data"
MINI = str(DATA / "ani_mini.safetensors")

#: Relative to the largest force: sums of some 60 terms of single (double) precision in another order.
ROUNDING = {"single": 1e-5, "double": 1e-13}

EPSILON = {"single": float(np.finfo(np.float32).eps), "double": float(np.finfo(np.float64).eps)}


def moved(model, seed, precision):
    """Another version of the same ensemble, as training would make it."""
    rng = np.random.default_rng(seed)
    tensors = {key: t * (1.0 + 0.01 * float(rng.normal())) for key, t in tensors_of(model).items()}
    return build(model.card, tensors, precision)


@pytest.fixture(params=["single", "double"])
def precision(request):
    return request.param


@pytest.fixture
def models(precision):
    first = weights.load(MINI, precision)
    return [first, moved(first, 1, precision), moved(first, 2, precision)]


def frames(name, count):
    atoms = ase.io.read(DATA / "quantum" / name, f":{count}")
    return atoms[0].numbers, np.array([a.positions for a in atoms]) * 0.1


def compare(models, numbers, positions, boxes, precision, slack_force=0.0):
    outputs = evaluate_models(models, numbers, positions, boxes)
    energies = evaluate_models(models, numbers, positions, boxes, forces=False)
    assert len(outputs) == len(energies) == len(models)
    for model, out, without in zip(models, outputs, energies, strict=True):
        assert without.forces is None
        for i, x in enumerate(positions):
            single = evaluate(model, numbers, x, None if boxes is None else boxes[i])
            scale = np.abs(single.forces).max()
            assert np.abs(out.forces[i] - single.forces).max() <= ROUNDING[precision] * scale + slack_force
            # An energy is a sum of n atomic ones of either sign, each below 0.1 hartree and rounded some ten times.
            slack = 10.0 * EPSILON[precision] * len(numbers) * 0.1 * KJ_PER_MOL_PER_HARTREE
            assert out.energy[i] == pytest.approx(single.energy, abs=slack)
            assert without.energy[i] == pytest.approx(single.energy, abs=slack)


def test_frames_in_vacuum_agree_with_single_evaluations(models, precision):
    # More frames than one batch holds.
    numbers, positions = frames("ethanol_450K_wb97x_631gd.extxyz", 90)
    assert len(positions) * len(numbers) > BATCH_ATOMS
    compare(models, numbers, positions, None, precision)


OBLIQUE = np.array([[1.0, 0.0, 0.0], [0.45, 1.05, 0.0], [-0.4, 0.45, 1.1]])


@pytest.mark.parametrize("most", [0, 1500])
@pytest.mark.parametrize("shape", [1.1 * np.eye(3), 1.5 * np.eye(3), 1.1 * OBLIQUE, 0.8 * np.eye(3)])
def test_periodic_frames_agree_with_single_evaluations(models, precision, shape, most, monkeypatch):
    # Boxes below three cells of 0.45 nm and above, oblique, and narrower than two cutoffs, where an atom has several
    # images of another; with all pairs tried here or not. Each frame has a box of its own, atoms lie in several images.
    monkeypatch.setattr(batch, "PAIRS_PAY_TO_ATOMS", most)
    numbers, positions = frames("water5_350K_wb97x_631gd.extxyz", 4)
    boxes = np.array([shape * (1.0 + 0.01 * i) for i in range(4)])
    away = np.random.default_rng(3).integers(-2, 3, size=(len(numbers), 3))
    wrapped = np.array([x + 0.3 + away @ box for x, box in zip(positions, boxes, strict=True)])
    # A coordinate of 3 nm rounds by 4e-16 nm; with force constants of up to 1e6 kJ/mol/nm² that moves forces by 4e-10.
    compare(models, numbers, wrapped, boxes, precision, slack_force=1e-9)


def test_a_narrow_box_is_not_taken_for_a_wide_one():
    assert batch._wide(torch.tensor(0.91 * np.eye(3)[None]), 0.45)
    assert not batch._wide(torch.tensor(0.89 * np.eye(3)[None]), 0.45)
    # The vectors are long enough, the box is not wide enough.
    flat = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    assert not batch._wide(torch.tensor(flat[None]), 0.45)


def test_models_of_other_descriptors_are_evaluated_apart(models, precision):
    other = weights.load("ani1x", precision)
    numbers, positions = frames("ethanol_450K_wb97x_631gd.extxyz", 3)
    compare([models[0], other, models[1]], numbers, positions, None, precision)


def test_one_neighbour_list_and_one_descriptor_serve_all_models(models, monkeypatch):
    numbers, positions = frames("ethanol_450K_wb97x_631gd.extxyz", 5)
    calls = []
    monkeypatch.setattr(batch, "Descriptor", lambda *args, **options: calls.append(1) or Descriptor(*args, **options))
    evaluate_models(models, numbers, positions, None)
    assert len(calls) == 1


def test_no_frames_give_empty_outputs(models):
    numbers, positions = frames("ethanol_450K_wb97x_631gd.extxyz", 1)
    (out, *_) = evaluate_models(models, numbers, positions[:0], None)
    assert out.energy.shape == (0,)
    assert out.forces.shape == (0, 9, 3)


def test_mixed_up_frames_are_told(models, precision):
    # Sabotage: a frame in the place of another is far beyond rounding.
    numbers, positions = frames("ethanol_450K_wb97x_631gd.extxyz", 3)
    (out,) = evaluate_models(models[:1], numbers, positions[[1, 0, 2]], None)
    single = evaluate(models[0], numbers, positions[0], None)
    assert np.abs(out.forces[0] - single.forces).max() > 1e3 * ROUNDING[precision] * np.abs(single.forces).max()
    assert abs(out.energy[0] - single.energy) > 0.1
