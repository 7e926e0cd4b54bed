"""Quantum spot checks: the force error of the finished trajectory where nobody chose to look.

Labels of a learning run are taken where the members disagree, so that their errors say how bad it is there, not how
good the trajectory is. A spot check draws frames and centre atoms uniformly, whatever σ was, cuts the cluster around
the centre, and compares the final model with quantum mechanics on the force of the *centre atom*: the one atom whose
surroundings in the cluster are those of the simulation. The mean over such checks is an unbiased estimate of the mean
over all atoms of all stored frames.

Both intervals aim at 95 %: Student's t for the mean norm of the error; and for the RMSE over components, which is not a
mean, the bootstrap over checks, with percentiles expanded for small samples (Hesterberg, Am. Stat. 69, 371, 2015,
doi:10.1080/00031305.2015.1089789). Neither knows of errors that no check has met.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ...ensemble.model import AniEnsemble, evaluate
from ...errors import AuditError, LabelError
from ...records.frames import Floats, Ints
from ...reference.label import Reference
from ...region.cluster import Cluster
from ...units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, NM_PER_ANGSTROM
from ..conservation.drift import CONFIDENCE
from ..findings import Check, Finding, Kind, Part, Status

#: With fewer checks no interval is believed.
MIN_CHECKS = 5
BOOTSTRAP = 4000
UNIT = "eV/Å"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One check.

    Attributes:
        step: of the frame.
        centre: index of the atom in the simulation.
        error: model minus quantum mechanics on the centre atom, eV/Å, shape (3,).
        cluster_rmse: over all components of the isolated cluster, link atoms left out, eV/Å.
        size: atoms of the cluster.
    """

    step: int
    centre: int
    error: Floats
    cluster_rmse: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the ends of its 95 % interval, eV/Å; infinite where there are too few checks."""

    value: float
    low: float
    high: float


def draw_spots(frames: int, atoms: int, count: int, rng: np.random.Generator) -> Ints:
    """Rows (frame, atom) drawn uniformly among all pairs without repetition, sorted, shape (count, 2).

    Args:
        frames: number of stored frames.
        atoms: number of atoms.
        count: how many to draw; all pairs if there are fewer.
        rng: the only source of the draw; nothing about the frames enters.

    Raises:
        AuditError: there is nothing to draw from, or less than one is asked for.
    """
    if frames < 1 or atoms < 1 or count < 1:
        raise AuditError(f"cannot draw {count} spot checks from {frames} frames of {atoms} atoms")
    chosen = np.sort(rng.choice(frames * atoms, size=min(count, frames * atoms), replace=False))
    return np.stack(np.divmod(chosen, atoms), axis=1).astype(np.int64)


def examine(reference: Reference, model: AniEnsemble, step: int, centre: int, cluster: Cluster) -> Spot:
    """Label one cluster and compare the model with it.

    Raises:
        LabelError: no label could be computed.
        AuditError: the centre is not in the cluster.
    """
    here = np.flatnonzero(cluster.parent == centre)
    if len(here) != 1:
        raise AuditError(f"the cluster of step {step} holds atom {centre} {len(here)} times, not once")
    label = reference.label(cluster)
    forces = evaluate(model, cluster.numbers, cluster.positions * NM_PER_ANGSTROM, None).forces
    error = forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM - label.forces
    real = cluster.parent >= 0
    return Spot(
        step=step,
        centre=centre,
        error=error[here[0]],
        cluster_rmse=float(np.sqrt(np.mean(np.square(error[real])))),
        size=cluster.size,
    )


def mean_norm(errors: Floats) -> Interval:
    """Mean of |error| with Student's t interval, from errors of shape (k, 3)."""
    norms = np.linalg.norm(errors, axis=1)
    if len(norms) < MIN_CHECKS:
        return Interval(value=float(norms.mean()) if len(norms) else np.nan, low=0.0, high=np.inf)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, len(norms) - 1) * norms.std(ddof=1) / np.sqrt(len(norms)))
    return Interval(
        value=float(norms.mean()), low=max(0.0, float(norms.mean()) - half), high=float(norms.mean()) + half
    )


def component_rmse(errors: Floats, rng: np.random.Generator) -> Interval:
    """RMSE over components with an expanded percentile bootstrap over checks, from errors of shape (k, 3)."""
    squares = np.mean(np.square(errors), axis=1)
    n = len(squares)
    if n < MIN_CHECKS:
        return Interval(value=float(np.sqrt(squares.mean())) if n else np.nan, low=0.0, high=np.inf)
    drawn = squares[rng.integers(n, size=(BOOTSTRAP, n))]
    # A bootstrapped mean spreads by √((n−1)/n) too little and knows no t distribution: both are made good here.
    tail = float(stats.norm.cdf(-np.sqrt(n / (n - 1.0)) * stats.t.ppf(0.5 + CONFIDENCE / 2.0, n - 1)))
    low, high = np.quantile(np.sqrt(drawn.mean(axis=1)), [tail, 1.0 - tail])
    return Interval(value=float(np.sqrt(squares.mean())), low=float(low), high=float(high))


def spot_check(
    reference: Reference,
    *,
    clusters: Iterable[tuple[int, int, Cluster]],
    model: AniEnsemble,
    tolerance_eV_per_A: float,
    rng: np.random.Generator,
    progress: Callable[[int], None] | None = None,
) -> Part:
    """The check ``spot_checks`` with the force error of the centre atoms and its intervals.

    A label that fails is counted and left out: the estimate then speaks for what could be labelled, and the check says
    so and cannot pass.

    Args:
        reference: computes labels.
        clusters: (step, centre atom, cluster around it), as drawn by ``draw_spots``; taken one at a time.
        model: the final model.
        tolerance_eV_per_A: of the RMSE over components.
        rng: for the bootstrap.
        progress: told the number of checks done after each.

    Raises:
        AuditError: a cluster does not hold its centre.
    """
    spots: list[Spot] = []
    failed: list[str] = []
    for done, (step, centre, cluster) in enumerate(clusters, start=1):
        try:
            spots.append(examine(reference, model, step, centre, cluster))
        except LabelError as error:
            failed.append(f"atom {centre} at step {step}: {error.what}")
        if progress is not None:
            progress(done)
    return _part(spots, failed, tolerance_eV_per_A, rng)


def _part(spots: list[Spot], failed: list[str], tolerance: float, rng: np.random.Generator) -> Part:
    errors = np.array([spot.error for spot in spots], dtype=np.float64).reshape(-1, 3)
    rmse, norm = component_rmse(errors, rng), mean_norm(errors)
    largest = max(spots, key=lambda s: float(np.linalg.norm(s.error)), default=None)
    rows = [
        ("spot_check_force_rmse", rmse.value), ("spot_check_force_rmse_low", rmse.low),
        ("spot_check_force_rmse_high", rmse.high), ("spot_check_force_error_mean", norm.value),
        ("spot_check_force_error_mean_low", norm.low), ("spot_check_force_error_mean_high", norm.high),
        ("spot_check_force_error_max", float(np.linalg.norm(largest.error)) if largest else np.nan),
        ("spot_check_cluster_rmse", float(np.sqrt(np.mean([s.cluster_rmse**2 for s in spots]))) if spots else np.nan),
    ]  # fmt: skip
    findings = [Finding(name=name, value=value, unit=UNIT) for name, value in rows]
    findings.append(Finding(name="spot_checks", value=float(len(spots)), unit="1"))
    findings.append(Finding(name="spot_checks_not_labelled", value=float(len(failed)), expected=0.0, unit="1"))
    return Part(checks=(_check(spots, failed, tolerance, rmse, largest),), findings=tuple(findings))


def _check(spots: list[Spot], failed: list[str], tolerance: float, rmse: Interval, largest: Spot | None) -> Check:
    lost = f"; {len(failed)} could not be labelled ({failed[0]})" if failed else ""
    if len(spots) < MIN_CHECKS or largest is None:
        why = f"{len(spots)} spot checks are too few for an interval (at least {MIN_CHECKS}){lost}"
        return Check(name="spot_checks", kind=Kind.FORCES, status=Status.UNDECIDED, why=why)
    shown = (
        f"at {len(spots)} places drawn at random the force of the final model on the centre atom differs from quantum "
        f"mechanics by {rmse.value:.3g} {UNIT} RMSE (95 % bootstrap {rmse.low:.3g} to {rmse.high:.3g}), at most by "
        f"{float(np.linalg.norm(largest.error)):.3g} (atom {largest.centre} at step {largest.step}){lost}"
    )
    if rmse.low > tolerance:
        status, judgement = Status.FAIL, f"beyond the tolerance of {tolerance:g}"
    elif rmse.high <= tolerance and not failed:
        status, judgement = Status.PASS, f"within the tolerance of {tolerance:g}"
    else:
        status, judgement = Status.UNDECIDED, f"too uncertain to judge against the tolerance of {tolerance:g}"
    return Check(name="spot_checks", kind=Kind.FORCES, status=status, why=f"{shown}: {judgement}")
