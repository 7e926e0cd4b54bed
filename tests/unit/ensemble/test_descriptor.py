"""The written-out descriptor and its derivative are TorchANI's and what automatic differentiation gives."""

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from qmml_md.ensemble import descriptor, weights
from qmml_md.ensemble.descriptor import Descriptor
from qmml_md.ensemble.model import AniEnsemble, build_aev, element_indices
from qmml_md.ensemble.narrow import atomic_energies
from qmml_md.ensemble.weights import build, tensors_of

DATA = Path(__file__).parents[2] / "data"
MINI = str(DATA / "ani_mini.safetensors")

#: Sums of some hundred terms of order one: a hundred roundings of the precision, the powers' ζ = 14 to 32 among them.
ROUNDING = {"single": 3e-5, "double": 1e-13}


def smooth(precision):
    """The tiny ensemble with TorchANI's smooth cutoff."""
    model = weights.load(MINI)
    return build(replace(model.card, cutoff_function="smooth"), tensors_of(model), precision)


def molecule(name):
    atoms = ase.io.read(DATA / "quantum" / name, 5)
    return atoms.numbers, atoms.positions


def both(model: AniEnsemble, numbers, positions, cell):
    """Features and gradients for random slopes: by TorchANI and autograd, and written out."""
    elements = element_indices(model.card, numbers)
    x = torch.tensor(positions, requires_grad=True)
    cell = None if cell is None else torch.tensor(cell)
    features = model.features(elements, x, cell)
    slopes = torch.tensor(np.random.default_rng(7).normal(size=features.shape), dtype=features.dtype)
    (gradient,) = torch.autograd.grad(features, x, slopes)
    found = Descriptor(model, elements, model.neighbors(elements, x.detach(), cell))
    return features.detach(), gradient, found.features(), found.gradient(slopes)


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("kind", ["mini", "smooth", "ani1x"])
@pytest.mark.parametrize("name", ["ethanol_450K_wb97x_631gd.extxyz", "water5_350K_wb97x_631gd.extxyz"])
@pytest.mark.parametrize("side", [None, 10.5, 15.0])
def test_agrees_with_automatic_differentiation(kind, precision, name, side):
    model = smooth(precision) if kind == "smooth" else weights.load(MINI if kind == "mini" else "ani1x", precision)
    numbers, positions = molecule(name)
    features, gradient, written, back = both(model, numbers, positions, None if side is None else np.eye(3) * side)
    assert written.dtype == features.dtype
    assert back.dtype == torch.float64
    assert (written - features).abs().max() <= ROUNDING[precision] * features.abs().max()
    assert (back - gradient).abs().max() <= ROUNDING[precision] * gradient.abs().max()


def test_a_wrong_damping_of_the_cosine_is_told(monkeypatch):
    # Sabotage: the constant that the paper does not have and TorchANI does.
    monkeypatch.setattr(descriptor, "DAMPING", 0.96)
    features, gradient, written, back = both(
        weights.load(MINI, "double"), *molecule("water5_350K_wb97x_631gd.extxyz"), None
    )
    assert (written - features).abs().max() > 1e-3 * features.abs().max()
    assert (back - gradient).abs().max() > 1e-3 * gradient.abs().max()


def test_atoms_far_apart_have_no_features():
    model = weights.load(MINI, "double")
    positions = np.array([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    features, gradient, written, back = both(model, np.array([1, 8]), positions, None)
    assert written.abs().max() == features.abs().max() == 0.0
    assert back.abs().max() == gradient.abs().max() == 0.0


def test_slices_of_triples_join(monkeypatch):
    model = weights.load(MINI, "double")
    numbers, positions = molecule("ethanol_450K_wb97x_631gd.extxyz")
    whole = both(model, numbers, positions, None)
    monkeypatch.setattr(descriptor, "TRIPLES", 7)
    parts = both(model, numbers, positions, None)
    # The same terms in the same order: only where a sum is split does its rounding differ.
    assert torch.allclose(whole[2], parts[2], rtol=1e-13, atol=1e-14)
    assert torch.allclose(whole[3], parts[3], rtol=1e-12, atol=1e-12)


def test_constants_are_those_of_the_card():
    # The module reads TorchANI's buffers: they are the card's.
    card = weights.load(MINI, "double").card
    aev = build_aev(card)
    assert aev.angular.zeta.item() == pytest.approx(card.angular_zeta, rel=1e-7)
    assert aev.radial.shifts.tolist() == pytest.approx(card.radial_shifts, rel=1e-6)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_features_left_out_are_zero_and_energies_stay(precision):
    # A solute far from its solvent: most hydrogens see no carbon, some do.
    numbers, positions = molecule("water5_350K_wb97x_631gd.extxyz")
    solute, place = molecule("ethanol_450K_wb97x_631gd.extxyz")
    numbers, positions = np.concatenate([numbers, solute]), np.concatenate([positions, place + 8.0])
    model = weights.load("ani1x", precision)
    elements = element_indices(model.card, numbers)
    found = Descriptor(model, elements, model.neighbors(elements, torch.tensor(positions), None))
    features, partners = found.features(), found.partners()
    whole = model.atomic_energies(elements, features.unsqueeze(0))
    parts = atomic_energies(model, elements, features, partners)
    assert not partners.all()
    # Atomic energies below 0.3 hartree, rounded some ten times.
    assert (whole - parts).abs().max() <= 3.0 * torch.finfo(features.dtype).eps
    # Sabotage: atoms said to have no oxygen near lose what oxygen does to them.
    blind = partners.clone()
    blind[:, 3] = False
    assert (whole - atomic_energies(model, elements, features, blind)).abs().max() > 1e-3
