"""The ensemble: forces are gradients, members are what TorchANI says they are, rounding stays small."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from qmml_md.ensemble import weights
from qmml_md.ensemble.disagreement import disagreement, member_forces
from qmml_md.ensemble.model import activation, evaluate, self_energy_hartree
from qmml_md.errors import ElementError
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_HARTREE, EV_PER_KJ_PER_MOL

DATA = Path(__file__).parents[2] / "data"
MINI = str(DATA / "ani_mini.safetensors")


@pytest.fixture(scope="module")
def ethanol():
    return ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", 3)


def central_differences(ensemble, numbers, positions, box, step_nm: float) -> np.ndarray:
    """Forces of the first two atoms by central differences, kJ/mol/nm."""
    out = np.zeros((2, 3))
    for atom in range(2):
        for axis in range(3):
            ends = []
            for sign in (1.0, -1.0):
                moved = positions.copy()
                moved[atom, axis] += sign * step_nm
                ends.append(evaluate(ensemble, numbers, moved, box).energy)
            out[atom, axis] = -(ends[0] - ends[1]) / (2.0 * step_nm)
    return out


@pytest.mark.parametrize("periodic", [False, True])
def test_forces_are_gradients(ethanol, periodic: bool) -> None:
    # Central differences err by h²/6 · |∂³E| ≈ (1e-5)²/6 · 1e9 ≈ 2e-2 kJ/mol/nm at most, and by the rounding of a
    # float64 energy of 4e3 kJ/mol, 1e-12 / 1e-5 = 1e-7. Forces are some 1e3 kJ/mol/nm.
    ensemble = weights.load(MINI, "double")
    box = np.diag([1.1, 1.2, 1.3]) if periodic else None
    positions = ethanol.positions * 0.1
    exact = evaluate(ensemble, ethanol.numbers, positions, box).forces[:2]
    numeric = central_differences(ensemble, ethanol.numbers, positions, box, 1e-5)
    assert np.abs(exact - numeric).max() < 2e-2
    # Sabotage: forces that are one per cent too large must not pass.
    assert np.abs(1.01 * exact - numeric).max() > 2e-2


def test_agrees_with_torchani_as_published(ethanol) -> None:
    # The same eight networks through TorchANI's own loops; float32 on both sides.
    from torchani.nn import AtomicNetwork, TightCELU

    ensemble = weights.load("ani1x")
    elements = torch.tensor([{"H": 0, "C": 1, "O": 3}[s] for s in ethanol.get_chemical_symbols()])
    x = torch.tensor(ethanol.positions)
    features = ensemble.features(elements, x, None).detach()
    ours = ensemble.atomic_energies(elements, features.unsqueeze(0)).detach()
    stacked = weights.tensors_of(ensemble)
    for k in (0, 7):
        for index, symbol in enumerate(ensemble.card.symbols):
            layers = sorted({int(key.split(".")[1]) for key in stacked if key.startswith(symbol + ".")})
            sizes = [
                stacked[f"{symbol}.0.weight"].shape[1],
                *(stacked[f"{symbol}.{i}.weight"].shape[2] for i in layers),
            ]
            network = AtomicNetwork(sizes, activation=TightCELU(), bias=True)
            for i, layer in zip(layers, [*network.layers, network.final_layer], strict=True):
                layer.weight.data = stacked[f"{symbol}.{i}.weight"][k].T.contiguous()
                layer.bias.data = stacked[f"{symbol}.{i}.bias"][k, 0]
            atoms = (elements == index).nonzero().flatten()
            if len(atoms):
                theirs = network(features[atoms]).squeeze(-1).detach()
                assert torch.allclose(ours[k, atoms], theirs, atol=2e-6)


def test_reproduces_the_level_it_was_trained_at(ethanol) -> None:
    # Measured for ethanol: within 1 meV/atom and about 0.05 eV/Å of ωB97X/6-31G(d) with Cartesian d functions.
    ensemble = weights.load("ani1x")
    out = evaluate(ensemble, ethanol.numbers, ethanol.positions * 0.1, None)
    total = out.energy * EV_PER_KJ_PER_MOL + self_energy_hartree(ensemble.card, ethanol.numbers) * EV_PER_HARTREE
    assert abs(total - ethanol.get_potential_energy()) / len(ethanol) < 0.005
    wrong = out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM - ethanol.get_forces()
    assert np.sqrt((wrong**2).mean()) < 0.1


def test_single_precision_stays_near_double(ethanol) -> None:
    positions = ethanol.positions * 0.1
    single = evaluate(weights.load("ani1x"), ethanol.numbers, positions, None)
    double = evaluate(weights.load("ani1x", "double"), ethanol.numbers, positions, None)
    # Nine atomic energies of up to 300 kJ/mol that cancel to 46, each the end of four float32 layers:
    # 9 · 300 · 2⁻²³ · 4 = 1.3e-3 kJ/mol.
    assert abs(single.energy - double.energy) < 1.3e-3
    assert np.abs(single.forces - double.forces).max() * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM < 1e-4


def test_mean_of_member_forces_is_the_force(ethanol) -> None:
    ensemble = weights.load(MINI, "double")
    positions = ethanol.positions * 0.1
    members = member_forces(ensemble, ethanol.numbers, positions, None)
    force = evaluate(ensemble, ethanol.numbers, positions, None).forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
    assert members.shape == (4, 9, 3)
    assert np.abs(members.mean(0) - force).max() < 1e-10


def test_disagreement_is_the_population_norm() -> None:
    forces = np.array([[[1.0, 0.0, 0.0]], [[-1.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]], [[0.0, -2.0, 0.0]]])
    # mean 0; squared norms 1, 1, 4, 4: σ = sqrt(10/4).
    assert disagreement(forces) == pytest.approx(np.sqrt(2.5))


def test_equal_members_do_not_disagree(ethanol) -> None:
    ensemble = weights.load(MINI)
    for parameter in ensemble.parameters():
        parameter.data.copy_(parameter.data[:1].expand_as(parameter.data).clone())
    sigma = disagreement(member_forces(ensemble, ethanol.numbers, ethanol.positions * 0.1, None))
    assert sigma.max() < 1e-5


def test_unknown_element_is_named() -> None:
    with pytest.raises(ElementError, match=r"\[17\].*\n.*Cure"):
        evaluate(weights.load(MINI), np.array([1, 17]), np.eye(2, 3) * 0.13, None)


def test_small_box_counts_every_image_once() -> None:
    # One atom in a box of edge L < cutoff sees its images; doubling the box along one axis with two atoms is the same
    # crystal, so the energy doubles. This fails when a cell list with too few cells counts pairs twice.
    ensemble = weights.load(MINI, "double")
    one = evaluate(ensemble, np.array([6]), np.array([[0.05, 0.05, 0.05]]), np.eye(3) * 0.3)
    positions = np.array([[0.05, 0.05, 0.05], [0.35, 0.05, 0.05]])
    two = evaluate(ensemble, np.array([6, 6]), positions, np.diag([0.6, 0.3, 0.3]))
    assert two.energy == pytest.approx(2.0 * one.energy, rel=1e-12)


def test_the_derivative_of_the_activation_is_exact_in_double_precision() -> None:
    x = torch.linspace(-1.0, 1.0, 401, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activation(x).sum(), x)
    exact = torch.where(x < 0, torch.exp(x / 0.1), torch.ones_like(x)).detach()
    # A few units in the last place: exp() of arguments up to ten, 10 · 2e-16.
    assert float((slope - exact).abs().max()) < 1e-14
    # Sabotage: torch's own CELU rounds α to single precision in its derivative.
    (wrong,) = torch.autograd.grad(torch.nn.functional.celu(x, alpha=0.1).sum(), x)
    assert float((wrong - exact).abs().max()) > 1e-10


def test_the_activation_is_celu() -> None:
    x = torch.linspace(-1.0, 1.0, 401, dtype=torch.float64)
    assert torch.allclose(activation(x), torch.nn.functional.celu(x, alpha=0.1), rtol=0, atol=1e-15)
    assert torch.equal(activation(x.float()), torch.nn.functional.celu(x.float(), alpha=0.1))
