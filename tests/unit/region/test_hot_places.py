"""Laws of several hot places in one frame: the first is the region, none shares an atom, each is chosen as if alone."""

from dataclasses import replace

import numpy as np
import pytest

from qmml_md.errors import RegionError
from qmml_md.region.policy import Region, ThresholdPolicy, empty_region
from qmml_md.system.molecules import Molecules

BOXES = ("vacuum", "cube", "oblique")
POLICY = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=2.0, max_atoms=12)


def heat(molecules: Molecules, seed: int) -> np.ndarray:
    """Disagreement with many hot atoms."""
    return np.random.default_rng(seed).exponential(0.25, molecules.size)


def row(build, places: list[float], sizes: list[int] | None = None) -> Molecules:
    """Molecules along x (Å), each of a few atoms stacked along y."""
    positions, bonds = [], []
    for place, size in zip(places, sizes or [1] * len(places), strict=True):
        bonds += [[len(positions) + k, len(positions) + k + 1] for k in range(size - 1)]
        positions += [[place / 10, 0.1 * k, 0.0] for k in range(size)]
    return build(np.array(positions), np.array(bonds), None)


def places(policy: ThresholdPolicy, sigma, molecules: Molecules, count: int, previous: Region | None = None):
    held = previous or empty_region()
    return policy.hot_places(np.array(sigma, dtype=float), held, molecules.positions, molecules, count=count)


def violations(
    found: tuple[Region, ...], sigma: np.ndarray, molecules: Molecules, policy: ThresholdPolicy
) -> list[str]:
    """What is wrong with a set of places."""
    wrong = []
    atoms = np.concatenate([place.atoms for place in found])
    if len(np.unique(atoms)) != len(atoms):
        wrong.append("shared atom")
    for place in found:
        inside = np.isin(molecules.molecule_of, molecules.molecule_of[place.atoms])
        if inside.sum() != len(place.atoms):
            wrong.append("broken molecule")
        if len(place.atoms) > policy.max_atoms:
            wrong.append("too many")
        if not (sigma[place.core] >= policy.enter_eV_per_A).all():
            wrong.append("cold core")
    hottest = [sigma[place.core].max() for place in found]
    if sorted(hottest, reverse=True) != hottest:
        wrong.append("order")
    return wrong


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("seed", range(10))
def test_places_are_disjoint_whole_small_and_in_order(liquid, name: str, seed: int) -> None:
    molecules = liquid(name, seed)
    sigma = heat(molecules, seed)
    found = places(POLICY, sigma, molecules, 4)
    assert found
    assert violations(found, sigma, molecules, POLICY) == []


def test_the_first_is_the_region_itself_with_its_history(liquid) -> None:
    molecules = liquid("cube", 4)
    before = POLICY.select(heat(molecules, 4), empty_region(), molecules.positions, molecules)
    sigma = heat(molecules, 5)
    expected = POLICY.select(sigma, before, molecules.positions, molecules)
    found = places(POLICY, sigma, molecules, 3, before)
    assert found[0].atoms.tolist() == expected.atoms.tolist()
    assert {place.epoch for place in found} == {expected.epoch}


def test_each_further_place_is_what_a_frame_without_the_earlier_ones_gives(liquid) -> None:
    """Cool the atoms of the earlier places: the policy then chooses the next one."""
    checked = 0
    for seed in range(10):
        molecules = liquid("cube", seed)
        sigma = heat(molecules, seed)
        found = places(POLICY, sigma, molecules, 3)
        cooled = sigma.copy()
        cooled[np.concatenate([place.atoms for place in found[:-1]])] = 0.0
        # A hotter molecule may have been set aside because its place would overlap; then the law says nothing.
        if len(found) > 1 and np.argmax(cooled) in found[-1].core:
            checked += 1
            alone = POLICY.select(cooled, empty_region(), molecules.positions, molecules)
            assert alone.atoms.tolist() == found[-1].atoms.tolist()
    assert checked >= 3


def test_growing_without_regard_to_earlier_places_would_share_atoms(build) -> None:
    """The twin: two hot atoms on either side of one buffer molecule, grown one after the other."""
    molecules = row(build, [0, 1.5, 3.0, 40])
    sigma = np.array([0.9, 0.1, 0.8, 0.7])
    alone = [np.where(np.arange(4) == seed, sigma, 0.0) for seed in (0, 2)]
    naive = tuple(POLICY.select(only, empty_region(), molecules.positions, molecules) for only in alone)
    assert violations(naive, sigma, molecules, POLICY) == ["shared atom"]
    assert violations(places(POLICY, sigma, molecules, 4), sigma, molecules, POLICY) == []


def test_far_places_count_and_near_ones_merge_or_wait(build) -> None:
    molecules = row(build, [0, 1.5, 20, 21.5, 40])
    found = places(POLICY, [0.9, 0.1, 0.8, 0.1, 0.7], molecules, 5)
    assert [place.atoms.tolist() for place in found] == [[0, 1], [2, 3], [4]]
    assert [place.core.tolist() for place in found] == [[0], [2], [4]]
    # At 3 Å from the first: its buffer molecule would be shared. All three fit into one place.
    near = row(build, [0, 1.5, 3.0, 40])
    found = places(POLICY, [0.9, 0.1, 0.8, 0.7], near, 5)
    assert [place.atoms.tolist() for place in found] == [[0, 1, 2], [3]]
    assert [place.core.tolist() for place in found] == [[0, 2], [3]]
    # Where they do not, the hotter one keeps its buffer and the other waits; the far one is labelled.
    found = places(replace(POLICY, max_atoms=2), [0.9, 0.1, 0.8, 0.7], near, 5)
    assert [place.atoms.tolist() for place in found] == [[0, 1], [3]]


def test_no_more_than_asked_and_none_where_nothing_is_hot(build) -> None:
    molecules = row(build, [0, 20, 40])
    assert len(places(POLICY, [0.9, 0.8, 0.7], molecules, 2)) == 2
    assert len(places(POLICY, [0.9, 0.8, 0.7], molecules, 1)) == 1
    assert places(POLICY, [0.9, 0.8, 0.7], molecules, 0) == ()
    assert places(POLICY, [0.5, 0.5, 0.5], molecules, 3) == ()


def test_a_later_molecule_that_is_too_large_is_left_out_but_the_first_is_refused(build) -> None:
    molecules = row(build, [0, 20, 40], sizes=[1, 5, 1])
    small = replace(POLICY, max_atoms=4)
    found = places(small, [0.9] + [0.8] * 5 + [0.7], molecules, 3)
    assert [place.atoms.tolist() for place in found] == [[0], [6]]
    with pytest.raises(RegionError, match="has 5 atoms"):
        places(small, [0.7] + [0.8] * 5 + [0.7], molecules, 3)
