"""Link atoms: where they stand, that the chain rule is exact, and that ghosts are seen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qmml_md.ensemble.model import AniEnsemble, ElementNetworks, evaluate
from qmml_md.ensemble.weights import load
from qmml_md.errors import RegionError
from qmml_md.region.cluster import Cluster, cut_cluster
from qmml_md.region.links import (
    CLOSE_TO_HEAVY_A,
    SINGLE_BONDS_A,
    cut_bonds,
    fold_forces,
    link_ratio,
    place_links,
    unfit_outers,
)  # fmt: skip
from qmml_md.system.fragments import cuttable_bonds, fragments_of
from qmml_md.system.molecules import Molecules, molecules_of
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL

MINI = Path(__file__).parents[2] / "data" / "ani_mini.safetensors"
TOLERANCE = 1e-8

Energy = Callable[[Cluster], float]


@pytest.fixture(scope="module")
def inside(chignolin: Molecules, closed) -> np.ndarray:
    """The middle of chignolin: a stretch of backbone without its side chains."""
    nitrogens = [a.index for a in chignolin.topology.atoms if a.name == "N" and a.residue.index in (3, 4, 5)]
    flags = closed(chignolin, np.isin(np.arange(chignolin.size), nitrogens))
    assert len(cut_bonds(chignolin, flags)) >= 3
    return flags


def capped(molecules: Molecules, positions: np.ndarray, inside: np.ndarray) -> Cluster:
    return cut_cluster(molecules, positions, np.flatnonzero(inside))


def numeric_forces(molecules: Molecules, inside: np.ndarray, atoms: np.ndarray, energy: Energy, h_A: float):
    """Forces on atoms of the simulation, by the five-point rule, eV/Å: errs by h⁴/30 times the fifth derivative."""
    found = np.zeros((len(atoms), 3))
    for row, atom in enumerate(atoms):
        for axis in range(3):
            at = {}
            for k in (-2, -1, 1, 2):
                moved = molecules.positions.copy()
                moved[atom, axis] += 0.1 * k * h_A
                at[k] = energy(capped(molecules, moved, inside))
            found[row, axis] = -(at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h_A)
    return found


def spread(molecules: Molecules, cluster: Cluster, folded: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Folded forces on the atoms of the simulation, eV/Å, shape (n, 3)."""
    found = np.zeros((molecules.size, 3))
    np.add.at(found, cluster.parent[cluster.parent >= 0], folded[0])
    np.add.at(found, cluster.outer, folded[1])
    return found


def springs(cluster: Cluster) -> tuple[float, np.ndarray]:
    """A smooth energy of all pairs, eV, that tells all atoms apart, and its forces, eV/Å."""
    x = cluster.positions
    charges = np.sin(1.0 + np.arange(len(x)))
    vectors = x[:, None] - x[None]
    squared = (vectors**2).sum(axis=2)
    pair = charges[:, None] * charges[None] * np.exp(-squared / 8.0)
    np.fill_diagonal(pair, 0.0)
    return 0.5 * float(pair.sum()), (pair[:, :, None] * vectors / 4.0).sum(axis=1)


class Smooth(ElementNetworks):
    """The networks of the tiny ensemble with an activation that has all derivatives: CELU's second one jumps."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = features
        for layer in self.hidden:
            x = torch.nn.functional.softplus(layer(x), beta=10.0, threshold=200.0)
        return self.last(x).squeeze(-1)


@pytest.fixture(scope="module")
def network() -> AniEnsemble:
    ensemble = load(str(MINI), "double")
    networks = [Smooth([*element.hidden, element.last]) for element in ensemble.networks]
    return AniEnsemble(ensemble.card, networks, torch.float64)


def of_network(ensemble: AniEnsemble, cluster: Cluster) -> tuple[float, np.ndarray]:
    out = evaluate(ensemble, cluster.numbers, cluster.positions * 0.1, None)
    return out.energy * EV_PER_KJ_PER_MOL, out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM


@pytest.mark.parametrize("potential", ["springs", "network"])
def test_folded_forces_are_the_gradient(chignolin: Molecules, inside: np.ndarray, network, potential: str) -> None:
    # h⁴/30 · |∂⁵E|: springs (2.5e-3)⁴ / 30 · 10 = 1e-11. The network's Gaussians exp(-8 r²) have fifth derivatives of
    # 16^2.5 · 10 eV/Å⁵ at most: (1e-4)⁴ / 30 · 1e4 = 3e-14; rounding of 50 eV: 1e-14 / 1e-4 = 1e-10 eV/Å. A larger
    # step would move some pair across the cutoff, where the second derivative jumps.
    energy_and_forces, h_A = (springs, 2.5e-3) if potential == "springs" else (
        lambda c: of_network(network, c), 1e-4
    )  # fmt: skip
    cluster = capped(chignolin, chignolin.positions, inside)
    exact = spread(chignolin, cluster, fold_forces(cluster, energy_and_forces(cluster)[1]))
    cut = cut_bonds(chignolin, inside)
    atoms = np.concatenate([cut[:2].ravel(), np.flatnonzero(inside)[:1]])
    numeric = numeric_forces(chignolin, inside, atoms, lambda c: energy_and_forces(c)[0], h_A)
    assert np.abs(exact[atoms] - numeric).max() < TOLERANCE
    # Sabotage: the shares of host and outer atom exchanged, and a link atom's force left out.
    swapped = spread(
        chignolin, cluster, fold_forces(replace(cluster, ratios=1 - cluster.ratios), energy_and_forces(cluster)[1])
    )
    assert np.abs(swapped[atoms] - numeric).max() > 1e4 * TOLERANCE
    forgotten = energy_and_forces(cluster)[1].copy()
    forgotten[cluster.links[:, 0]] = 0.0
    assert np.abs(spread(chignolin, cluster, fold_forces(cluster, forgotten))[atoms] - numeric).max() > 1e4 * TOLERANCE


def test_folding_keeps_the_sum_of_forces_and_their_torque(chignolin: Molecules, inside: np.ndarray) -> None:
    """A link atom's two shares lie on the line through it, so that they have its torque: a lever."""
    cluster = capped(chignolin, chignolin.positions, inside)
    forces = np.random.default_rng(3).normal(size=(cluster.size, 3))
    real, outer = fold_forces(cluster, forces)
    # 40 terms of order one, and 40 of order 10 Å in the torque.
    np.testing.assert_allclose(real.sum(axis=0) + outer.sum(axis=0), forces.sum(axis=0), atol=40 * 1e-15)
    where = chignolin.positions * 10
    torque = np.cross(where[np.flatnonzero(inside)], real).sum(axis=0) + np.cross(where[cluster.outer], outer).sum(
        axis=0
    )
    np.testing.assert_allclose(torque, np.cross(cluster.positions, forces).sum(axis=0), atol=400 * 1e-14)


def test_two_caps_on_one_host_both_count() -> None:
    cluster = Cluster(
        numbers=np.array([6, 1, 1]), positions=np.eye(3), parent=np.array([0, -1, -1]),
        links=np.array([[1, 0], [2, 0]]), charge=0, multiplicity=1, outer=np.array([1, 2]), ratios=np.array([0.7, 0.7]),
    )  # fmt: skip
    real, outer = fold_forces(cluster, np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(real, [[0.3, 0.3, 0]])
    np.testing.assert_allclose(outer, [[0.7, 0, 0], [0, 0.7, 0]])


def test_link_atom_of_an_ordinary_bond_has_the_length_of_its_own() -> None:
    for host, length in ((6, 1.09), (7, 1.01), (16, 1.336)):
        for outer in (6, 16):
            pair = (min(host, outer), max(host, outer))
            if pair not in SINGLE_BONDS_A:
                continue
            bond = SINGLE_BONDS_A[pair]
            cap = place_links(np.zeros((1, 3)), np.array([[0, 0, bond]]), np.array([link_ratio(host, outer)]))
            np.testing.assert_allclose(cap, [[0, 0, length]], rtol=1e-14)
    # What ONIOM and ASH use for C–C: 0.709 to 0.723.
    assert 0.709 < link_ratio(6, 6) < 0.723


@pytest.mark.parametrize("pair", [(6, 9), (7, 7), (1, 6), (30, 16)])
def test_unknown_bond_is_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(RegionError, match="no link atom is known") as caught:
        link_ratio(*pair)
    assert "C–C" in caught.value.cure


def test_cut_bonds_are_rows_of_inside_and_outside(chignolin: Molecules, inside: np.ndarray) -> None:
    cut = cut_bonds(chignolin, inside)
    assert inside[cut[:, 0]].all()
    assert not inside[cut[:, 1]].any()
    assert cut.tolist() == sorted(cut.tolist())
    expected = {tuple(b) for b in chignolin.bonds.tolist() if inside[b[0]] != inside[b[1]]}
    assert {tuple(sorted(row)) for row in cut.tolist()} == expected
    assert expected <= {tuple(sorted(b)) for b in cuttable_bonds(chignolin.numbers, chignolin.bonds).tolist()}


def ethane_chain(angle_deg: float = 109.5) -> Molecules:
    """Three carbons in a row and their hydrogens left out of sight: C0–C1–C2, every carbon its own fragment."""
    a = np.radians(angle_deg)
    positions = 0.1526 * np.array([[1.0, 0, 0], [0, 0, 0], [np.cos(a), np.sin(a), 0]])
    bonds, n = np.array([[0, 1], [1, 2]]), 3
    return Molecules(
        topology=None, numbers=np.full(n, 6), masses=np.full(n, 12.0), positions=positions, box=None, bonds=bonds,
        molecule_of=molecules_of(bonds, n), residue_of=np.zeros(n, dtype=np.int64), fragment_of=np.arange(n),
        formal_charge=np.zeros(n, dtype=np.int64),
    )  # fmt: skip


def test_two_caps_in_place_of_one_atom_call_it_in() -> None:
    molecules = ethane_chain()
    ends = np.array([True, False, True])
    assert unfit_outers(molecules, molecules.positions, ends, None).tolist() == [1]
    with pytest.raises(RegionError, match="in the place of atom 1") as caught:
        cut_cluster(molecules, molecules.positions, np.array([0, 2]), multiplicity=1)
    assert "unfit_outers" in caught.value.cure
    # The twin: one end alone, and all three, are fit.
    for inside in ([True, False, False], [True, True, True], [True, True, False]):
        assert unfit_outers(molecules, molecules.positions, np.array(inside), None).tolist() == []


@pytest.mark.parametrize("box", [None, np.diag([2.0, 2.0, 2.0])])
def test_cap_close_to_a_stranger_calls_its_atom_in(box: np.ndarray | None) -> None:
    """A carbon of another molecule, as far from the link atom as ``gap_A``; across the box where there is one."""
    for gap_A, unfit in ((CLOSE_TO_HEAVY_A - 0.05, [1]), (CLOSE_TO_HEAVY_A + 0.05, [])):
        molecules = ethane_chain()
        cap = place_links(molecules.positions[:1], molecules.positions[1:2], np.array([link_ratio(6, 6)]))[0]
        positions = molecules.positions.copy()
        positions[2] = cap + [0, 0, 0.1 * gap_A] + (np.zeros(3) if box is None else 3 * box[1])
        molecules = replace(molecules, bonds=np.array([[0, 1]]), molecule_of=np.array([0, 0, 1]), box=box)
        inside = np.array([True, False, True])
        assert unfit_outers(molecules, positions, inside, box).tolist() == unfit


def test_of_two_caps_too_close_the_lower_comes_in() -> None:
    """Two hosts whose link atoms meet: 1.0 Å apart, hosts and outer atoms farther."""
    positions = 0.1 * np.array([[0.0, 0, 0], [0, 0, 1.526], [1.0, 0, 2.18], [1.0, 0, 0.654]])
    numbers, bonds = np.full(4, 6), np.array([[0, 1], [2, 3]])
    molecules = replace(
        ethane_chain(), numbers=numbers, masses=np.full(4, 12.0), positions=positions, bonds=bonds,
        molecule_of=molecules_of(bonds, 4), residue_of=np.zeros(4, dtype=np.int64), fragment_of=np.arange(4),
        formal_charge=np.zeros(4, dtype=np.int64),
    )  # fmt: skip
    assert unfit_outers(molecules, positions, np.array([True, False, True, False]), None).tolist() == [1, 3]


def test_fragments_cover_and_are_connected(crambin: Molecules) -> None:
    assert (fragments_of(crambin.numbers, crambin.bonds) == crambin.fragment_of).all()
