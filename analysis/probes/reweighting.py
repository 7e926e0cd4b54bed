"""Reweighting a trajectory to the final surface, and how many frames are left of it.

A frame that was drawn with ``exp(−βU_used)`` counts on the final surface with the weight
``w ∝ exp(−β(U_f − U_used))`` (Zwanzig, J. Chem. Phys. 22, 1420, 1954, doi:10.1063/1.1740409). The effective sample size
of unequal weights is ``(Σw)²/Σw²`` (Kish, Survey Sampling, Wiley, 1965); frames that are correlated in time count for
fewer still, by the statistical inefficiency g of the series that is averaged.

Weights make sense for canonical frames alone: a microcanonical trajectory has no temperature to weight with.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from ...errors import AuditError
from ...records.frames import Floats
from ...units import BOLTZMANN_KJ_PER_MOL_PER_K
from ..conservation.drift import statistical_inefficiency
from ..findings import Check, Finding, Kind, Part, Status

#: Below so many effective frames a reweighted mean has no error bar that can be believed.
MIN_EFFECTIVE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A reweighted mean.

    Attributes:
        value: in the unit of the series.
        standard_error: of it, with unequal weights and correlation in time; infinite where too few frames are left.
        effective_samples: Kish's effective sample size over the statistical inefficiency.
    """

    value: float
    standard_error: float
    effective_samples: float


def log_weights(potential_used: Floats, potential_final: Floats, *, temperature_K: float) -> Floats:
    """Logarithms of the weights, which sum to one, shape (f,).

    Args:
        potential_used: kJ/mol, of the surface that moved the atoms, shape (f,).
        potential_final: kJ/mol, of the final one, shape (f,).
        temperature_K: K.

    Raises:
        AuditError: shapes differ, there is no frame, an energy is not finite, or the temperature is not positive.
    """
    if potential_used.shape != potential_final.shape or potential_used.ndim != 1 or len(potential_used) == 0:
        raise AuditError(f"potential energies to reweight have shapes {potential_used.shape}, {potential_final.shape}")
    if not (np.isfinite(potential_used).all() and np.isfinite(potential_final).all()):
        raise AuditError("a potential energy to reweight is not finite", cure="see the checks `order` and `replay`")
    if not temperature_K > 0:
        raise AuditError(f"temperature_K must be positive to reweight, not {temperature_K:g}")
    exponent = -(potential_final - potential_used) / (BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K)
    return np.asarray(exponent - logsumexp(exponent), dtype=np.float64)


def effective_sample_size(log_weight: Floats) -> float:
    """Kish's ``(Σw)²/Σw²`` from logarithms of weights in any normalisation: between 1 and their number."""
    return float(np.exp(2.0 * logsumexp(log_weight) - logsumexp(2.0 * log_weight)))


def reweighted_mean(series: Floats, log_weight: Floats) -> Mean:
    """Mean of a series under weights, with the error of a ratio of two correlated means.

    To first order the estimate errs by the mean of ``z = f w (x − x̄)``, w summing to one; its standard error is that of
    a mean of correlated numbers, ``sd(z) √(g(z)/f)``.

    Args:
        series: any unit, shape (f,), evenly spaced in time.
        log_weight: shape (f,), from ``log_weights``.
    """
    weight = np.exp(log_weight)
    value = float(weight @ series)
    influence = len(series) * weight * (series - value)
    inefficiency = max(statistical_inefficiency(influence), statistical_inefficiency(weight))
    effective = effective_sample_size(log_weight) / inefficiency
    error = float(np.sqrt(np.mean(influence**2) * inefficiency / len(series)))
    return Mean(
        value=value, standard_error=error if effective >= MIN_EFFECTIVE else np.inf, effective_samples=effective
    )


def reweighting_part(
    potential_used: Floats, potential_final: Floats, *, temperature_K: float, canonical: bool = True
) -> Part:
    """The check ``reweighting`` with effective sample sizes, the reweighted mean of U_f and the free energy of U_f − U.

    Few effective frames are no defect of the run: they say that averages on the final surface cannot be had from it.
    The check then is not applicable, and the standard errors are infinite.

    Args:
        potential_used: kJ/mol, shape (f,), of evenly spaced frames.
        potential_final: kJ/mol, shape (f,).
        temperature_K: K, of the thermostat.
        canonical: whether a thermostat made the frames.

    Raises:
        AuditError: see ``log_weights``.
    """
    if not canonical:
        why = "frames of constant energy have no temperature to be reweighted with"
        return Part(checks=(Check(name="reweighting", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why),))
    log_weight = log_weights(potential_used, potential_final, temperature_K=temperature_K)
    frames, kish = len(log_weight), effective_sample_size(log_weight)
    mean = reweighted_mean(potential_final, log_weight)
    largest = float(np.exp(log_weight.max()))
    shown = (
        f"on the final surface {frames} frames count for {kish:.1f}, and for {mean.effective_samples:.1f} after "
        f"correlation in time; the heaviest holds {100 * largest:.2g} % of the weight"
    )
    usable = mean.effective_samples >= MIN_EFFECTIVE
    why = shown if usable else f"{shown}: too few for averages on that surface; run the final model longer"
    check = Check(
        name="reweighting", kind=Kind.PHYSICS, status=Status.PASS if usable else Status.NOT_APPLICABLE, why=why
    )
    findings = (
        Finding(name="reweighting_effective_samples", value=kish, expected=float(frames), unit="1"),
        Finding(name="reweighting_effective_samples_decorrelated", value=mean.effective_samples, unit="1"),
        Finding(name="reweighting_largest_weight", value=largest, expected=1.0 / frames, unit="1"),
        Finding(name="potential_final_reweighted", value=mean.value, standard_error=mean.standard_error, unit="kJ/mol"),
        _free_energy(potential_used, potential_final, temperature_K, usable),
    )
    return Part(checks=(check,), findings=findings)


def _free_energy(used: Floats, final: Floats, temperature_K: float, usable: bool) -> Finding:
    """ΔF = −kT ln⟨exp(−β(U_f − U))⟩; its error is kT times the relative error of the mean, to first order."""
    unit = BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K
    exponent = -(final - used) / unit
    value = -unit * float(logsumexp(exponent) - np.log(len(exponent)))
    relative = np.exp(exponent + value / unit)
    error = unit * float(np.sqrt(relative.var() * statistical_inefficiency(relative) / len(relative)))
    return Finding(
        name="free_energy_final_minus_used", value=value, standard_error=error if usable else np.inf, unit="kJ/mol"
    )
