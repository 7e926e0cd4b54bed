"""Cached features: the Jacobian is the derivative of the descriptor, and forces from it are forces."""

import time

import numpy as np
import torch

from qmml_md.ensemble.disagreement import member_forces
from qmml_md.ensemble.model import element_indices
from qmml_md.learning.features import Features, featurise, member_energies_and_forces
from qmml_md.units import EV_PER_HARTREE


def test_jacobian_is_the_derivative(mini, frames) -> None:
    # Central differences with h = 1e-4 Å: h²/6 · |∂³G| ≲ 1e-8 · 1e3 / 6 = 2e-6.
    atoms, step = frames[5], 1e-4
    features = featurise(mini, atoms.numbers, atoms.positions)
    elements = element_indices(mini.card, atoms.numbers)
    width = features.aev.shape[1]
    jacobian = features.jacobian.reshape(len(atoms), width, len(atoms), 3)
    for atom, axis in ((0, 0), (4, 2), (8, 1)):
        ends = []
        for sign in (1.0, -1.0):
            moved = torch.tensor(atoms.positions)
            moved[atom, axis] += sign * step
            ends.append(mini.features(elements, moved, None).detach())
        numeric = (ends[0] - ends[1]) / (2.0 * step)
        assert (jacobian[:, :, atom, axis] - numeric).abs().max() < 2e-6
    assert float(jacobian.abs().max()) > 0.1


def test_member_forces_from_features_are_those_by_backpropagation(mini, frames) -> None:
    atoms = frames[7]
    _, cached = member_energies_and_forces(mini, featurise(mini, atoms.numbers, atoms.positions))
    direct = member_forces(mini, atoms.numbers, atoms.positions * 0.1, None)
    assert np.abs(cached.detach().numpy() * EV_PER_HARTREE - direct).max() < 1e-11


def test_a_wrong_jacobian_is_noticed(mini, frames) -> None:
    # Sabotage: one sign flipped in the Jacobian must break the equality of the test above.
    atoms = frames[7]
    good = featurise(mini, atoms.numbers, atoms.positions)
    jacobian = good.jacobian.clone()
    jacobian[:, 4] *= -1.0
    bad = Features(elements=good.elements, aev=good.aev, jacobian=jacobian)
    _, cached = member_energies_and_forces(mini, bad)
    direct = member_forces(mini, atoms.numbers, atoms.positions * 0.1, None)
    assert np.abs(cached.detach().numpy() * EV_PER_HARTREE - direct).max() > 1e-3


def test_features_do_not_depend_on_weights(mini, frames) -> None:
    atoms = frames[0]
    before = featurise(mini, atoms.numbers, atoms.positions)
    for parameter in mini.networks.parameters():
        parameter.data.mul_(2.0)
    after = featurise(mini, atoms.numbers, atoms.positions)
    assert torch.equal(before.aev, after.aev)
    assert torch.equal(before.jacobian, after.jacobian)


def test_analytic_jacobian_is_cheap(ani1x, frames) -> None:
    # A law of scale, not of the clock: it must beat the naive Jacobian (one backward pass for each of 9 · 384 outputs).
    atoms = frames[0]
    featurise(ani1x, atoms.numbers, atoms.positions)
    began = time.perf_counter()
    featurise(ani1x, atoms.numbers, atoms.positions)
    ours = time.perf_counter() - began
    elements = element_indices(ani1x.card, atoms.numbers)
    x = torch.tensor(atoms.positions, requires_grad=True)
    flat = ani1x.features(elements, x, None).flatten()
    began = time.perf_counter()
    for i in range(0, len(flat), 16):
        torch.autograd.grad(flat[i], x, retain_graph=True)
    naive = 16 * (time.perf_counter() - began)
    assert ours < naive / 5
