"""The prequential score of a label: what model, calibration and the last refused candidate said of it before."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ensemble.model import self_energy_hartree
from ..learning.boundary import atom_weights, counted_rmse
from ..learning.gate import cluster_energy_and_forces
from ..records.rows import LabelRow
from ..reference.label import Label
from ..reference.store_rows import label_digest
from ..region.cluster import Cluster
from ..system.molecules import Flags, Floats
from ..units import EV_PER_HARTREE
from .parts import Parts
from .sights import Sight
from .state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What all labels of one trigger have in common.

    Attributes:
        trigger: `event`, `periodic`, `stop` or `random`.
        held_out: whether they are never trained on.
    """

    trigger: str
    held_out: bool


def score(parts: Parts, state: State, sight: Sight, label: Label, reused: bool, occasion: Occasion) -> LabelRow:
    """The error of the model in use on a label that it has not been trained on.

    Args:
        parts: of the run.
        state: of the run.
        sight: where the label was taken.
        label: the new label.
        reused: whether it came from the store.
        occasion: of the trigger.
    """
    learner, model, parents = parts.learner, parts.surface.ensemble, label.cluster.parent
    weights = atom_weights(label.cluster, parts.config.learning.boundary_weight)
    core = np.isin(parents, sight.region.core)
    energy, forces = cluster_energy_and_forces(model, label.cluster)
    wrong = forces - label.forces
    untrained = cluster_energy_and_forces(learner.base, label.cluster)[1] - label.forces
    reference = label.energy - self_energy_hartree(model.card, label.cluster.numbers) * EV_PER_HARTREE
    steps_since = None if state.label_step is None else max(0, sight.step - state.label_step)
    return LabelRow(
        key=label.key,
        step=sight.step,
        model=state.model_id,
        region_epoch=state.region.epoch,
        data={
            "parents": parents.tolist(),
            "core": core.tolist(),
            "sigma": [float(sight.sigma[p]) if p >= 0 else None for p in parents],
            "error": np.linalg.norm(wrong, axis=1).tolist(),
            "elements": label.cluster.numbers.tolist(),
            "charge": label.cluster.charge,
            "digest": label_digest(label),
            "force_rms": float(np.sqrt((label.forces**2).mean())),
            "force_rmse": float(np.sqrt((wrong**2).mean())),
            "force_rmse_start": float(np.sqrt((untrained**2).mean())),
            "force_maxresid": float(np.abs(wrong).max()),
            "energy_error_eV": energy - reference,
            "wall_time_s": label.wall_time,
            "rung": label.rung,
            "reused": reused,
            "trigger": occasion.trigger,
            "looked_at": state.step,
            "held_out": occasion.held_out,
            "steps_since": steps_since,
            "interval": state.rhythm.interval,
            "shadow": learner.shadows.score(label, state.shadow, weights),
            "weighted_force_rmse": counted_rmse(wrong, weights),
            "weighted_force_rmse_start": counted_rmse(untrained, weights),
            **guarantee(label.cluster, core, wrong, untrained),
            **_foretold(parts, sight, label),
        },
    )


def guarantee(cluster: Cluster, core: Flags, wrong: Floats, untrained: Floats) -> dict[str, Any]:
    """Which atoms have everything within the model's cutoff in the cluster, and the errors on them; null if unknown.

    Args:
        cluster: of the label.
        core: which atoms are core, shape (m,).
        wrong: force residual of the model in use, eV/Å, shape (m, 3).
        untrained: that of the model that the run began with, eV/Å, shape (m, 3).
    """
    complete = cluster.complete
    if complete is None:
        return dict.fromkeys(("complete", "guaranteed", "force_rmse_complete", "force_rmse_complete_start"))
    inside = complete.astype(np.float64)
    return {
        "complete": complete.tolist(),
        "guaranteed": float(complete[core].mean()) if core.any() else None,
        "force_rmse_complete": counted_rmse(wrong, inside),
        "force_rmse_complete_start": counted_rmse(untrained, inside),
    }


def _foretold(parts: Parts, sight: Sight, label: Label) -> dict[str, Any]:
    """What the calibration known before said of each atom; nothing for one member, which has no disagreement."""
    novelty = parts.learner.novelty(label)
    if parts.surface.ensemble.members == 1:
        return {"expected": None, "bound": None, "novelty": novelty.tolist()}
    parents, elements = label.cluster.parent, label.cluster.numbers
    # A link atom has no disagreement of its own; it is no atom of the simulation, and calibration leaves it out.
    sigma = np.where(parents >= 0, sight.sigma[parents], 0.0)
    calibration = parts.experience.calibration
    return {
        "expected": calibration.expected(sigma, elements).tolist(),
        "bound": calibration.bound(sigma, elements, novelty).tolist(),
        "novelty": novelty.tolist(),
    }
