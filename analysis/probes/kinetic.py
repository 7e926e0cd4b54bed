"""Do the velocities have the distribution that the thermostat promises? Through the package physical_validation.

In the canonical ensemble the kinetic energy of N degrees of freedom has a gamma distribution with shape N/2 and scale
kT, and so has the share of every part of them (Merz, Shirts, PLoS ONE 13, e0202764, 2018,
doi:10.1371/journal.pone.0202764). physical_validation gives the distance of mean and width from it in bootstrapped
standard errors, and the p value of a Kolmogorov–Smirnov test.

A large sample finds any distribution wrong: at a finite time step the velocities of stiff modes are truly some percent
too cold. What is judged is therefore whether temperatures lie within a tolerance, as for a drift: ``pass`` if the 95 %
interval lies inside, ``fail`` only if the temperature lies outside beyond reasonable doubt, ``undecided`` in between.

Neighbouring frames are correlated. Each series is thinned by its own statistical inefficiency (``drift.py``) before the
library sees it; the squares that the width is made of forget sooner than the series itself, so that this is safe.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ...errors import AuditError
from ...records.frames import Floats
from ...units import BOLTZMANN_KJ_PER_MOL_PER_K
from ..conservation.drift import CONFIDENCE, statistical_inefficiency
from ..findings import Check, Finding, Kind, Part, Status
from .momentum import KEEPING

#: Relative tolerance of the temperature from the mean: BAOAB at 0.5 fs leaves an O–H stretch (ωΔt)²/4 = 3 % too cold.
MEAN_TOLERANCE = 0.05
#: The same from the width, which 50 frames tell to 1.96/√100 = 20 %; weak coupling (Berendsen) makes it wrong by half.
WIDTH_TOLERANCE = 0.20
#: Chance of a false alarm of one audit, shared among its tests.
FALSE_ALARM = 1e-4
#: Fewer independent frames do not tell a distribution.
MIN_SAMPLES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """What one series of kinetic energies says.

    Attributes:
        name: of the degrees of freedom.
        mean: temperature from the mean, K.
        mean_error: its standard error, K.
        width: temperature from the standard deviation, K.
        width_error: its standard error, K.
        p: of the Kolmogorov–Smirnov test against the gamma distribution.
        samples: independent frames.
    """

    name: str
    mean: float
    mean_error: float
    width: float
    width_error: float
    p: float
    samples: int


@contextmanager
def _quiet() -> Iterator[None]:
    """No advertisement of pymbar, and NumPy's global random state as it was: the library seeds it."""
    logger = logging.getLogger("pymbar")
    level, state = logger.level, np.random.get_state()  # noqa: NPY002 - to put it back
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        np.random.set_state(state)  # noqa: NPY002


def independent(series: Floats) -> Floats:
    """About f/g numbers of a correlated series of f, evenly spread, shape (s,)."""
    n, inefficiency = len(series), statistical_inefficiency(series)
    chosen = np.unique(np.round(np.arange(0.0, n - 0.5, inefficiency)).astype(np.int64))
    return series[chosen]


def measure(
    name: str, kinetic: Floats, *, degrees_of_freedom: float, temperature_K: float, rng: np.random.Generator
) -> Temperature:
    """Temperatures from mean and width of a series of kinetic energies.

    Args:
        name: of the degrees of freedom.
        kinetic: kJ/mol, shape (f,), evenly spaced in time.
        degrees_of_freedom: that hold this energy; need not be whole.
        temperature_K: that it should have.
        rng: seeds the bootstrap of the library.

    Raises:
        AuditError: the series is not finite, or there are no degrees of freedom.
    """
    if not np.isfinite(kinetic).all():
        raise AuditError(f"the kinetic energy of {name} is not finite", cure="see the check `order`")
    if not degrees_of_freedom > 0:
        raise AuditError(f"{name} has {degrees_of_freedom:g} degrees of freedom", cure="look at the constraints")
    sample = independent(kinetic)
    per_kelvin = 0.5 * degrees_of_freedom * BOLTZMANN_KJ_PER_MOL_PER_K
    mean = float(sample.mean()) / per_kelvin
    width = float(sample.std()) / per_kelvin * np.sqrt(degrees_of_freedom / 2.0)
    if len(sample) < MIN_SAMPLES or np.ptp(sample) == 0.0:
        return Temperature(
            name=name, mean=mean, mean_error=np.inf, width=width, width_error=np.inf, p=np.nan, samples=len(sample)
        )
    with _quiet():
        import physical_validation

        data = _simulation(physical_validation, sample, degrees_of_freedom, temperature_K)
        seed = int(rng.integers(2**31))
        options: dict[str, Any] = {"verbosity": 0, "data_is_uncorrelated": True, "bootstrap_seed": seed}
        far_mean, far_width = physical_validation.kinetic_energy.distribution(data, strict=False, **options)
        p = physical_validation.kinetic_energy.distribution(data, strict=True, **options)
    return Temperature(
        name=name,
        mean=mean,
        # The library tells how many standard errors lie between; it is their length that is wanted.
        mean_error=abs(mean - temperature_K) / max(float(far_mean), 1e-12),
        width=width,
        width_error=abs(width - temperature_K) / max(float(far_width), 1e-12),
        p=float(p),
        samples=len(sample),
    )


def _simulation(library: Any, kinetic: Floats, degrees_of_freedom: float, temperature_K: float) -> Any:
    """The library's own description: it counts degrees of freedom as 3·atoms − constraints, which may be fractions."""
    atoms = int(np.ceil(degrees_of_freedom / 3.0))
    return library.data.SimulationData(
        units=library.data.UnitData(
            kb=BOLTZMANN_KJ_PER_MOL_PER_K, energy_str="kJ/mol", energy_conversion=1.0, length_str="nm",
            length_conversion=1.0, volume_str="nm^3", volume_conversion=1.0, temperature_str="K",
            temperature_conversion=1.0, pressure_str="bar", pressure_conversion=1.0, time_str="ps", time_conversion=1.0,
        ),
        system=library.data.SystemData(
            natoms=atoms, nconstraints=3.0 * atoms - degrees_of_freedom, ndof_reduction_tra=0, ndof_reduction_rot=0
        ),
        ensemble=library.data.EnsembleData(ensemble="NVT", natoms=atoms, volume=1.0, temperature=temperature_K),
        observables=library.data.ObservableData(kinetic_energy=kinetic),
    )  # fmt: skip


def judge_temperatures(name: str, found: list[Temperature], temperature_K: float) -> Check:
    """One check of several temperatures: ``fail`` if any is surely outside, ``pass`` if all are surely inside."""
    few = [t for t in found if not np.isfinite(t.mean_error)]
    if few:
        worst = min(few, key=lambda t: t.samples)
        why = (
            f"{worst.samples} independent frames of {worst.name} are too few for a distribution "
            f"(at least {MIN_SAMPLES}); run longer"
        )
        return Check(name=name, kind=Kind.PHYSICS, status=Status.UNDECIDED, why=why)
    outside, unsure = [], []
    for t in found:
        doubt = float(stats.t.isf(FALSE_ALARM / (4.0 * len(found)), t.samples - 1))
        usual = float(stats.t.isf(0.5 - CONFIDENCE / 2.0, t.samples - 1))
        for what, value, error, tolerance in (
            ("mean", t.mean, t.mean_error, MEAN_TOLERANCE), ("width", t.width, t.width_error, WIDTH_TOLERANCE),
        ):  # fmt: skip
            far, limit = abs(value - temperature_K), tolerance * temperature_K
            text = f"{t.name}: {value:.1f} ± {usual * error:.1f} K from the {what} of {t.samples} independent frames"
            if far - doubt * error > limit:
                outside.append(text)
            elif far + usual * error > limit:
                unsure.append(text)
    wanted = f"{temperature_K:g} K within {MEAN_TOLERANCE:.0%} (mean) and {WIDTH_TOLERANCE:.0%} (width)"
    if outside:
        return Check(name=name, kind=Kind.PHYSICS, status=Status.FAIL, why=f"{'; '.join(outside[:3])}; wanted {wanted}")
    if unsure:
        why = f"{'; '.join(unsure[:3])}: too wide a bar to judge against {wanted}"
        return Check(name=name, kind=Kind.PHYSICS, status=Status.UNDECIDED, why=why)
    shown = ", ".join(f"{t.name} {t.mean:.1f} K (width {t.width:.1f} K)" for t in found[:6])
    return Check(name=name, kind=Kind.PHYSICS, status=Status.PASS, why=f"{shown}: {wanted}")


def temperature_findings(prefix: str, found: list[Temperature], temperature_K: float) -> list[Finding]:
    """Temperatures with errors, p values and sample sizes."""
    rows = []
    for t in found:
        key = f"{prefix}_{t.name.replace(' ', '_')}"
        rows += [
            Finding(name=f"{key}_mean", value=t.mean, expected=temperature_K, standard_error=t.mean_error, unit="K"),
            Finding(name=f"{key}_width", value=t.width, expected=temperature_K, standard_error=t.width_error, unit="K"),
            Finding(name=f"{key}_p", value=t.p, unit="1"),
            Finding(name=f"{key}_independent_frames", value=float(t.samples), unit="1"),
        ]
    return rows


def kinetic_part(
    kinetic: Floats, *, degrees_of_freedom: int, temperature_K: float, integrator: str, rng: np.random.Generator
) -> Part:
    """The check ``kinetic_energy``: mean and width of the total kinetic energy against the canonical distribution.

    Args:
        kinetic: kJ/mol, shape (f,), of evenly spaced frames.
        degrees_of_freedom: after constraints and conserved momentum.
        temperature_K: of the thermostat.
        integrator: as in the configuration.
        rng: seeds the bootstrap.

    Raises:
        AuditError: see ``measure``.
    """
    if integrator in KEEPING:
        why = "at constant energy the kinetic energy is not canonical: its width follows from the heat capacity"
        return Part(checks=(Check(name="kinetic_energy", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why),))
    found = [measure("all atoms", kinetic, degrees_of_freedom=degrees_of_freedom, temperature_K=temperature_K, rng=rng)]
    return Part(
        checks=(judge_temperatures("kinetic_energy", found, temperature_K),),
        findings=tuple(temperature_findings("kinetic", found, temperature_K)),
    )
