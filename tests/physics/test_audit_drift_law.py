"""The error bar of a drift is true: over many runs the error of the slope, in bars, is a standard normal variate."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.signal import lfilter

from qmml_md.analysis.conservation.drift import slope

RUNS, FRAMES, PHI, SLOPE = 600, 2000, 0.8, 0.03


def correlated_series(rng, time):
    """A known slope under first-order autoregressive noise of unit variance."""
    kicks = rng.normal(size=len(time)) * np.sqrt(1.0 - PHI**2)
    kicks[0] = rng.normal()
    return SLOPE * time + lfilter([1.0], [1.0, -PHI], kicks)


@pytest.fixture(scope="module")
def replicas():
    """Errors of the slope in bars, in bars of independent frames, and whether the interval covers it, by replica."""
    rng = np.random.default_rng(2024)
    time = np.linspace(0.0, 100.0, FRAMES)
    found = [slope(time, correlated_series(rng, time)) for _ in range(RUNS)]
    error = np.array([line.value - SLOPE for line in found])
    bar = np.array([line.standard_error for line in found])
    half = np.array([line.half_width for line in found])
    root = np.sqrt([FRAMES / line.effective_samples for line in found])
    return SimpleNamespace(
        scores=error / bar, naive=error / (bar / root), covered=np.abs(error) <= half,
        naively_covered=np.abs(error) <= half / root, bounds=np.array([line.bound for line in found]),
    )  # fmt: skip


def test_slope_lies_within_its_interval_as_often_as_it_should(replicas):
    # 95 % of 600 replicas is 570 ± 5.3 (0.9 %); three σ are 92.3 to 97.7 %. The bar itself is known to some 5 %: g
    # comes from 2000 frames, 2000/g = 222 of them independent. That moves the coverage of a normal by one per cent.
    assert 0.92 <= replicas.covered.mean() <= 0.98


def test_error_in_bars_is_a_standard_normal_variate(replicas):
    # The mean of 600 standard normal variates has σ = 0.041, four of it 0.16; their standard deviation has σ = 0.029,
    # four of it 0.12, and the error of the bar of 5 % comes on top.
    assert abs(replicas.scores.mean()) < 0.16
    assert 0.83 < replicas.scores.std() < 1.17


def test_bar_of_independent_frames_would_be_far_too_short(replicas):
    # The sabotaged twin: without √g = √((1+φ)/(1−φ)) = 3 the interval is a third as wide: ±0.65 σ, which covers 49 %.
    assert replicas.naive.std() > 2.5
    assert not 0.92 <= replicas.naively_covered.mean() <= 0.98
    assert 0.4 < replicas.naively_covered.mean() < 0.58


def test_two_sided_bound_holds_as_often_as_it_should(replicas):
    # |slope| exceeds the bound only where the interval fails, and then on one of its two sides.
    assert (replicas.bounds >= SLOPE).mean() >= replicas.covered.mean()
