"""Reweighting: exact for a harmonic oscillator, honest about frames that are left."""

import numpy as np
import pytest

from qmml_md.analysis.findings import Status
from qmml_md.analysis.probes.reweighting import (
    MIN_EFFECTIVE,
    effective_sample_size,
    log_weights,
    reweighted_mean,
    reweighting_part,
)
from qmml_md.errors import AuditError
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

T = 300.0
KT = BOLTZMANN_KJ_PER_MOL_PER_K * T


def oscillators(ratio, n=20000, seed=1):
    """Canonical samples of U = ½x², and the energies of U_f = ½·ratio·x²."""
    x = np.random.default_rng(seed).normal(size=n) * np.sqrt(KT)
    return 0.5 * x**2, 0.5 * ratio * x**2


def found(part):
    return {finding.name: finding for finding in part.findings}


def test_reweighted_energy_and_free_energy_of_an_oscillator():
    # On the final surface ⟨U_f⟩ = ½kT whatever its force constant, and ΔF = ½kT ln(ratio).
    used, final = oscillators(1.3)
    rows = found(reweighting_part(used, final, temperature_K=T))
    energy, free = rows["potential_final_reweighted"], rows["free_energy_final_minus_used"]
    # Four standard errors: one false alarm in 16,000 seeds. The bar itself must be small: ½x² has a standard deviation
    # of 0.71 kT, so 20,000 draws tell its mean to 0.5 %, and unequal weights make that somewhat larger.
    assert abs(energy.value - 0.5 * KT) < 4.0 * energy.standard_error
    assert energy.standard_error < 0.02 * KT
    assert abs(free.value - 0.5 * KT * np.log(1.3)) < 4.0 * free.standard_error
    assert free.standard_error < 0.01 * KT


def test_wrong_sign_of_the_weight_would_be_seen():
    # The sabotaged twin: with exp(+β(U_f − U)) the mean is that of another ensemble, 0.5·1.3·kT/(2−1.3) = 0.93 kT.
    used, final = oscillators(1.3)
    wrong = reweighted_mean(final, log_weights(final, used, temperature_K=T))
    assert abs(wrong.value - 0.5 * KT) > 20.0 * wrong.standard_error


def test_effective_sample_size_of_an_oscillator_is_the_analytic_one():
    # ⟨w⟩²/⟨w²⟩ with w = exp(−a y²/2), y normal, a = ratio − 1: √(1+2a)/(1+a).
    used, final = oscillators(1.5, n=200000)
    kish = effective_sample_size(log_weights(used, final, temperature_K=T))
    # The relative spread of ⟨w²⟩ over 2e5 draws is below 2e-3; five of it.
    assert kish / 200000 == pytest.approx(np.sqrt(2.0) / 1.5, rel=1e-2)


def test_equal_surfaces_keep_every_frame_and_huge_differences_keep_one():
    used = np.linspace(-1e5, 1e5, 50)
    assert effective_sample_size(log_weights(used, used + 12345.0, temperature_K=T)) == pytest.approx(50.0)
    assert effective_sample_size(log_weights(used, 2.0 * used, temperature_K=T)) == pytest.approx(1.0)


def test_correlated_frames_count_less():
    rng = np.random.default_rng(6)
    noise, series = rng.normal(size=20000), np.empty(20000)
    series[0] = noise[0]
    for i in range(1, len(series)):
        series[i] = 0.9 * series[i - 1] + np.sqrt(1 - 0.81) * noise[i]
    used = 0.5 * KT * series**2
    part = reweighting_part(used, 1.1 * used, temperature_K=T)
    rows = found(part)
    kish, left = (rows[f"reweighting_effective_samples{s}"].value for s in ("", "_decorrelated"))
    # x² of an AR(1) with φ = 0.9 decays as φ² = 0.81: g = 1.81/0.19 = 9.5, known to 10 % from 2000 independent frames.
    assert kish / left == pytest.approx(9.5, rel=0.3)
    assert part.checks[0].status == Status.PASS
    assert (
        abs(rows["potential_final_reweighted"].value - 0.5 * KT)
        < 4.0 * rows["potential_final_reweighted"].standard_error
    )


def test_few_effective_frames_are_no_failure_and_have_no_error_bar():
    used = np.random.default_rng(3).normal(size=300)
    part = reweighting_part(used, used + 60.0 * used, temperature_K=T)
    assert part.checks[0].status == Status.NOT_APPLICABLE
    assert "too few" in part.checks[0].why
    rows = found(part)
    assert rows["reweighting_effective_samples_decorrelated"].value < MIN_EFFECTIVE
    assert np.isinf(rows["potential_final_reweighted"].standard_error)


def test_constant_energy_is_not_applicable_and_bad_input_is_refused():
    used = np.zeros(20)
    assert reweighting_part(used, used, temperature_K=T, canonical=False).checks[0].status == Status.NOT_APPLICABLE
    for a, b, t in [(used, np.zeros(19), T), (used, used * np.nan, T), (used[:0], used[:0], T), (used, used, 0.0)]:
        with pytest.raises(AuditError, match="reweight"):
            reweighting_part(a, b, temperature_K=t)
