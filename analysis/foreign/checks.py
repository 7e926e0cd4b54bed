"""The judgements of a foreign trajectory; what the files cannot bear on is ``not_applicable`` and says why."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...records.frames import Floats
from ...units import BOLTZMANN_KJ_PER_MOL_PER_K, EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL, FS_PER_PS
from ..conservation.drift import DriftUnits, drift_check, drift_findings, slope
from ..findings import Check, Finding, Kind, Part, Status, judge
from .sums import Series
from .trajectory import Foreign

#: Longest spacing of frames, ps, over which neighbours tell velocities, accelerations and work: a phase of one for the
#: fastest vibration (716 rad/ps, an O–H stretch of 3800 cm⁻¹), where the trapezoid misses θ²/12 = 8 % of the work,
#: the velocity 0.019 θ⁴ = 2 % and Numerov's formula θ⁴/240 = 0.4 %.
DENSE_PS = 1.4e-3
#: Twice what the formulas miss at a phase of one, see above.
WORK_TOLERANCE, VELOCITY_TOLERANCE, MOTION_TOLERANCE = 0.16, 0.04, 0.02
#: Share of the accelerations that rounding and a model's rounding may leave unexplained, beside Numerov's own error.
UNEXPLAINED_TOLERANCE = 0.1
#: Velocities may lie off by this part of the spacing; leap-frog lies off by half a time step.
OFFSET_TOLERANCE = 0.05
#: Rounding of positions may carry this part of the square of what neighbours tell; more would bend the factors.
ROUNDING_SHARE = 1e-3
#: Atomic weights of different tables differ by some 1e-4; masses that a file declares are its own.
KINETIC_TOLERANCE, KINETIC_TOLERANCE_DECLARED = 1e-3, 1e-4
#: Of the sum of sizes: far above single-precision sums, far below any real exchange.
MOMENTUM_TOLERANCE, NET_FORCE_TOLERANCE = 1e-4, 1e-3
#: Spacings may differ by this part: far above the rounding of printed times, far below a frame that is missing.
SPACING_TOLERANCE = 1e-3
#: With this many standard errors a factor is called different from one.
ERRORS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user declares, and the tolerances.

    Attributes:
        ensemble: ``nve`` or ``nvt``; None if nobody says.
        force_rmse_eV_per_A, force_maxresid_eV_per_A: stored forces against the model, over components.
        energy_meV_per_atom: standard deviation of stored minus model energies.
        drift_kT_per_ns_per_dof: slope of K + U in NVE.
    """

    ensemble: Literal["nve", "nvt"] | None = None
    force_rmse_eV_per_A: float = 0.05
    force_maxresid_eV_per_A: float = 0.5
    energy_meV_per_atom: float = 1.0
    drift_kT_per_ns_per_dof: float = 1.0


def missing(name: str, kind: Kind, needs: str) -> Part:
    """A check that cannot be made, and what it would need."""
    return Part(checks=(Check(name=name, kind=kind, status=Status.NOT_APPLICABLE, why=f"needs {needs}"),))


def spacing(series: Series) -> float:
    """Time between frames, ps; NaN without times or with one frame."""
    steps = np.diff(series.array("time"))
    return float(np.median(steps)) if len(steps) and np.isfinite(steps).all() else math.nan


def order_part(foreign: Foreign, series: Series) -> Part:
    """Frames that are not finite, repeated, out of order, or missing."""
    time, moved = series.array("time"), series.array("moved")
    problems = [f"frame {i} holds numbers that are not finite" for i in np.flatnonzero(~np.array(series.finite))]
    problems += [f"frames {i} and {i + 1} are the same" for i in np.flatnonzero(moved == 0.0)]
    if "time" in foreign.carries:
        steps, usual = np.diff(time), spacing(series)
        problems += [f"frame {i + 1} lies before frame {i}" for i in np.flatnonzero(steps <= 0)]
        wide = np.flatnonzero((steps > 0) & (np.abs(steps - usual) > SPACING_TOLERANCE * usual))
        problems += [f"frames {i} and {i + 1} are {steps[i]:.6g} ps apart, others {usual:.6g}" for i in wide]
    fine = f"{foreign.frames} frames, all numbers finite, none twice" + (
        ", evenly spaced" if "time" in foreign.carries else "; without times a lost frame shows only in the motion"
    )
    return Part(checks=(judge("order", Kind.INTEGRITY, problems, fine),))


def energy_part(foreign: Foreign, series: Series, options: Options, force_rms: float) -> Part:
    """Stored energies against the model's up to one constant, which is fitted and reported."""
    if "potential" not in foreign.carries:
        return missing("energies", Kind.FORCES, "potential energies in the files")
    difference = series.array("potential") - series.array("model")
    offset, sd = float(np.nanmean(difference)), float(np.nanstd(difference))
    atoms = len(foreign.numbers)
    floor = _rounding_energy(foreign, force_rms)
    tolerance = max(options.energy_meV_per_atom * 1e-3 / EV_PER_KJ_PER_MOL * atoms, ERRORS * floor)
    problems = []
    if not sd <= tolerance:
        problems.append(f"stored energies scatter by {sd:.4g} kJ/mol about the model's (≤ {tolerance:.3g})")
    fine = f"stored energies are the model's within {sd:.3g} kJ/mol (≤ {tolerance:.3g}), but for a constant"
    findings = (
        Finding(name="energy_offset", value=offset, unit="kJ/mol"),
        Finding(name="energy_scatter", value=sd, expected=0.0, unit="kJ/mol"),
        Finding(name="energy_scatter_by_rounding", value=floor, unit="kJ/mol"),
    )
    return Part(checks=(judge("energies", Kind.FORCES, problems, fine),), findings=findings)


def _rounding_energy(foreign: Foreign, force_rms: float) -> float:
    """What the rounding of stored positions does to an energy, kJ/mol: uniform errors δ, independent in each number."""
    rounding = position_rounding(foreign)
    return force_rms * rounding / math.sqrt(3.0) * math.sqrt(3.0 * len(foreign.numbers))


def position_rounding(foreign: Foreign) -> float:
    """Largest rounding error of a stored coordinate, nm."""
    first = next(foreign.blocks(1)).positions
    stored = foreign.rounding.get("positions")
    return 0.0 if stored is None else stored.of(first)


def force_part(foreign: Foreign, series: Series, options: Options) -> Part:
    """Stored forces against the model's: RMSE and largest component."""
    if "forces" not in foreign.carries:
        return missing("forces", Kind.FORCES, "forces in the files")
    count = 3 * len(foreign.numbers) * foreign.frames
    scale = EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
    rmse = math.sqrt(float(series.array("force_square").sum()) / count) * scale
    largest = float(series.array("force_largest").max()) * scale
    problems = []
    for value, limit, what in (
        (rmse, options.force_rmse_eV_per_A, "the RMSE"),
        (largest, options.force_maxresid_eV_per_A, "the largest component"),
    ):
        if not value <= limit:
            problems.append(f"{what} of stored minus model forces is {value:.4g} eV/Å (≤ {limit:g})")
    fine = f"stored forces are the model's: RMSE {rmse:.3g}, largest component {largest:.3g} eV/Å"
    findings = (
        Finding(name="force_rmse", value=rmse, expected=0.0, unit="eV/Å"),
        Finding(name="force_maxresid", value=largest, expected=0.0, unit="eV/Å"),
    )
    net = float(series.array("net_force").max())
    size = math.sqrt(len(foreign.numbers) * float(series.array("force_stored").max()))
    share = net / size if size else 0.0
    far = [f"the stored forces add up to {share:.3g} of the sum of their sizes"] if share > NET_FORCE_TOLERANCE else []
    together = judge(
        "net_force", Kind.PHYSICS, far, f"the stored forces add up to nothing ({share:.2g} of their sizes)"
    )
    return Part(checks=(judge("forces", Kind.FORCES, problems, fine), together), findings=findings)


def kinetic_part(foreign: Foreign, series: Series) -> Part:
    """Stored kinetic energy against ½ Σ m v²."""
    if not {"velocities", "kinetic"} <= foreign.carries:
        return missing("kinetic", Kind.INTEGRITY, "velocities and kinetic energies in the files")
    ours, stored = series.array("from_velocities"), series.array("kinetic")
    off = float(np.max(np.abs(stored - ours)) / np.mean(stored)) if np.mean(stored) else math.nan
    limit = KINETIC_TOLERANCE_DECLARED if foreign.masses_declared else KINETIC_TOLERANCE
    problems = (
        [] if off <= limit else [f"½ Σ m v² differs from the stored kinetic energy by {off:.3g} of it (≤ {limit:g})"]
    )
    fine = f"½ Σ m v² is the stored kinetic energy within {off:.2g} of it (≤ {limit:g})"
    finding = Finding(name="kinetic_relative_deviation", value=off, expected=0.0, unit="1")
    return Part(checks=(judge("kinetic", Kind.INTEGRITY, problems, fine),), findings=(finding,))


def momentum_part(foreign: Foreign, series: Series, options: Options) -> Part:
    """Total momentum, which forces that add up to nothing leave alone."""
    if "velocities" not in foreign.carries:
        return missing("momentum", Kind.PHYSICS, "velocities in the files")
    if options.ensemble != "nve":
        return missing("momentum", Kind.PHYSICS, "--ensemble nve: thermostats may change the momentum")
    momentum = series.array("momentum")
    size = math.sqrt(2.0 * float(foreign.masses.sum()) * float(np.mean(series.from_velocities)))
    change = float(np.linalg.norm(momentum - momentum[0], axis=1).max()) / size if size else 0.0
    problems = [f"the momentum changes by {change:.3g} of sqrt(2MK)"] if not change <= MOMENTUM_TOLERANCE else []
    finding = Finding(name="momentum_change", value=change, expected=0.0, unit="1")
    fine = f"the momentum changes by at most {change:.2g} of sqrt(2MK)"
    return Part(checks=(judge("momentum", Kind.PHYSICS, problems, fine),), findings=(finding,))


def energies_kept(foreign: Foreign, series: Series) -> tuple[Floats | None, str]:
    """K + U of each frame with what it is made of; None where the files do not hold enough."""
    if "total" in foreign.carries:
        return series.array("total"), "the stored total energy"
    kinetic = "kinetic" if "kinetic" in foreign.carries else "from_velocities" if series.from_velocities else ""
    if not kinetic:
        return None, ""
    potential = "potential" if "potential" in foreign.carries else "model"
    named = {"kinetic": "stored K", "from_velocities": "½ Σ m v²", "potential": "stored U", "model": "U of the model"}
    return series.array(kinetic) + series.array(potential), f"{named[kinetic]} + {named[potential]}"


def conservation_part(foreign: Foreign, series: Series, options: Options) -> Part:
    """The slope of K + U, if the files and the ensemble allow it."""
    name, kind = "conservation", Kind.CONSERVATION
    if options.ensemble is None:
        return missing(name, kind, "--ensemble nve|nvt: only K + U of NVE is conserved")
    if options.ensemble == "nvt":
        return missing(
            name, kind, "the heat of the thermostat, which the files do not hold; run NVE to judge conservation"
        )
    total, what = energies_kept(foreign, series)
    if total is None or "time" not in foreign.carries:
        lacking = "times" if total is not None else "total or kinetic energies, or velocities,"
        return missing(name, kind, f"{lacking} in the files")
    freedom = 3 * len(foreign.numbers) - 3
    kinetic = series.array("kinetic" if "kinetic" in foreign.carries else "from_velocities")
    mean = float(kinetic.mean()) if len(kinetic) else 0.5 * freedom * BOLTZMANN_KJ_PER_MOL_PER_K * 300.0
    units = DriftUnits(
        atoms=len(foreign.numbers),
        degrees_of_freedom=freedom,
        temperature=2.0 * mean / (freedom * BOLTZMANN_KJ_PER_MOL_PER_K),
    )
    line = slope(series.array("time"), total)
    check = drift_check(line, units, options.drift_kT_per_ns_per_dof)
    why = f"{what}: {check.why.replace('H̃', 'it')}"
    findings = [
        *drift_findings("total", line, units),
        Finding(name="total_residual_sd", value=line.residual_sd, unit="kJ/mol"),
    ]
    return Part(checks=(Check(name=name, kind=kind, status=check.status, why=why),), findings=tuple(findings))


def dense(foreign: Foreign, series: Series) -> str:
    """Empty if neighbouring frames bear on the motion, else what would be needed."""
    h = spacing(series)
    if not math.isfinite(h):
        return "times of the frames, or --spacing-fs"
    if h > DENSE_PS:
        return f"frames at most {DENSE_PS * FS_PER_PS:g} fs apart (these are {h * FS_PER_PS:.3g})"
    return "" if len(series.second) >= 3 else "five frames or more"
