"""Whether a label is rather wrong than the model: no genuine label is thrown out, and foreign forces are."""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from qmml_md.ensemble import weights
from qmml_md.learning.gate import cluster_forces
from qmml_md.learning.outlier import COMPETENT, MIN_EARLIER, WORSE, Earlier, outlier
from qmml_md.system.molecules import Floats

DATA = Path(__file__).parents[2] / "data"
SERIES = ("ethanol_300K_fine", "ethanol_450K", "water5_350K")

Pair = tuple[Floats, Floats]


def earlier_of(pair: Pair) -> Earlier:
    model, label = pair
    rmse, rms = (float(np.sqrt((x**2).mean())) for x in (model - label, label))
    return Earlier(force_rmse=rmse, force_rms=rms)


def series(name: str, ensemble, as_cluster) -> list[Pair]:
    """Forces of the ensemble and of the label for each frame, eV/Å."""
    frames = ase.io.read(DATA / "quantum" / f"{name}_wb97x_631gd.extxyz", ":")
    return [(cluster_forces(ensemble, as_cluster(atoms)), atoms.get_forces()) for atoms in frames]


@pytest.fixture(scope="module")
def judged(ani1x, cluster_of) -> dict[str, list[Pair]]:
    return {name: series(name, ani1x, cluster_of) for name in SERIES}


@pytest.fixture(scope="module")
def judged_by_chance(cluster_of) -> dict[str, list[Pair]]:
    mini = weights.load(str(DATA / "ani_mini.safetensors"))
    return {name: series(name, mini, cluster_of) for name in SERIES}


def alarms(pairs: list[Pair]) -> int:
    seen: list[Earlier] = []
    count = 0
    for pair in pairs:
        count += outlier(*pair, seen) != ""
        seen.append(earlier_of(pair))
    return count


def worst_step(pairs: list[Pair]) -> float:
    """Largest residual in terms of the largest one before it."""
    rmse = [earlier_of(pair).force_rmse for pair in pairs]
    return max(rmse[k] / max(rmse[:k]) for k in range(MIN_EARLIER, len(rmse)))


def test_no_genuine_label_is_an_outlier(judged, judged_by_chance) -> None:
    rng = np.random.default_rng(3)
    steps = []
    total = 0
    for told in (judged, judged_by_chance):
        for pairs in told.values():
            orders = [pairs, *([pairs[k] for k in rng.permutation(len(pairs))] for _ in range(20))]
            assert sum(alarms(order) for order in orders) == 0
            steps += [worst_step(order) for order in orders]
            total += sum(len(order) for order in orders)
    print(f"\nfalse alarms: 0 of {total}; largest residual in terms of those before it: {max(steps):.2f}")
    assert max(steps) < WORSE / 2


def test_another_molecule_is_no_outlier(judged) -> None:
    """A model that was right about one molecule meets another: all the labels there are genuine."""
    names = [(a, b) for a in SERIES for b in SERIES if a != b]
    assert sum(alarms(judged[a][:3] + judged[b]) for a, b in names) == 0


def test_a_model_that_is_merely_bad_at_a_place_is_believed_less_than_the_label(judged) -> None:
    """Residuals twenty times those before, as at a bond that breaks; the model still knows most of the forces."""
    pairs = judged["ethanol_450K"]
    seen = [earlier_of(pair) for pair in pairs[:10]]
    rng = np.random.default_rng(5)
    for _, label in pairs[10:]:
        rms = np.sqrt((label**2).mean())
        wrong = rng.normal(size=label.shape)
        wrong *= 0.9 * rms / np.sqrt((wrong**2).mean())
        assert outlier(label + wrong, label, seen) == ""


def test_foreign_forces_are_outliers(judged) -> None:
    """Inverted, permuted, turned, of another frame, too small; what is too large looks like a collision."""
    rng, caught, total = np.random.default_rng(4), 0, 0
    missed: dict[str, int] = {}
    for name, pairs in judged.items():
        seen = [earlier_of(pair) for pair in pairs[:10]]
        for k, (model, label) in enumerate(pairs[10:]):
            turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            wrong = {
                "inverted": -label,
                "hartree/bohr": label / 51.42,
                "permuted": label[np.roll(np.arange(len(label)), 1 + k % (len(label) - 1))],
                "turned": label @ turn.T,
                "another frame": pairs[(k + 40) % len(pairs)][1],
            }
            for what, forces in wrong.items():
                hit = outlier(model, forces, seen) != ""
                caught, total = caught + hit, total + 1
                missed[f"{name} {what}"] = missed.get(f"{name} {what}", 0) + (not hit)
    print(f"\ncaught: {caught} of {total}; missed: { {k: v for k, v in missed.items() if v} }")
    assert caught / total > 0.95


def test_nobody_is_judged_by_a_model_that_was_never_right(judged) -> None:
    rng = np.random.default_rng(6)
    pairs = [(rng.normal(size=label.shape), label) for _, label in judged["ethanol_450K"]]
    seen = [earlier_of(pair) for pair in pairs[:10]]
    assert all(each.force_rmse > COMPETENT * each.force_rms for each in seen)
    model, label = pairs[10]
    assert outlier(model, -100.0 * label, seen) == ""


def test_nobody_is_judged_before_there_are_three_labels(judged) -> None:
    pairs = judged["ethanol_450K"]
    model, label = pairs[5]
    for count in range(5):
        told = outlier(model, -10.0 * label, [earlier_of(pair) for pair in pairs[:count]])
        assert (told != "") == (count >= MIN_EARLIER)
    assert "unlike those of the ensemble" in told
