"""Laws of the policy: whole molecules, never too many, one cluster, the same region for the same disagreement."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md.errors import RegionError
from qmml_md.region.policy import Region, RegionPolicy, ThresholdPolicy, empty_region
from qmml_md.system.images import nearest_image
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure

BOXES = ("vacuum", "cube", "oblique")
POLICY = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=3.0, max_atoms=24)


def heat(molecules: Molecules, seed: int, scale: float = 0.2) -> np.ndarray:
    """Disagreement with a few hot atoms."""
    return np.random.default_rng(seed).exponential(scale, molecules.size)


def atom_distances(molecules: Molecules, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    vectors, _ = nearest_image(molecules.positions[a][:, None] - molecules.positions[b][None], molecules.box)
    return np.linalg.norm(vectors, axis=2) * 10


def row(build, places: list[float], sizes: list[int] | None = None, box: np.ndarray | None = None) -> Molecules:
    """Molecules along x (Å), each of a few atoms stacked along y."""
    positions, bonds = [], []
    for place, size in zip(places, sizes or [1] * len(places), strict=True):
        bonds += [[len(positions) + k, len(positions) + k + 1] for k in range(size - 1)]
        positions += [[place / 10, 0.1 * k, 0.0] for k in range(size)]
    return build(np.array(positions), np.array(bonds), box)


def region_of(core: list[int], atoms: list[int] | None = None, epoch: int = 1) -> Region:
    return Region(core=np.array(core, dtype=np.int64), atoms=np.array(atoms or core, dtype=np.int64), epoch=epoch)


def choose(policy: ThresholdPolicy, disagreement, previous: Region, molecules: Molecules) -> Region:
    return policy.select(np.array(disagreement, dtype=float), previous, molecules.positions, molecules)


def test_threshold_policy_is_a_region_policy() -> None:
    policy: RegionPolicy = POLICY
    assert callable(policy.select)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("seed", range(20))
def test_region_is_whole_small_and_hot(liquid, name: str, seed: int) -> None:
    molecules = liquid(name, seed)
    disagreement = heat(molecules, seed)
    region = choose(POLICY, disagreement, empty_region(), molecules)
    assert region.atoms.size <= POLICY.max_atoms
    inside = np.isin(np.arange(molecules.size), region.atoms)
    touched = np.isin(molecules.molecule_of, molecules.molecule_of[region.atoms])
    assert (inside == touched).all()
    assert set(region.core) <= set(region.atoms)
    assert (np.diff(region.core) > 0).all()
    assert (np.diff(region.atoms) > 0).all()
    assert region.core.tolist() == np.flatnonzero(inside & (disagreement >= POLICY.enter_eV_per_A)).tolist()
    hottest = int(np.argmax(disagreement))
    assert hottest in region.core


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("seed", range(20))
def test_region_is_one_cluster_around_its_core(liquid, name: str, seed: int) -> None:
    """Core molecules hang together by steps of the buffer distance, and all others are within it of a core atom."""
    molecules = liquid(name, seed)
    region = choose(POLICY, heat(molecules, seed), empty_region(), molecules)
    near = atom_distances(molecules, region.atoms, region.core) <= POLICY.buffer_A + 1e-9
    owner, core_owner = molecules.molecule_of[region.atoms], molecules.molecule_of[region.core]
    reached, grown = {int(core_owner[0])}, True
    while grown:
        touching = owner[near[:, np.isin(core_owner, list(reached))].any(axis=1)]
        # A link between two core molecules may run from either one's core atoms.
        inside = np.isin(owner, list(reached))
        touching = np.concatenate([touching, core_owner[near[inside].any(axis=0)]])
        grown = not set(touching.tolist()) <= reached
        reached |= set(touching.tolist())
    assert reached == set(owner.tolist())


@pytest.mark.parametrize("name", ["cube", "oblique"])
@pytest.mark.parametrize("seed", range(5))
def test_wrapping_of_atoms_changes_nothing(liquid, scattered, name: str, seed: int) -> None:
    molecules = liquid(name, seed)
    disagreement = heat(molecules, seed)
    expected = POLICY.select(disagreement, empty_region(), molecules.positions, molecules)
    found = POLICY.select(disagreement, empty_region(), scattered(molecules, seed), molecules)
    assert found.atoms.tolist() == expected.atoms.tolist()
    assert found.core.tolist() == expected.core.tolist()


def test_without_the_box_neighbours_are_lost(liquid, scattered) -> None:
    """The twin: the same scattered atoms seen without their box have other neighbours."""
    molecules = liquid("cube", 1)
    disagreement = heat(molecules, 1)
    expected = POLICY.select(disagreement, empty_region(), molecules.positions, molecules)
    found = POLICY.select(disagreement, empty_region(), scattered(molecules, 1), replace(molecules, box=None))
    assert found.atoms.tolist() != expected.atoms.tolist()


@pytest.mark.parametrize("name", BOXES)
def test_order_of_atoms_does_not_matter(liquid, relabelled, name: str) -> None:
    molecules = liquid(name, 3)
    other, order = relabelled(molecules, 8)
    disagreement = heat(molecules, 3)
    expected = choose(POLICY, disagreement, empty_region(), molecules)
    found = choose(POLICY, disagreement[order], empty_region(), other)
    assert sorted(order[found.atoms]) == expected.atoms.tolist()
    assert sorted(order[found.core]) == expected.core.tolist()


def test_nothing_hot_is_an_empty_region(liquid) -> None:
    molecules = liquid()
    region = choose(POLICY, np.full(molecules.size, 0.59), empty_region(), molecules)
    assert region.core.size == region.atoms.size == region.epoch == 0
    cooled = choose(POLICY, np.full(molecules.size, 0.3), region_of([0, 1], epoch=4), molecules)
    assert (cooled.core.size, cooled.atoms.size, cooled.epoch) == (0, 0, 5)


def test_epoch_rises_only_on_change(liquid) -> None:
    molecules = liquid("cube", 6)
    disagreement = heat(molecules, 6)
    first = choose(POLICY, disagreement, empty_region(), molecules)
    second = choose(POLICY, disagreement, first, molecules)
    third = choose(POLICY, heat(molecules, 7), second, molecules)
    assert (first.epoch, second.epoch, third.epoch) == (1, 1, 2)


def epochs(policy: ThresholdPolicy, molecules: Molecules) -> int:
    """Changes of the region while the σ of one atom swings between 0.45 and 0.65 eV/Å."""
    region = empty_region()
    for step in range(40):
        sigma = np.full(molecules.size, 0.1)
        sigma[0] = 0.55 + 0.1 * np.cos(step)
        region = choose(policy, sigma, region, molecules)
    return region.epoch


def test_hysteresis_keeps_a_wavering_atom(build) -> None:
    molecules = row(build, [0, 2, 9])
    assert epochs(POLICY, molecules) == 1
    # The twin: without a lower threshold to stay, the region flickers.
    assert epochs(replace(POLICY, stay_eV_per_A=0.6), molecules) > 10


def test_buffer_atoms_have_no_right_to_stay(build) -> None:
    """Between the thresholds an atom stays core if it was core; having been buffer is not enough."""
    molecules = row(build, [0, 2])
    region = choose(POLICY, [0.7, 0.5], empty_region(), molecules)
    assert region.core.tolist() == [0]
    assert region.atoms.tolist() == [0, 1]
    assert choose(POLICY, [0.3, 0.5], region, molecules).atoms.size == 0


def test_seed_is_kept_until_another_is_clearly_hotter(build) -> None:
    molecules = row(build, [0, 50])
    held = region_of([0])
    # enter/stay is 1.5: the challenger needs more than 1.5 times the σ of the holder.
    assert choose(POLICY, [0.5, 0.74], held, molecules).core.tolist() == [0]
    assert choose(POLICY, [0.5, 0.76], held, molecules).core.tolist() == [1]
    # Without history the hottest wins; a holder that has cooled below the lower threshold has lost.
    assert choose(POLICY, [0.7, 0.74], empty_region(), molecules).core.tolist() == [1]
    assert choose(POLICY, [0.39, 0.61], held, molecules).core.tolist() == [1]


def test_hot_neighbours_join_but_distant_ones_wait(build) -> None:
    molecules = row(build, [0, 2.5, 5, 20])
    region = choose(POLICY, [0.9, 0.7, 0.8, 0.85], empty_region(), molecules)
    assert region.core.tolist() == [0, 1, 2]


def test_hot_neighbour_that_is_nearest_to_the_seed_joins_first(build) -> None:
    molecules = row(build, [-2.5, 0, 1.5])
    region = choose(replace(POLICY, max_atoms=2), [0.8, 0.9, 0.7], empty_region(), molecules)
    assert region.atoms.tolist() == [1, 2]


def test_core_comes_before_buffer_and_the_nearer_before_the_farther(build) -> None:
    """Seed at 0; hot at 2.8; cold at 1, 2 and 2.9: room for one more, two more, and so on."""
    molecules = row(build, [0, 1, 2, 2.8, 2.9])
    sigma = [0.9, 0.1, 0.1, 0.7, 0.1]
    grown = [choose(replace(POLICY, max_atoms=m), sigma, empty_region(), molecules).atoms.tolist() for m in range(1, 6)]
    # 2.9 lies 0.1 from the hot atom at 2.8, 2 lies 0.8 from it, 1 lies 1 from the seed.
    assert grown == [[0], [0, 3], [0, 3, 4], [0, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_smaller_molecule_takes_room_that_a_nearer_one_does_not_fit(build) -> None:
    molecules = row(build, [0, 1.5, 2.5], sizes=[1, 5, 2])
    region = choose(replace(POLICY, max_atoms=4), [0.9] + [0.1] * 7, empty_region(), molecules)
    assert region.atoms.tolist() == [0, 6, 7]


def test_equal_distances_are_decided_by_number(build) -> None:
    molecules = row(build, [-2, 0, 2])
    region = choose(replace(POLICY, max_atoms=2), [0.1, 0.9, 0.1], empty_region(), molecules)
    assert region.atoms.tolist() == [0, 1]


def test_buffer_reaches_across_the_box(build) -> None:
    molecules = row(build, [0.5, 10, 19.5], box=np.diag([2.0, 2.0, 2.0]))
    sigma = [0.9, 0.1, 0.1]
    assert choose(POLICY, sigma, empty_region(), molecules).atoms.tolist() == [0, 2]
    assert choose(POLICY, sigma, empty_region(), replace(molecules, box=None)).atoms.tolist() == [0]


def test_buffer_is_measured_from_core_atoms_to_any_atom(build) -> None:
    """The cold end of a hot molecule draws no buffer; the near end of a long neighbour counts."""
    molecules = row(build, [0, 2.5, 3.2], sizes=[1, 3, 1])
    region = choose(replace(POLICY, buffer_A=2.6), [0.9, 0.1, 0.1, 0.1, 0.1], empty_region(), molecules)
    assert region.atoms.tolist() == [0, 1, 2, 3]


def test_no_buffer_leaves_the_molecules_of_the_core(build) -> None:
    molecules = row(build, [0, 1], sizes=[3, 2])
    region = choose(replace(POLICY, buffer_A=0.0), [0.1, 0.9, 0.1, 0.1, 0.1], empty_region(), molecules)
    assert (region.core.tolist(), region.atoms.tolist()) == ([1], [0, 1, 2])


def test_seed_larger_than_the_limit_is_refused(build) -> None:
    molecules = row(build, [0], sizes=[5])
    with pytest.raises(RegionError, match="has 5 atoms, the region at most 4") as caught:
        choose(replace(POLICY, max_atoms=4), [0.9] * 5, empty_region(), molecules)
    assert "max_qm_atoms" in caught.value.cure


def test_disagreement_that_is_no_number_is_refused(build) -> None:
    molecules = row(build, [0, 2])
    with pytest.raises(RegionError, match="finite numbers"):
        choose(POLICY, [0.9, np.nan], empty_region(), molecules)
    with pytest.raises(RegionError, match="finite numbers"):
        choose(POLICY, [0.9], empty_region(), molecules)


@pytest.mark.parametrize(
    "change",
    [{"stay_eV_per_A": 0.7}, {"stay_eV_per_A": 0.0}, {"buffer_A": -1.0}, {"buffer_A": np.nan}, {"max_atoms": 0}],
)
def test_senseless_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(RegionError) as caught:
        replace(POLICY, **change)
    assert caught.value.cure


def test_solute_of_the_example_takes_its_four_nearest_waters() -> None:
    path = Path(__file__).parents[3] / "examples" / "nma_in_water" / "nma_in_water.pdb"
    molecules = read_structure(path)
    sigma = np.full(molecules.size, 0.2)
    sigma[5] = 0.8
    region = choose(replace(POLICY, buffer_A=4.0), sigma, empty_region(), molecules)
    assert region.core.tolist() == [5]
    distances = atom_distances(molecules, np.arange(molecules.size), np.array([5]))[:, 0]
    order = [m for m in dict.fromkeys(molecules.molecule_of[np.argsort(distances)].tolist()) if m]
    assert set(molecules.molecule_of[region.atoms].tolist()) == {0, *order[:4]}
