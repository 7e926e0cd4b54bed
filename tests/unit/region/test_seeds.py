"""Laws of seeds that never leave, atoms that never enter, clusters apart and merged, and a counted solvent."""

from dataclasses import replace

import numpy as np
import pytest

from qmml_md.errors import ConfigError, RegionError
from qmml_md.region.layout import lay_out
from qmml_md.region.memory import Memory
from qmml_md.region.policy import Region, ThresholdPolicy, empty_region
from qmml_md.region.sampling import cluster_around, molecules_by_kind, region_around
from qmml_md.system.molecules import Molecules

POLICY = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=2.0, max_atoms=12)


def row(build, places: list[float], sizes: list[int] | None = None) -> Molecules:
    """Molecules along x (Å), each of a few atoms stacked along y."""
    positions, bonds = [], []
    for place, size in zip(places, sizes or [1] * len(places), strict=True):
        bonds += [[len(positions) + k, len(positions) + k + 1] for k in range(size - 1)]
        positions += [[place / 10, 0.1 * k, 0.0] for k in range(size)]
    return build(np.array(positions), np.array(bonds), None)


def with_layout(policy: ThresholdPolicy, molecules: Molecules, **named: list[int]) -> ThresholdPolicy:
    """A policy with seeds, excluded atoms and solvent."""
    atoms = {name: np.array(indices, dtype=np.int64) for name, indices in named.items()}
    return replace(policy, layout=lay_out(molecules, max_atoms=policy.max_atoms, **atoms))


def choose(policy: ThresholdPolicy, sigma, molecules: Molecules, previous: Region | None = None) -> Region:
    held = previous or empty_region()
    return policy.select(np.array(sigma, dtype=float), held, molecules.positions, molecules)


def walk(policy: ThresholdPolicy, molecules: Molecules, seed: int):
    """Regions of twenty looks at random doubt."""
    rng, region, memory = np.random.default_rng(seed), empty_region(), Memory()
    for step in range(20):
        sigma = rng.exponential(0.25, molecules.size)
        region, memory = policy.look(
            sigma, memory, region, molecules.positions, molecules, time_fs=float(step), surface="a"
        )
        yield sigma, region


@pytest.mark.parametrize("seed", range(5))
def test_seeds_never_leave(liquid, seed: int) -> None:
    molecules = liquid("cube", seed)
    seeds = [3, 50, 51]
    free, bound = (list(walk(p, molecules, seed)) for p in (POLICY, with_layout(POLICY, molecules, seeds=seeds)))
    assert all(set(seeds) <= set(region.core) for _, region in bound)
    # The twin: without being seeds they do.
    assert not all(set(seeds) <= set(region.core) for _, region in free)
    for _, region in bound:
        assert all(len(place.atoms) <= POLICY.max_atoms for place in region.places)
        assert np.unique(np.concatenate([place.atoms for place in region.places])).tolist() == region.atoms.tolist()


def test_cold_seeds_call_for_nothing_and_stand_apart_from_what_is_hot(build) -> None:
    molecules = row(build, [0, 1.5, 20, 21.5])
    policy = with_layout(POLICY, molecules, seeds=[0])
    cold = choose(policy, [0.1] * 4, molecules)
    assert (cold.core.tolist(), cold.atoms.tolist(), cold.hot_places) == ([0], [0, 1], ())
    both = choose(policy, [0.1, 0.1, 0.9, 0.1], molecules, cold)
    assert (both.core.tolist(), both.atoms.tolist()) == ([0, 2], [0, 1, 2, 3])
    assert [place.core.tolist() for place in both.places] == [[2], [0]]
    assert [place.core.tolist() for place in both.hot_places] == [[2]]
    hot = choose(policy, [0.9, 0.1, 0.1, 0.1], molecules, both)
    assert [place.core.tolist() for place in hot.hot_places] == [[0]]
    assert (cold.epoch, both.epoch, hot.epoch) == (1, 2, 3)


def test_a_seed_that_warms_up_changes_no_epoch(build) -> None:
    molecules = row(build, [0, 1.5])
    policy = with_layout(POLICY, molecules, seeds=[0])
    cold = choose(policy, [0.1, 0.1], molecules)
    warm = choose(policy, [0.9, 0.1], molecules, cold)
    assert (cold.cold, warm.cold) == (1, 0)
    assert cold.epoch == warm.epoch == 1


def test_a_seed_gets_no_lower_threshold_from_being_a_seed(build) -> None:
    molecules = row(build, [0, 9])
    policy = with_layout(POLICY, molecules, seeds=[0])
    region, memory = empty_region(), Memory()
    for sigma, hot in ((0.5, 0), (0.7, 1), (0.5, 1), (0.3, 0), (0.5, 0)):
        region, memory = policy.look(np.array([sigma, 0.1]), memory, region, molecules.positions, molecules)
        assert len(region.hot_places) == hot


def test_seeds_near_each_other_are_one_place_and_far_ones_are_two(build) -> None:
    molecules = row(build, [0, 1.5, 20])
    region = choose(with_layout(POLICY, molecules, seeds=[0, 1, 2]), [0.1] * 3, molecules)
    assert [place.atoms.tolist() for place in region.places] == [[0, 1], [2]]


def test_a_hot_place_and_a_seed_that_overlap_are_one_or_the_seed_goes_without(build) -> None:
    molecules = row(build, [0, 1.5, 3.0, 4.5])
    policy = with_layout(POLICY, molecules, seeds=[2])
    merged = choose(policy, [0.9, 0.1, 0.1, 0.1], molecules)
    assert [place.atoms.tolist() for place in merged.places] == [[0, 1, 2, 3]]
    assert merged.core.tolist() == [0, 2]
    apart = choose(replace(policy, max_atoms=3), [0.9, 0.1, 0.1, 0.1], molecules)
    assert [place.atoms.tolist() for place in apart.places] == [[0, 1], [2, 3]]


def test_a_seed_that_does_not_fit_is_refused(build) -> None:
    molecules = row(build, [0, 20], sizes=[5, 1])
    policy = with_layout(replace(POLICY, max_atoms=4), molecules, seeds=[2])
    with pytest.raises(RegionError, match="has 5 atoms, the region at most 4") as caught:
        choose(policy, [0.1] * 6, molecules)
    assert "region.max_qm_atoms" in caught.value.cure


@pytest.mark.parametrize("seed", range(5))
def test_excluded_atoms_never_enter(liquid, seed: int) -> None:
    molecules = liquid("cube", seed)
    shut = list(range(0, molecules.size, 4))
    free, bound = (list(walk(p, molecules, seed)) for p in (POLICY, with_layout(POLICY, molecules, excluded=shut)))
    assert all(not set(shut) & set(region.atoms) for _, region in bound)
    # The twin: without being excluded they do.
    assert any(set(shut) & set(region.atoms) for _, region in free)
    # Nor does what joins together with them, and all that is hot elsewhere still counts.
    closed = np.isin(molecules.molecule_of, molecules.molecule_of[shut])
    for sigma, region in bound:
        assert not closed[region.atoms].any()
        assert len(region.core) or not (sigma[~closed] >= POLICY.enter_eV_per_A).any()


def test_the_hottest_atom_is_one_that_may_enter(build) -> None:
    molecules = row(build, [0, 5, 10])
    policy = with_layout(POLICY, molecules, excluded=[2])
    assert policy.hottest(np.array([0.1, 0.2, 0.9])) == 1
    assert POLICY.hottest(np.array([0.1, 0.2, 0.9])) == 2
    assert region_around(1, molecules, policy).atoms.tolist() == [1]
    with pytest.raises(RegionError, match="must not enter"):
        region_around(2, molecules, policy)


def test_a_seed_that_is_excluded_is_refused(build) -> None:
    molecules = row(build, [0, 5], sizes=[1, 3])
    with pytest.raises(ConfigError, match=r"region\.seed names atom 1, and region\.exclude") as caught:
        with_layout(POLICY, molecules, seeds=[0, 1], excluded=[3])
    assert caught.value.cure


def test_a_cluster_around_an_atom_is_that_of_the_atom_whatever_the_seeds(build) -> None:
    molecules = row(build, [0, 1.5, 20, 21.5])
    policy = with_layout(POLICY, molecules, seeds=[0])
    assert cluster_around(2, molecules, policy).parent.tolist() == [2, 3]
    cluster = cluster_around(2, molecules, policy, cutoff_A=5.2)
    assert cluster.complete is not None
    assert cluster.complete.all()


def test_kinds_leave_out_what_must_not_enter(build) -> None:
    molecules = row(build, [0, 5, 10, 15], sizes=[1, 2, 1, 2])
    layout = lay_out(molecules, max_atoms=9, excluded=np.array([0, 1]))
    assert [kind.tolist() for kind in molecules_by_kind(molecules)] == [[0, 3], [1, 2, 4, 5]]
    assert [kind.tolist() for kind in molecules_by_kind(molecules, layout.open_atoms)] == [[3], [4, 5]]


def test_clusters_of_a_region_are_its_places(build) -> None:
    molecules = row(build, [0, 1.5, 20, 40])
    region = choose(replace(POLICY, clusters_per_frame=2), [0.9, 0.1, 0.7, 0.8], molecules)
    assert [place.atoms.tolist() for place in region.places] == [[0, 1], [3]]
    assert (region.core.tolist(), region.atoms.tolist()) == ([0, 3], [0, 1, 3])
    one = choose(POLICY, [0.9, 0.1, 0.7, 0.8], molecules)
    assert [place.atoms.tolist() for place in one.places] == [[0, 1]]


def test_three_places_that_overlap_in_turn_are_one(build) -> None:
    molecules = row(build, [0, 1.5, 3.0, 4.5, 6.0])
    sigma = [0.9, 0.1, 0.7, 0.1, 0.8]
    region = choose(replace(POLICY, clusters_per_frame=3), sigma, molecules)
    assert [place.atoms.tolist() for place in region.places] == [[0, 1, 2, 3, 4]]
    assert region.core.tolist() == [0, 2, 4]
    # The twin: where they do not all fit, the hotter ones keep what is theirs.
    small = choose(replace(POLICY, clusters_per_frame=3, max_atoms=4), sigma, molecules)
    assert [place.atoms.tolist() for place in small.places] == [[0, 1], [3, 4]]


def solution(build, seed: int, box: np.ndarray | None = None) -> Molecules:
    """A solute of three atoms among eighty solvent molecules of two at random places."""
    rng = np.random.default_rng(seed)
    solute = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]]) + rng.random(3)
    first = rng.random((80, 3)) * 1.8
    solvent = np.stack([first, first + np.array([0.0, 0.0, 0.1])], axis=1).reshape(-1, 3)
    pairs = [[3 + 2 * k, 4 + 2 * k] for k in range(80)]
    return build(np.concatenate([solute, solvent]), np.array([[0, 1], [1, 2], *pairs]), box)


def counted(molecules: Molecules, count: int | None, **changes: object) -> ThresholdPolicy:
    rules = replace(POLICY, max_atoms=20, solvent_molecules=count, **changes)
    return with_layout(rules, molecules, solvent=list(range(3, molecules.size)))


@pytest.mark.parametrize("box", [None, np.diag([1.8, 1.8, 1.8])], ids=["vacuum", "periodic"])
@pytest.mark.parametrize("seed", range(8))
def test_a_counted_solvent_is_always_as_much(build, scattered, box: np.ndarray | None, seed: int) -> None:
    molecules = solution(build, seed, box)
    sigma = np.full(molecules.size, 0.1)
    sigma[0] = 0.9
    region = choose(counted(molecules, 5), sigma, molecules)
    assert len(region.atoms) == 3 + 2 * 5
    # The nearest ones, by plain distances over all neighbouring images.
    shifts = [np.zeros(3)] if box is None else [np.array(k) @ box for k in np.ndindex(3, 3, 3)]
    centre = molecules.positions[0] + (0.0 if box is None else np.ones(3) @ box)
    far = np.min([np.linalg.norm(molecules.positions + s - centre, axis=1) for s in shifts], axis=0)
    nearest = np.argsort(far[3:].reshape(-1, 2).min(axis=1))[:5] + 1
    assert set(molecules.molecule_of[region.atoms].tolist()) == {0, *nearest.tolist()}
    wrapped = replace(molecules, positions=scattered(molecules, seed))
    assert choose(counted(molecules, 5), sigma, wrapped).atoms.tolist() == region.atoms.tolist()


def test_a_solvent_within_reach_is_now_more_now_less(build) -> None:
    """The twin."""
    found = set()
    for seed in range(8):
        molecules = solution(build, seed)
        sigma = np.full(molecules.size, 0.1)
        sigma[0] = 0.9
        found.add(len(choose(counted(molecules, None), sigma, molecules).atoms))
    assert len(found) > 1


def test_hot_neighbours_leave_room_for_the_counted_solvent(build) -> None:
    molecules = solution(build, 2)
    region = choose(counted(molecules, 5, buffer_A=8.0), np.full(molecules.size, 0.7), molecules)
    # All are hot. Of 20 atoms ten are kept for five molecules; the solute and three more have nine.
    assert len(set(molecules.molecule_of[region.atoms].tolist()) - {0}) == 3 + 5


def test_more_solvent_than_there_is_or_than_fits_is_refused(build) -> None:
    molecules = solution(build, 0)
    sigma = np.full(molecules.size, 0.1)
    sigma[0] = 0.9
    with pytest.raises(RegionError, match=r"solvent_molecules asks for 81 molecules, of which there are 80"):
        choose(counted(molecules, 81), sigma, molecules)
    with pytest.raises(RegionError, match="18 of them kept for the solvent") as caught:
        choose(counted(molecules, 9), sigma, molecules)
    assert "region.solvent_molecules" in caught.value.cure


def test_places_with_a_counted_solvent_merge_and_count_it_once(build) -> None:
    molecules = row(build, [0, 1.5, 3.0, 4.5, 40, 41.5])
    policy = with_layout(replace(POLICY, clusters_per_frame=2, solvent_molecules=1), molecules, solvent=[1, 3, 4, 5])
    region = choose(policy, [0.9, 0.1, 0.8, 0.1, 0.1, 0.1], molecules)
    assert [place.atoms.tolist() for place in region.places] == [[0, 1, 2]]
