"""The error bar of a drift is true: over many runs the error of the slope, in bars, is a standard normal variate."""

import numpy as np

from qmml_md.analysis.drift import slope

RUNS, FRAMES, PHI, SLOPE = 300, 400, 0.8, 0.03


def correlated_series(rng, time):
    """A known slope under first-order autoregressive noise of unit variance."""
    kicks = rng.normal(size=len(time)) * np.sqrt(1.0 - PHI**2)
    noise = np.empty(len(time))
    noise[0] = rng.normal()
    for i in range(1, len(time)):
        noise[i] = PHI * noise[i - 1] + kicks[i]
    return SLOPE * time + noise


def scores_and_covered():
    rng = np.random.default_rng(2024)
    time = np.linspace(0.0, 100.0, FRAMES)
    found = [slope(time, correlated_series(rng, time)) for _ in range(RUNS)]
    error = np.array([line.value - SLOPE for line in found])
    bar = np.array([line.standard_error for line in found])
    covered = np.abs(error) <= [line.half_width for line in found]
    naive = bar / np.sqrt([FRAMES / line.effective_samples for line in found])
    return error / bar, error / naive, covered


def test_slope_lies_within_its_bar_as_often_as_it_should():
    scores, _, covered = scores_and_covered()
    # The mean of 300 standard normal variates has σ = 0.058; four of it is 0.23.
    assert abs(scores.mean()) < 0.23
    # Their standard deviation has σ = 1/√(2·300) = 0.041 (four: 0.16). g is itself estimated from 400 frames, about 44
    # of them independent, and Geyer's rule truncates its sum: it is known to some 30 %, the bar to 15 %, on top.
    assert 0.7 < scores.std() < 1.35
    # 95 % of 300 is 285 ± 3.8; four σ is 270 (90 %); the same 15 % in the bar takes the coverage of a normal to 91 %.
    assert covered.mean() > 0.86


def test_bar_of_independent_frames_would_be_far_too_short():
    # The sabotaged twin: without the factor √g = √((1+φ)/(1−φ)) = 3 the scores spread three times too wide.
    _, naive, _ = scores_and_covered()
    assert naive.std() > 2.0
