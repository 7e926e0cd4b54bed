"""Atoms repel and bonds have one minimum, in the candidate as in the starting model."""

import copy

import numpy as np
import pytest
import torch

from qmml_md.learning.base_set import anchor_set, probe_set
from qmml_md.learning.gate import cluster_energy_and_forces
from qmml_md.learning.measure import measure
from qmml_md.learning.sanity import BOND_SCAN, BONDS, Path, bond_paths, fall, fault, minima, pair_paths, sanity

MORSE = (1.0 - np.exp(-2.0 * (np.linspace(2.5, 0.6, 11) - 1.0))) ** 2 * 4.0


def path(kind: str) -> Path:
    return Path(name="a", geometries=(), kind=kind)


def test_a_bond_has_one_minimum() -> None:
    assert minima(MORSE) == 1
    assert fault(path("bond"), MORSE, MORSE) == ""


def test_a_second_minimum_a_hole_and_a_soft_wall_are_caught() -> None:
    second = MORSE.copy()
    second[3] -= 1.5
    assert minima(second) == 2
    assert "2 minima" in fault(path("bond"), second, MORSE)
    hole = MORSE.copy()
    hole[-1] = -1.0
    assert "wall" in fault(path("bond"), hole, MORSE)
    assert "wall" in fault(path("bond"), np.minimum(MORSE, 0.3 * MORSE[-1]), MORSE)
    assert "not finite" in fault(path("bond"), np.full(11, np.nan), MORSE)


def test_ripples_of_less_than_a_dip_are_no_minima() -> None:
    ripple = MORSE + 0.04 * (-1.0) ** np.arange(11)
    assert minima(ripple) == 1


def test_pressing_two_atoms_together_must_not_gain_more_than_before() -> None:
    rising = np.linspace(0.0, 8.0, 9)
    falling = rising.copy()
    falling[4:] -= 2.0
    assert fall(rising) == 0.0
    assert fall(falling) == pytest.approx(1.0)
    assert "pressing together" in fault(path("pair"), falling, rising)
    # The starting model's own fault is not the candidate's.
    assert fault(path("pair"), falling, falling) == ""


def test_bond_paths_move_the_smaller_side_and_keep_the_other_bonds(frames, cluster_of) -> None:
    cluster = cluster_of(frames[0])
    paths = bond_paths(cluster)
    # Ethanol has the kinds C-H, O-H, C-C, C-O, and one more of the eight bonds is scanned.
    assert len(paths) == BONDS
    assert len({p.name.split(" of ")[0] for p in paths}) == 4
    for found in paths:
        assert len(found.geometries) == len(BOND_SCAN)
        a, b = (int(word) for word in found.name.split(" of atoms ")[1].split(" and "))
        before = np.linalg.norm(cluster.positions[:, None] - cluster.positions, axis=2)
        moved = np.flatnonzero(np.abs(found.geometries[0].positions - cluster.positions).max(axis=1) > 1e-9)
        assert b in moved
        assert a not in moved
        assert 2 * len(moved) <= cluster.size
        after = np.linalg.norm(found.geometries[0].positions[:, None] - found.geometries[0].positions, axis=2)
        # Rigid on either side: distances agree to the rounding of sums of numbers near 1 Å.
        assert np.allclose(after[np.ix_(moved, moved)], before[np.ix_(moved, moved)], atol=1e-12)


def test_other_molecules_stay_where_they_are_and_rings_stay_out(ani1x) -> None:

    rings = [c for c in (*anchor_set(ani1x.card), *probe_set(ani1x.card)) if sorted(c.numbers) == [1] * 6 + [6] * 6]
    assert rings
    names = {p.name.split(" of ")[0] for p in bond_paths(rings[0])}
    assert names == {"bond 1-6"}


def test_starting_model_is_sane_against_itself(ani1x, frames, cluster_of) -> None:
    assert sanity(ani1x, ani1x, [cluster_of(frames[0])]) == []
    assert sanity(ani1x, ani1x, []) == []


def test_a_model_whose_repulsion_was_ruined_is_caught(ani1x, frames, cluster_of) -> None:
    """The sabotaged twin: networks of oxygen that answer with the opposite sign."""
    broken = copy.deepcopy(ani1x)
    with torch.no_grad():
        oxygen = broken.networks[list(ani1x.card.symbols).index("O")]
        oxygen.last.weight.neg_()
    found = sanity(broken, ani1x, [cluster_of(frames[0])])
    assert found
    assert any("8" in line for line in found)


def test_measure_agrees_with_the_route_that_moves_atoms(ani1x, frames, hot, cluster_of) -> None:

    clusters = [cluster_of(frames[0]), *probe_set(ani1x.card)[:6], cluster_of(hot[3])]
    (found,) = measure([ani1x], clusters)
    only = measure([ani1x], clusters, forces=False)[0]
    for k, cluster in enumerate(clusters):
        energy, forces = cluster_energy_and_forces(ani1x, cluster)
        # Single precision: features and networks carry a relative rounding of 6e-8 on atomic energies near 1 eV and on
        # forces near 10 eV/Å, through some hundred operations each.
        assert found.energies[k] == pytest.approx(energy, abs=1e-4)
        assert only.energies[k] == pytest.approx(energy, abs=1e-4)
        assert np.abs(found.forces[k] - forces).max() < 1e-3


def test_atoms_of_one_geometry_do_not_see_those_of_another(mini, frames, cluster_of) -> None:
    cluster = cluster_of(frames[0])
    (alone,), (twice,) = measure([mini], [cluster]), measure([mini], [cluster, cluster])
    # Double precision: sums in another order only.
    assert twice.energies == pytest.approx([alone.energies[0]] * 2, abs=1e-9)
    assert np.allclose(twice.forces[1], alone.forces[0], atol=1e-9)


def test_models_with_different_descriptors_are_not_compared(mini, ani1x, frames, cluster_of) -> None:
    with pytest.raises(ValueError, match="descriptors"):
        measure([mini, ani1x], [cluster_of(frames[0])])


def test_all_pairs_of_elements_are_pressed() -> None:
    names = [p.name for p in pair_paths(np.array([1, 6, 8]))]
    assert len(names) == 6
    assert len(pair_paths(np.array([1, 99]))) == 1
