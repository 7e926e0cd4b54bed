"""The gate: a trained model is measured again as it was saved, and refused when it is not better where it matters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import Learning
from ..ensemble.model import AniEnsemble, evaluate
from ..reference.label import Label
from ..region.cluster import Cluster
from ..system.molecules import Floats
from ..units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL, NM_PER_ANGSTROM


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate found.

    Attributes:
        accepted: whether the atoms may move on the candidate.
        reasons: why not; empty if accepted.
        force_rmse: over all labels, re-measured, eV/Å.
        force_maxresid: over all labels, re-measured, eV/Å.
        anchor_shift: RMS change of the forces on held-out unlabelled clusters, eV/Å; NaN where there are none.
    """

    accepted: bool
    reasons: tuple[str, ...]
    force_rmse: float
    force_maxresid: float
    anchor_shift: float


def judge(
    candidate: AniEnsemble,
    current: AniEnsemble,
    labels: Sequence[Label],
    held_out: Sequence[Cluster],
    settings: Learning,
) -> Verdict:
    """Measure a candidate in run precision and decide.

    Args:
        candidate: the trained model, loaded from the file it was saved to.
        current: the model that moves the atoms now.
        labels: everything that was trained on.
        held_out: unlabelled clusters that no training saw.
        settings: tolerances.
    """
    wrong = np.concatenate([(cluster_forces(candidate, x.cluster) - x.forces).ravel() for x in labels])
    rmse, worst = float(np.sqrt((wrong**2).mean())), float(np.abs(wrong).max())
    shift = anchor_shift(candidate, current, held_out)
    reasons = []
    if not np.isfinite(wrong).all():
        reasons.append("the trained model gives forces that are not finite")
    if not rmse <= settings.force_rmse_eV_per_A:
        reasons.append(f"force RMSE {rmse:.4f} eV/Å on the labels exceeds {settings.force_rmse_eV_per_A:g}")
    if not worst <= settings.force_maxresid_eV_per_A:
        reasons.append(f"largest residual {worst:.4f} eV/Å on the labels exceeds {settings.force_maxresid_eV_per_A:g}")
    if shift > settings.max_anchor_shift_eV_per_A:
        reasons.append(
            f"forces on held-out unlabelled clusters move by {shift:.3f} eV/Å RMS, "
            f"more than {settings.max_anchor_shift_eV_per_A:g}"
        )
    return Verdict(
        accepted=not reasons,
        reasons=tuple(reasons),
        force_rmse=rmse,
        force_maxresid=worst,
        anchor_shift=shift,
    )


def cluster_forces(ensemble: AniEnsemble, cluster: Cluster) -> Floats:
    """Forces of the ensemble mean on an isolated cluster, eV/Å, shape (m, 3)."""
    return cluster_energy_and_forces(ensemble, cluster)[1]


def cluster_energy_and_forces(ensemble: AniEnsemble, cluster: Cluster) -> tuple[float, Floats]:
    """Energy (eV, self energies subtracted) and forces (eV/Å, shape (m, 3)) of the mean on an isolated cluster."""
    out = evaluate(ensemble, cluster.numbers, cluster.positions * NM_PER_ANGSTROM, None)
    return out.energy * EV_PER_KJ_PER_MOL, out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM


def anchor_shift(candidate: AniEnsemble, current: AniEnsemble, clusters: Sequence[Cluster]) -> float:
    """RMS change of the mean's forces from ``current`` to ``candidate``, eV/Å; NaN where there is no cluster."""
    if not clusters:
        return float("nan")
    moved = [(cluster_forces(candidate, c) - cluster_forces(current, c)).ravel() for c in clusters]
    return float(np.sqrt((np.concatenate(moved) ** 2).mean()))
