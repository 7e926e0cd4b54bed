"""Drift: the slope of a conserved quantity, with an error bar that knows that neighbouring frames are correlated.

Ordinary least squares gives the slope. Its textbook standard error assumes independent residuals; it is multiplied by
√g, where g = 1 + 2 Σ ρ(τ) is the statistical inefficiency of the residuals (Chodera et al., J. Chem. Theory Comput. 3,
26, 2007, doi:10.1021/ct0502864), summed while the correlation stays positive in pairs (Geyer's initial positive
sequence, Statist. Sci. 7, 473, 1992, doi:10.1214/ss/1177011137). g is never taken below one: anticorrelated residuals
do not make the bar smaller.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ...errors import AuditError
from ...records.frames import Floats
from ...units import BOLTZMANN_KJ_PER_MOL_PER_K, EV_PER_KJ_PER_MOL
from ..findings import Check, Finding, Kind, Status

#: Coverage of the interval that verdicts are made from.
CONFIDENCE = 0.95
#: With fewer frames no error bar is believed.
MIN_FRAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A slope in time.

    Attributes:
        value: kJ/mol/ps.
        standard_error: kJ/mol/ps; infinite where the series is too short to tell.
        half_width: half of the two-sided 95 % interval (Student's t with ``effective_samples`` − 2 degrees of freedom),
            kJ/mol/ps.
        effective_samples: number of frames divided by the statistical inefficiency of the residuals.
        residual_sd: standard deviation of the residuals, kJ/mol.
    """

    value: float
    standard_error: float
    half_width: float
    effective_samples: float
    residual_sd: float

    @property
    def bound(self) -> float:
        """The largest size of the slope inside its two-sided 95 % interval, kJ/mol/ps."""
        return abs(self.value) + self.half_width


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftUnits:
    """Factors from kJ/mol/ps to the units that people compare drifts in.

    Attributes:
        atoms: number of atoms.
        degrees_of_freedom: after constraints and conserved momentum.
        temperature: K, of the thermostat or of the initial velocities.
    """

    atoms: int
    degrees_of_freedom: int
    temperature: float

    def factors(self) -> dict[str, float]:
        """Factor by unit."""
        thermal = BOLTZMANN_KJ_PER_MOL_PER_K * self.temperature
        return {
            "kT/ns/dof": 1e3 / (thermal * self.degrees_of_freedom),
            "meV/atom/ps": 1e3 * EV_PER_KJ_PER_MOL / self.atoms,
            "kJ/mol/ns/atom": 1e3 / self.atoms,
        }


def statistical_inefficiency(series: Floats) -> float:
    """Statistical inefficiency g = 1 + 2 Σ ρ(τ) ≥ 1 of an evenly spaced series, shape (f,); 1 for a constant."""
    deviation = series - series.mean()
    n = len(deviation)
    variance = float(deviation @ deviation) / n
    if variance <= np.finfo(np.float64).eps ** 2 * max(1.0, float(series @ series) / n):
        return 1.0
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    spectrum = np.abs(np.fft.rfft(deviation, size)) ** 2
    rho = np.fft.irfft(spectrum, size)[:n] / (n * variance)
    pairs = rho[: 2 * (n // 2)].reshape(-1, 2).sum(axis=1)
    positive = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    return max(1.0, 2.0 * float(pairs[:positive].sum()) - 1.0)


def slope(time: Floats, series: Floats) -> Slope:
    """Fit a line by least squares.

    Args:
        time: ps, shape (f,), increasing.
        series: kJ/mol, shape (f,).

    Raises:
        AuditError: the shapes differ.
    """
    if time.shape != series.shape:
        raise AuditError(f"time has shape {time.shape}, the series {series.shape}")
    n = len(time)
    if n < 2 or not np.isfinite(series).all() or np.ptp(time) == 0.0:
        return Slope(value=np.nan, standard_error=np.inf, half_width=np.inf, effective_samples=0.0, residual_sd=np.nan)
    centred = time - time.mean()
    spread = float(centred @ centred)
    value = float(centred @ (series - series.mean())) / spread
    residual = series - series.mean() - value * centred
    effective = n / statistical_inefficiency(residual)
    if n < MIN_FRAMES or effective <= 2.0:
        sd = float(residual.std())
        return Slope(value=value, standard_error=np.inf, half_width=np.inf, effective_samples=effective, residual_sd=sd)
    naive = np.sqrt(float(residual @ residual) / (n - 2) / spread)
    error = float(naive * np.sqrt(n / effective))
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, effective - 2.0))
    return Slope(
        value=value,
        standard_error=error,
        half_width=quantile * error,
        effective_samples=effective,
        residual_sd=float(residual.std()),
    )


def drift_findings(name: str, line: Slope, units: DriftUnits) -> list[Finding]:
    """The slope in each of the three units; a conserved quantity is expected to have none."""
    return [
        Finding(
            name=f"{name}_drift",
            value=line.value * factor,
            expected=0.0,
            standard_error=line.standard_error * factor,
            unit=unit,
        )
        for unit, factor in units.factors().items()
    ]


def drift_ratio(line: Slope, time: Floats, kinetic: Floats) -> Finding:
    """The drift over the whole run in standard deviations of the kinetic energy: ``|slope·T|/sd(K)``.

    Below one, the drift over the whole run is smaller than what the kinetic energy does by itself.

    Args:
        line: slope of the conserved quantity.
        time: ps, shape (f,).
        kinetic: kJ/mol, shape (f,).
    """
    spread, length = float(kinetic.std()), float(np.ptp(time)) if len(time) else 0.0
    if not spread > 0.0:
        return Finding(name="drift_ratio", value=float("nan"), expected=0.0, unit="1")
    error = line.standard_error * length / spread
    return Finding(
        name="drift_ratio", value=abs(line.value) * length / spread, expected=0.0, standard_error=error, unit="1"
    )


def bound_finding(name: str, line: Slope, units: DriftUnits) -> Finding:
    """The two-sided 95 % bound on the size of a slope, kT/ns/dof."""
    unit = "kT/ns/dof"
    return Finding(name=f"{name}_drift_bound_95", value=line.bound * units.factors()[unit], unit=unit)


def drift_check(line: Slope, units: DriftUnits, tolerance: float) -> Check:
    """Judge the slope of H̃; a verdict finer than the error bar is refused.

    Args:
        line: of H̃.
        units: of the run.
        tolerance: kT/ns/dof.

    Returns:
        ``pass`` if the whole 95 % interval lies within the tolerance, ``fail`` if the whole interval lies outside, else
        ``undecided``; a bar wider than the tolerance can therefore never pass.
    """
    factor = units.factors()["kT/ns/dof"]
    value, half = abs(line.value) * factor, line.half_width * factor
    if not np.isfinite(half):
        why = f"{line.effective_samples:.1f} independent frames are too few for an error bar; run longer"
        return Check(name="drift", kind=Kind.CONSERVATION, status=Status.UNDECIDED, why=why)
    shown = f"H̃ drifts by {line.value * factor:.3g} ± {half:.2g} kT/ns/dof (95 %)"
    if value + half <= tolerance:
        status, judgement = Status.PASS, f"within the tolerance of {tolerance:g}"
    elif value - half > tolerance:
        status, judgement = Status.FAIL, f"beyond the tolerance of {tolerance:g}"
    else:
        status, judgement = (
            Status.UNDECIDED,
            f"too wide a bar to judge against the tolerance of {tolerance:g}; run longer",
        )
    return Check(name="drift", kind=Kind.CONSERVATION, status=status, why=f"{shown}: {judgement}")
