"""The gate: a trained model is measured again as it was saved, and refused when it is not better where it matters."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..config import Learning
from ..ensemble.model import AniEnsemble, evaluate
from ..reference.label import Label
from ..region.cluster import Cluster
from ..system.molecules import Floats
from ..units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL, NM_PER_ANGSTROM
from .boundary import atom_weights, weighted_largest, weighted_mean_square, weighted_rmse
from .evidence import Evidence, pooled_rmse, record_ratio
from .measure import Measured, measure
from .sanity import sanity

#: Largest move of the forces on unlabelled clusters in one update, in force errors of the starting model. Training that
#: changes the forces by s where that model errs by e leaves (e'/e)² = 1 + (s/e)² - 2 ρ s/e, with ρ the correlation of
#: the change with the error that it should remove: at 0.6 an error grows by more than 2 % if ρ is below 0.27.
SHIFT_OF_ERROR = 0.6
#: The same where no held-out label speaks. It tells training with anchors (0.2 to 0.45, measured) from training without
#: them (0.5 to 1.5); among anchored updates the size of the change says nothing about whether it helps.
BLIND_SHIFT_OF_ERROR = 0.45
#: Few labels tell the starting model's error badly: they are joined by so many of a usual one, eV/Å.
PRIOR_LABELS, PRIOR_ERROR_eV_PER_A = 2.0, 0.06
#: A comparison on h held-out labels must be better than the promise by this over √h. The ratio of errors on one label
#: scatters by 0.05 (water) to 0.12 (ethanol): about half a standard error.
HELD_OUT_MARGIN = 0.04
#: From so many rows on, the record stands in for held-out labels.
RECORD_SPEAKS_FROM = 3
#: Largest move of the forces on the median probe, and on the one that moves most.
PROBE_MEDIAN_eV_PER_A = 0.08
PROBE_WORST_eV_PER_A = 0.5
#: Largest force on an unlabelled cluster against the starting model's: factor, and eV/Å beyond it.
FORCE_FACTOR, FORCE_SLACK_eV_PER_A = 1.5, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate found. What was not measured is NaN.

    Attributes:
        accepted: whether the atoms may move on the candidate.
        reasons: why not, one line each; empty if accepted.
        notes: what a person should know although it refused nothing.
        force_rmse: over the labels trained on, re-measured, eV/Å; atoms count as in training, here and below.
        force_maxresid: over the labels trained on, re-measured, eV/Å.
        anchor_shift: RMS change of the forces on unlabelled clusters since the model in use, eV/Å.
        held_out_start, held_out_before, held_out_after: force RMSE on held-out labels of the starting model, the model
            in use and the candidate, eV/Å.
        record_ratio: force error of earlier candidates over the starting model's on the labels that followed.
        probe_median, probe_worst: RMS change of the forces on molecules of the base set since the start, eV/Å.
    """

    accepted: bool
    reasons: tuple[str, ...]
    force_rmse: float
    force_maxresid: float
    anchor_shift: float
    notes: tuple[str, ...] = ()
    held_out_start: float = float("nan")
    held_out_before: float = float("nan")
    held_out_after: float = float("nan")
    record_ratio: float = 1.0
    probe_median: float = float("nan")
    probe_worst: float = float("nan")

    def plain(self) -> dict[str, Any]:
        """As JSON has it: NaN becomes null."""
        row = asdict(self) | {"reasons": list(self.reasons), "notes": list(self.notes)}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """Residuals and changes in eV/Å, and what the atoms of labels count; one array for each geometry."""

    labels: list[Floats]
    labels_start: list[Floats]
    weights: list[Floats]
    held_out: tuple[list[Floats], list[Floats], list[Floats]]
    held_out_weights: list[Floats]
    moved: list[Floats]
    probes: Floats
    force: float
    force_start: float
    finite: bool


def judge(
    candidate: AniEnsemble, current: AniEnsemble, base: AniEnsemble, evidence: Evidence, settings: Learning
) -> Verdict:
    """Measure a candidate in run precision and decide.

    Args:
        candidate: the trained model, loaded from the file it was saved to.
        current: the model that moves the atoms now.
        base: the model that the run began with.
        evidence: labels, held-out labels, unlabelled clusters, record, probes.
        settings: tolerances.
    """
    evidence = _telling(evidence, settings)
    scores = _measure(candidate, current, base, evidence, settings)
    start, before, after = (weighted_rmse(wrong, scores.held_out_weights) for wrong in scores.held_out)
    shift, trained = pooled_rmse(scores.moved), weighted_rmse(scores.labels, scores.weights)
    missed, notes = _tolerances(scores, settings), _silence(evidence)
    reasons = _leaks(evidence)
    if not scores.finite:
        reasons.append("the trained model gives energies or forces that are not finite")
    if not settings.require_tolerance and trained < weighted_rmse(scores.labels_start, scores.weights):
        notes, missed = [*notes, *missed], []
    unseen = _unseen(start, before, after, evidence, settings)
    reasons += missed + unseen + _moved(scores, shift, evidence, settings)
    if settings.keep_known:
        reasons += _blind(evidence) + _probes(scores.probes)
        reasons += sanity(candidate, base, [label.cluster for label in evidence.labels])
    return Verdict(
        accepted=not reasons,
        reasons=tuple(reasons),
        notes=tuple(notes),
        force_rmse=trained,
        force_maxresid=weighted_largest(scores.labels, scores.weights),
        anchor_shift=shift,
        held_out_start=start,
        held_out_before=before,
        held_out_after=after,
        record_ratio=record_ratio(evidence.record),
        probe_median=float(np.median(scores.probes)) if len(scores.probes) else float("nan"),
        probe_worst=float(scores.probes.max()) if len(scores.probes) else float("nan"),
    )


def _telling(evidence: Evidence, settings: Learning) -> Evidence:
    """Without the held-out labels none of whose atoms counts: they say nothing."""
    held_out = [x for x in evidence.held_out if atom_weights(x.cluster, settings.boundary_weight).any()]
    return replace(evidence, held_out=held_out)


def _measure(
    candidate: AniEnsemble, current: AniEnsemble, base: AniEnsemble, evidence: Evidence, settings: Learning
) -> _Scores:
    ours, theirs = measure([candidate, base], [x.cluster for x in evidence.labels])
    seen = [x.cluster for x in evidence.held_out] + list(evidence.unlabelled)
    models = [base, candidate] if current is base else [base, candidate, current]
    start, new, *rest = measure(models, seen)
    now = rest[0] if rest else start
    probes = _unlabelled_compositions(evidence)
    probed, untouched = measure([candidate, base], probes)
    split = len(evidence.held_out)
    wrong = tuple(_wrong(m.forces[:split], evidence.held_out) for m in (start, now, new))
    return _Scores(
        labels=_wrong(ours.forces, evidence.labels),
        labels_start=_wrong(theirs.forces, evidence.labels),
        weights=[atom_weights(x.cluster, settings.boundary_weight) for x in evidence.labels],
        held_out=(wrong[0], wrong[1], wrong[2]),
        held_out_weights=[atom_weights(x.cluster, settings.boundary_weight) for x in evidence.held_out],
        moved=[a - b for a, b in zip(new.forces[split:], now.forces[split:], strict=True)],
        probes=np.array([pooled_rmse([a - b]) for a, b in zip(probed.forces, untouched.forces, strict=True)]),
        force=_largest(new.forces[split:]),
        force_start=_largest(start.forces[split:]),
        finite=all(_finite(m) for m in (ours, new, probed)),
    )


def _tolerances(scores: _Scores, settings: Learning) -> list[str]:
    rmse, worst = weighted_rmse(scores.labels, scores.weights), weighted_largest(scores.labels, scores.weights)
    if np.isnan(rmse):
        return ["no atom of the labels counts: around each of them something within the model's cutoff is missing"]
    found = []
    if not rmse <= settings.force_rmse_eV_per_A:
        found.append(f"force RMSE {rmse:.4f} eV/Å on the labels exceeds {settings.force_rmse_eV_per_A:g}")
    if not worst <= settings.force_maxresid_eV_per_A:
        found.append(f"largest residual {worst:.4f} eV/Å on the labels exceeds {settings.force_maxresid_eV_per_A:g}")
    return found


def _unseen(start: float, before: float, after: float, evidence: Evidence, settings: Learning) -> list[str]:
    """Labels never trained on, and the record of earlier candidates."""
    found, promise = [], 1.0 + settings.max_worsening
    limit = promise - HELD_OUT_MARGIN / np.sqrt(max(1, len(evidence.held_out)))
    for name, reference in (("the model in use", before), ("the starting model", start)):
        if evidence.held_out and not after <= limit * reference:
            found.append(
                f"force RMSE {after:.4f} eV/Å on {len(evidence.held_out)} held-out label(s) is "
                f"{after / reference:.3f} of {name}'s ({reference:.4f}), more than {limit:.3f}"
            )
    if not (ratio := record_ratio(evidence.record)) <= promise:
        found.append(
            f"force error of earlier candidates on the labels that followed is {ratio:.3f} of the starting model's, "
            f"more than {promise:.3f}"
        )
    return found


def _moved(scores: _Scores, shift: float, evidence: Evidence, settings: Learning) -> list[str]:
    """How far the forces went where nothing was labelled."""
    if not evidence.unlabelled:
        return []
    found, error = [], _error(scores)
    blind = not evidence.held_out and len(evidence.record) < RECORD_SPEAKS_FROM
    limit = (BLIND_SHIFT_OF_ERROR if blind else SHIFT_OF_ERROR) * error
    where = "forces on held-out unlabelled clusters move by"
    if not shift <= settings.max_anchor_shift_eV_per_A:
        found.append(f"{where} {shift:.3f} eV/Å RMS, more than {settings.max_anchor_shift_eV_per_A:g}")
    elif settings.keep_known and not shift <= limit:
        found.append(
            f"{where} {shift:.3f} eV/Å RMS, more than {limit:.3f}: {limit / error:.2f} of the starting model's error"
        )
    if settings.keep_known and not scores.force <= FORCE_FACTOR * scores.force_start + FORCE_SLACK_eV_PER_A:
        found.append(f"a force on unlabelled clusters rises from {scores.force_start:.1f} to {scores.force:.1f} eV/Å")
    return found


def _error(scores: _Scores) -> float:
    """Force error of the starting model on unseen labels, as far as the labels tell it, eV/Å."""
    known = [*zip(scores.labels_start, scores.weights, strict=True)]
    known += zip(scores.held_out[0], scores.held_out_weights, strict=True)
    squares = [weighted_mean_square([wrong], [each]) for wrong, each in known if each.any()]
    return float(np.sqrt((sum(squares) + PRIOR_LABELS * PRIOR_ERROR_eV_PER_A**2) / (len(squares) + PRIOR_LABELS)))


def _probes(moved: Floats) -> list[str]:
    if not len(moved):
        return []
    median, worst = float(np.median(moved)), float(moved.max())
    if median <= PROBE_MEDIAN_eV_PER_A and worst <= PROBE_WORST_eV_PER_A:
        return []
    return [
        f"forces on the base set move by {median:.3f} eV/Å RMS in the median molecule and {worst:.3f} in the worst, "
        f"more than {PROBE_MEDIAN_eV_PER_A:g} or {PROBE_WORST_eV_PER_A:g}"
    ]


def _blind(evidence: Evidence) -> list[str]:
    if evidence.unlabelled or evidence.held_out or len(evidence.record) >= RECORD_SPEAKS_FROM:
        return []
    return ["there is neither an unseen label nor an unlabelled cluster to judge by"]


def _leaks(evidence: Evidence) -> list[str]:
    """Evidence that is none."""
    seen = {label.key for label in evidence.labels} & {label.key for label in evidence.held_out}
    return [f"{len(seen)} of the held-out labels were trained on"] if seen else []


def _silence(evidence: Evidence) -> list[str]:
    """What the decision could not rest on."""
    if evidence.held_out or len(evidence.record) >= RECORD_SPEAKS_FROM:
        return []
    return ["no held-out label yet: the decision rests on how little the forces moved where nothing was labelled"]


def _unlabelled_compositions(evidence: Evidence) -> list[Cluster]:
    """Probes of a composition that was not labelled; elsewhere a label knows better than the starting model."""
    known = {tuple(np.sort(label.cluster.numbers)) for label in evidence.labels}
    return [probe for probe in evidence.probes if tuple(np.sort(probe.numbers)) not in known]


def _wrong(forces: Sequence[Floats], labels: Sequence[Label]) -> list[Floats]:
    return [f - label.forces for f, label in zip(forces, labels, strict=True)]


def _largest(arrays: Sequence[Floats]) -> float:
    return max((float(np.abs(a).max()) for a in arrays), default=float("nan"))


def _finite(found: Measured) -> bool:
    return bool(np.isfinite(found.energies).all()) and all(bool(np.isfinite(f).all()) for f in found.forces)


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
