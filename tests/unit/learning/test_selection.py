"""Laws of the choice: spread out, doubtful, within the budget, never the same geometry twice, blind to order."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qmml_md.ensemble import weights
from qmml_md.learning.features import Features, featurise
from qmml_md.learning.selection import SAME_GEOMETRY, Candidate, choose, pick_from_pool
from qmml_md.region.cluster import Cluster


def point(*rows: Sequence[float], elements: Sequence[int] | None = None) -> Features:
    """A cluster whose atoms have the given AEVs."""
    aev = torch.tensor(np.array(rows, dtype=np.float64))
    kinds = torch.tensor(elements or [0] * len(rows))
    return Features(elements=kinds, aev=aev, jacobian=torch.zeros(aev.numel(), 3 * len(rows), dtype=torch.float64))


def cluster(atoms: int) -> Cluster:
    """Helium atoms in a row."""
    places = np.zeros((atoms, 3))
    places[:, 0] = 3.0 * np.arange(atoms)
    return Cluster(
        numbers=np.full(atoms, 2), positions=places, parent=np.arange(atoms), links=np.zeros((0, 2), dtype=np.int64),
        charge=0, multiplicity=1,
    )  # fmt: skip


def candidates(features: list[Features], doubt: Sequence[float] | None = None) -> list[Candidate]:
    marks = doubt if doubt is not None else [1.0] * len(features)
    return [
        Candidate(step=k, cluster=cluster(f.atoms), doubt=d, features=f)
        for k, (f, d) in enumerate(zip(features, marks, strict=True))
    ]


def unit_cost(_: Cluster) -> float:
    return 1.0


def crowd(seed: int = 0) -> tuple[list[Features], np.ndarray]:
    """Three tight groups of ten clusters each, 10 apart; the first group has the largest doubts."""
    rng = np.random.default_rng(seed)
    centres = np.repeat([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 10, axis=0)
    places = centres + 0.1 * rng.normal(size=centres.shape)
    return [point(tuple(p)) for p in places], np.repeat([1.0, 0.5, 0.4], 10) + 0.01 * rng.random(30)


def groups(chosen: list[int]) -> list[int]:
    return [k // 10 for k in chosen]


@pytest.mark.parametrize("seed", range(5))
def test_one_of_each_group_comes_first(seed: int) -> None:
    features, doubt = crowd(seed)
    chosen = choose(candidates(features, doubt.tolist()), [], count=3, cost=unit_cost)
    assert sorted(groups(chosen)) == [0, 1, 2]
    # The twin: disagreement alone labels the same place three times.
    assert groups(np.argsort(-doubt)[:3].tolist()) == [0, 0, 0]


def test_of_two_equal_places_the_more_doubtful_is_chosen() -> None:
    features = [point((0.0, 0.0)), point((5.0, 0.0)), point((0.0, 5.0)), point((5.0, 5.0))]
    for hot in range(4):
        doubt = [1.0] * 4
        doubt[hot] = 1.2
        assert choose(candidates(features, doubt), [], count=1, cost=unit_cost) == [hot]


def test_link_atoms_make_no_label_worth_more() -> None:
    # Two clusters with one atom each in the same place; the first has a second atom far from everything. If that is a
    # link atom the clusters are worth the same, and the more doubtful one is chosen.
    pool = candidates([point((0.0, 0.0), (50.0, 50.0)), point((0.0, 0.0)), point((1.0, 0.0))], [1.0, 1.1, 0.1])
    capped = replace(pool[0], cluster=replace(pool[0].cluster, links=np.array([[1, 0]])))
    assert choose([capped, *pool[1:]], [], count=1, cost=unit_cost) == [1]
    # The twin: as an atom of the simulation it is worth a label.
    assert choose(pool, [], count=1, cost=unit_cost) == [0]


def test_what_stands_for_many_comes_before_an_outlier() -> None:
    features, _ = crowd()
    outlier = point((100.0, 0.0))
    near = [point((100.0 + 20.0, 0.0))]
    chosen = pick_from_pool([*features, outlier], np.ones(31), 1, near)
    # A labelled cluster lies 20 from the outlier: its gain is at most 400, that of a group of ten much more.
    assert chosen[0] < 30
    # The twin: the farthest point from all others would be the outlier.
    places = np.array([f.aev[0].numpy() for f in [*features, outlier]])
    assert int(np.linalg.norm(places - places.mean(0), axis=1).argmax()) == 30


def test_labelled_geometry_is_not_chosen_again() -> None:
    features, doubt = crowd()
    moved = point(tuple((features[4].aev[0] + 0.5 * SAME_GEOMETRY).tolist()))
    # Off by 0.71 of the tolerance: the same; by 10 of it: another.
    chosen = pick_from_pool(features, doubt, 30, [moved])
    assert 4 not in chosen
    assert len(chosen) == len(set(chosen)) == 29
    other = point(tuple((features[4].aev[0] + 10 * SAME_GEOMETRY).tolist()))
    assert 4 in pick_from_pool(features, doubt, 30, [other])


def test_twins_in_the_pool_are_chosen_once() -> None:
    features = [point((0.0, 0.0)), point((0.0, 0.0)), point((3.0, 0.0)), point((3.0, 0.0))]
    assert len(pick_from_pool(features, np.ones(4), 4)) == 2


def test_labels_that_exist_move_the_choice_elsewhere() -> None:
    features, doubt = crowd()
    assert 0 not in groups(pick_from_pool(features, doubt, 2, features[:1]))


def spent(chosen: list[int], seconds: Sequence[float]) -> float:
    return float(sum(seconds[k] for k in chosen))


@pytest.mark.parametrize("budget", [0.5, 1.0, 5.0, 12.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_budget_holds(budget: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = [point(*rng.normal(size=(int(n), 2))) for n in rng.integers(1, 6, 20)]
    pool = candidates(features, rng.uniform(0.1, 1.0, 20).tolist())
    price = {f.atoms: 0.7 * f.atoms**1.8 for f in features}
    chosen = choose(pool, [], count=6, budget_s=budget, cost=lambda c: price[c.size])
    seconds = [price[f.atoms] for f in features]
    assert spent(chosen, seconds) <= budget
    assert len(chosen) <= 6
    if budget < min(seconds):
        assert chosen == []
    if budget == 100.0:
        # The twin: without a budget the same call spends more than a tight one allows.
        free = choose(pool, [], count=6, cost=lambda c: price[c.size])
        assert spent(free, seconds) > 5.0


def test_two_cheap_labels_can_beat_one_dear_one() -> None:
    """A large cluster that takes the whole budget brings less than two small ones that share it."""
    rng = np.random.default_rng(0)
    places = np.concatenate([[[0.0, 0.0]] * 5, [[8.0, 0.0]] * 5]) + 0.1 * rng.normal(size=(10, 2))
    small = [point(tuple(p)) for p in places]
    large = point((0.0, 0.5), (0.5, 0.0), (0.0, -0.5))
    pool = candidates([*small, large], [1.0] * 10 + [1.2])
    price = {1: 1.0, 3: 2.0}
    chosen = choose(pool, [], count=3, budget_s=2.0, cost=lambda c: price[c.size])
    assert sorted(k // 5 for k in chosen) == [0, 1]


def test_a_single_model_has_no_doubt_and_still_spreads() -> None:
    features, _ = crowd()
    assert sorted(groups(pick_from_pool(features, np.zeros(30), 3))) == [0, 1, 2]


@pytest.mark.parametrize("doubt", [[-1.0], [np.nan], [np.inf], [1.0, 1.0]])
def test_senseless_doubts_and_costs_are_refused(doubt: list[float]) -> None:
    with pytest.raises(ValueError, match="doubts"):
        pick_from_pool([point((0.0, 0.0))], np.array(doubt), 1)
    with pytest.raises(ValueError, match="cost"):
        choose(candidates([point((0.0, 0.0))]), [], count=1, budget_s=1.0, cost=lambda _: 0.0)


def test_nothing_to_choose_from_is_nothing_chosen() -> None:
    assert choose([], [], count=3, cost=unit_cost) == []
    assert pick_from_pool([point((0.0, 0.0))], np.ones(1), 0) == []


def test_elements_are_compared_among_themselves() -> None:
    """An oxygen far from all oxygens is new, wherever hydrogens stand."""
    labelled = [point((0.0, 0.0), (5.0, 5.0), elements=[0, 1])]
    known = point((0.0, 0.0), (5.0, 5.0), elements=[0, 1])
    swapped = point((0.0, 0.0), (5.0, 5.0), elements=[1, 0])
    assert pick_from_pool([known, swapped], np.ones(2), 2, labelled) == [1]


@pytest.fixture(scope="module")
def tiny():
    """The tiny ensemble in single precision."""
    return weights.load(str(Path(__file__).parents[2] / "data" / "ani_mini.safetensors"))


@pytest.fixture(scope="module")
def ethanol(hot, tiny) -> list[Features]:
    return [featurise(tiny, a.numbers, a.positions) for a in hot[:16]]


def test_order_of_atoms_and_motion_as_a_whole_do_not_matter(hot, tiny, ethanol) -> None:
    rng = np.random.default_rng(5)
    doubt = rng.uniform(0.2, 0.6, len(ethanol))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    others = []
    for atoms in hot[:16]:
        order = rng.permutation(len(atoms))
        others.append(featurise(tiny, atoms.numbers[order], (atoms.positions @ turn + 3.0)[order]))
    expected = pick_from_pool(ethanol, doubt, 8)
    assert pick_from_pool(others, doubt, 8) == expected
    # A turned and reordered label is the same geometry, in single precision too; the next frame is not.
    assert expected[0] not in pick_from_pool(ethanol, doubt, 16, [others[expected[0]]])
    # The twin: frames matter; another series gives another choice.
    assert pick_from_pool(ethanol[::-1], doubt, 8) != expected


def covered(features: list[Features], chosen: list[int]) -> float:
    """Sum of squared AEV distances of all atoms to the nearest chosen one of their element."""
    total = 0.0
    for f in features:
        for z, g in zip(f.elements.tolist(), f.aev, strict=True):
            total += min(float((features[k].aev[features[k].elements == z] - g).square().sum(1).min()) for k in chosen)
    return total


def test_pool_is_covered_better_than_by_chance(ethanol) -> None:
    rng = np.random.default_rng(2)
    ours = covered(ethanol, pick_from_pool(ethanol, np.ones(16), 4))
    by_chance = [covered(ethanol, rng.choice(16, 4, replace=False).tolist()) for _ in range(50)]
    # Greedy reaches at least 1 − 1/e of the possible gain; here it must beat all but one in ten of random choices.
    assert np.mean([ours > other for other in by_chance]) <= 0.1


def test_a_single_candidate_is_chosen_unless_it_is_labelled() -> None:
    only = point((1.0, 2.0))
    assert choose(candidates([only]), [], count=2, cost=unit_cost) == [0]
    assert choose(candidates([only]), [only], count=2, cost=unit_cost) == []
