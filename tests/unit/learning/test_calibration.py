"""Calibration: fits what it is shown, keeps its promise on what it has not seen, and never looks ahead."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from qmml_md.ensemble.disagreement import disagreement
from qmml_md.learning import calibration
from qmml_md.learning.calibration import Calibration, Sample, calibrations, fit_calibration, prequential
from qmml_md.learning.features import featurise, member_energies_and_forces
from qmml_md.learning.novelty import make_novelty
from qmml_md.records.scores import score
from qmml_md.units import EV_PER_HARTREE

#: True scale and offset of each element in made-up labels.
TRUTH = {1: (0.45, 0.05), 6: (0.8, 0.1), 8: (0.6, 0.2)}
ETHANOL = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])


def truth(sigma, elements):
    """Mean error in made-up labels, eV/Å."""
    scale, offset = (np.array([TRUTH[int(z)][k] for z in elements]) for k in (0, 1))
    return scale * np.hypot(sigma, offset)


def made_up(count, seed, *, wider=1.0, elements=ETHANOL):
    """Labels whose errors are lengths of normal vectors, all of one label a little larger or smaller together."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        sigma = rng.uniform(0.08, 0.5, len(elements))
        # The mean length of a normal vector of three unit components is sqrt(8/π).
        length = np.linalg.norm(rng.normal(size=(len(elements), 3)), axis=1) / np.sqrt(8.0 / np.pi)
        common = np.exp(rng.normal(0.0, 0.1))
        error = wider * common * length * truth(sigma, elements)
        out.append(Sample(sigma=sigma, error=error, elements=elements, novelty=np.ones(len(elements))))
    return out


@pytest.fixture(scope="module")
def real(ani1x, frames):
    """Ethanol at 300 K, the published ensemble, never trained: σ and true errors in order."""
    out, known = [], []
    for atoms in frames[::2]:
        features = featurise(ani1x, atoms.numbers, atoms.positions)
        forces = member_energies_and_forces(ani1x, features)[1].detach().double().numpy() * EV_PER_HARTREE
        out.append(
            Sample(
                sigma=disagreement(forces),
                error=np.linalg.norm(forces.mean(0) - atoms.get_forces(), axis=1),
                elements=np.array(atoms.numbers),
                novelty=make_novelty(known).score(features),
            )
        )
        known.append(features)
    return out


def test_without_labels_sigma_is_about_twice_the_error():
    prior = fit_calibration(())
    sigma, elements = np.array([0.2, 0.4, 2.0]), np.array([1, 8, 16])
    assert prior.labels == 0
    # The offset of 0.1 eV/Å adds at most 12 % at σ = 0.2 eV/Å.
    assert prior.expected(sigma, elements) == pytest.approx(0.5 * sigma, rel=0.12)
    # Conservative: the quantile of imagined labels alone, 1.3 exp(1.28 · 0.55 − 0.55²/2) = 2.26.
    assert prior.factor == pytest.approx(2.26, rel=0.02)
    assert (prior.bound(sigma, elements) > sigma).all()


def test_recovers_scale_and_offset_of_each_element():
    found = fit_calibration(made_up(80, 1, elements=np.tile(ETHANOL, 6)))
    sigma = np.repeat([0.1, 0.25, 0.5], 3)
    elements = np.tile([1, 6, 8], 3)
    # Ten labels count (fading 0.9), that is 60 oxygens. The priors weigh as ten of them: a seventh of a pull by at
    # most log 2: 10 %. The mean length of 60 vectors has a standard error of 0.42/√60 = 5 %, the common factor of ten
    # labels 3 %.
    assert found.expected(sigma, elements) == pytest.approx(truth(sigma, elements), rel=0.2)
    # The twin: elements in each other's place are not recovered.
    assert found.expected(sigma, elements) != pytest.approx(truth(sigma, np.tile([6, 1, 8], 3)), rel=0.2)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_nine_unseen_atoms_in_ten_keep_their_bound(seed):
    samples = made_up(60, seed)
    scores = prequential(samples, target=0.2)
    assert 0.85 <= scores.coverage <= 0.95
    assert scores.miss_rate <= 0.02
    known = calibrations(samples)[:-1]
    for sabotage in (0.7, 1.5):
        bounds = [sabotage * c.bound(s.sigma, s.elements) for c, s in zip(known, samples, strict=True)]
        kept = np.concatenate([s.error <= b for s, b in zip(samples, bounds, strict=True)]).mean()
        assert not 0.85 <= kept <= 0.95


def test_keeps_its_promise_on_quantum_labels(real):
    # Figure L7. Half of σ, which is the expected error before any label, would be no bound.
    scores = prequential(real)
    assert 0.85 <= scores.coverage <= 0.95
    assert scores.miss_rate <= 0.02
    assert scores.spearman > 0.5
    last = real[5 * len(real) // 8 :]
    assert np.concatenate([s.error <= 0.5 * s.sigma for s in last]).mean() < 0.6


def test_never_looks_ahead():
    samples = made_up(12, 5)
    known = calibrations(samples)
    changed = [*samples[:8], dataclasses.replace(samples[8], error=9.0 * samples[8].error), *samples[9:]]
    again = calibrations(changed)
    assert len(known) == 13
    assert known[:9] == again[:9]
    assert known[9] != again[9]
    assert all(known[k] == fit_calibration(samples[:k]) for k in (0, 1, 7, 12))


def test_few_labels_are_met_with_caution():
    for seed in range(3):
        samples = made_up(40, 10 + seed)
        few, many = fit_calibration(samples[:3]), fit_calibration(samples)
        assert few.factor > many.factor


def test_old_labels_fade(monkeypatch):
    samples = made_up(40, 6) + made_up(20, 7, wider=2.0)
    sigma, elements = np.array([0.2, 0.3]), np.array([1, 6])
    now = 2.0 * truth(sigma, elements)
    # Of the weight, 0.9^20 = 12 % is of before, where log-errors were 0.69 lower: 8 % off; the rest for the noise of
    # ten labels, 0.42/√20 = 10 % for C, twice.
    assert fit_calibration(samples).expected(sigma, elements) == pytest.approx(now, rel=0.28)
    monkeypatch.setattr(calibration, "FADING", 1.0)
    assert fit_calibration(samples).expected(sigma, elements) != pytest.approx(now, rel=0.28)


def test_misses_widen_the_bound_beyond_the_quantile(monkeypatch):
    samples = made_up(20, 8) + made_up(3, 9, wider=3.0)
    assert fit_calibration(samples).miscoverage < 0.1 <= fit_calibration(samples[:20]).miscoverage
    answered = fit_calibration(samples).factor
    monkeypatch.setattr(calibration, "ANSWER", 0.0)
    assert answered > fit_calibration(samples).factor


def test_a_label_counts_once_however_many_atoms_it_has():
    small = made_up(11, 11)
    large = made_up(1, 12, wider=6.0, elements=np.tile(ETHANOL, 40))
    atoms = [
        Sample(**{f.name: getattr(large[0], f.name)[k::40] for f in dataclasses.fields(Sample)}) for k in range(40)
    ]
    # One label of about seven (faded) and three imagined ones is no tenth of the weight of the others and of it.
    as_one, as_many = fit_calibration([*large, *small]), fit_calibration([*small, *atoms])
    assert as_one.bound(np.array([0.2]), np.array([1])) < 0.5 * as_many.bound(np.array([0.2]), np.array([1]))


def test_sigma_at_inverts_the_element_that_errs_most():
    found = fit_calibration(made_up(60, 13))
    sigma = found.sigma_at(0.3)
    expected = [float(found.expected(np.array([sigma]), np.array([z]))[0]) for z in (1, 6, 8)]
    assert max(expected) == pytest.approx(0.3, rel=1e-12)
    assert found.sigma_at(1e-6) == 0.0
    assert fit_calibration(()).sigma_at(0.5) == pytest.approx(np.sqrt(1.0 - 0.01))


def test_unknown_elements_take_the_fit_of_all():
    found = fit_calibration(made_up(30, 14))
    sulphur = float(found.expected(np.array([0.2]), np.array([16]))[0])
    assert sulphur == pytest.approx(found.scale * np.hypot(0.2, found.offset))
    others = found.expected(np.full(3, 0.2), np.array([1, 6, 8]))
    assert others.min() < sulphur < others.max()


def test_novelty_widens_the_bound_and_never_narrows_it():
    found = fit_calibration(made_up(10, 15))
    sigma, elements = np.full(3, 0.2), np.full(3, 6)
    plain = found.bound(sigma, elements)
    new = found.bound(sigma, elements, np.array([0.2, 1.0, 10.0]))
    assert (new[:2] == plain[:2]).all()
    assert new[2] == pytest.approx(10.0**0.25 * plain[2])


def test_survives_extremes():
    one = made_up(1, 16)[0]
    still = [dataclasses.replace(one, sigma=np.zeros(9)), dataclasses.replace(one, error=np.zeros(9))]
    wild = dataclasses.replace(one, sigma=1e3 * one.sigma, error=1e4 * one.error)
    for samples in (still, [*still, wild], [wild] * 5, still * 30):
        found = fit_calibration(samples)
        assert np.isfinite([*found.scales, *found.offsets, found.scale, found.offset, found.factor]).all()
        assert (found.expected(one.sigma, one.elements) > 0.0).all()


def test_goes_to_json_and_back():
    for samples in ([], made_up(7, 17)):
        found = fit_calibration(samples)
        assert Calibration.from_plain(json.loads(json.dumps(found.plain()))) == found


@pytest.mark.parametrize("change", [{"sigma": np.ones(8)}, {"error": np.full(9, np.nan)}])
def test_samples_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=r"sample"):
        dataclasses.replace(made_up(1, 18)[0], **change)


def test_scores_are_what_their_definitions_say():
    expected, error = np.array([0.1, 0.2, 0.3, 0.4, 0.1]), np.array([0.1, 0.5, 0.2, 0.5, 0.35])
    bound = np.array([0.2, 0.4, 0.6, 0.8, 0.25])
    found = score(expected, bound, error, 0.3)
    assert found.coverage == pytest.approx(3 / 5)
    assert found.miss_rate == pytest.approx(1 / 5)
    assert found.false_alarm_rate == pytest.approx(1 / 2)
    assert found.found == pytest.approx(2 / 3)
    assert found.spearman == pytest.approx(stats.spearmanr(expected, error).statistic)
    assert found.sharpness == pytest.approx(bound.mean() / error.mean())


def test_worst_miss_rate_is_that_of_the_worst_target():
    rng = np.random.default_rng(19)
    bound, error = rng.uniform(0.1, 1.0, 200), rng.uniform(0.0, 1.0, 200)
    rates = [((error > t) & (bound <= t)).mean() for t in np.linspace(0.0, 1.0, 4001)]
    # The grid of targets can lie between two bounds that are both below an error: one atom in 200 at most.
    assert score(bound, bound, error).worst_miss_rate == pytest.approx(max(rates), abs=1 / 200)
    assert score(bound, bound, 0.5 * bound).worst_miss_rate == 0.0


def test_nothing_to_score_is_no_number():
    found = prequential([])
    assert found.atoms == 0
    assert np.isnan([found.coverage, found.miss_rate, found.worst_miss_rate, found.spearman, found.sharpness]).all()
