"""What the gate judges by, beside the candidate itself: labels never trained on, and the record of earlier candidates.

Evidence of three kinds, in falling order of worth:

* *held-out labels*: whole triggers that no training saw. The candidate is scored on them directly.
* *the record*: the newest candidate of each time, accepted or refused, scored on the next label before anything was
  trained on it. It says whether learning on this system has been paying, and costs nothing. It is leave-one-out in
  the order of time.
* *unlabelled clusters*: they cannot say whether a change is right, only how large it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..records.rows import LabelRow
from ..reference.label import Label
from ..region.cluster import Cluster
from ..system.molecules import Floats

#: The record looks back over so many labels.
RECORD_LABELS = 8
#: A short record is drawn towards "no change" by so many labels' worth of it. The ratio of errors on one label scatters
#: by 0.05 (water) to 0.12 (ethanol): a promise of 2 % is then broken by one label that is 17 % worse, by three that are
#: 7 % worse, or by eight that are 4 % worse: one to two standard errors each.
PRIOR_LABELS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """One label, scored before training on it.

    Attributes:
        key: of the label.
        force_rmse: of the newest candidate at that time, accepted or not, eV/Å; atoms count as in training.
        force_rmse_start: of the model that the run began with, eV/Å.
    """

    key: str
    force_rmse: float
    force_rmse_start: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the gate looks at.

    Attributes:
        labels: what the candidate was trained on.
        held_out: labels that no model of this run was ever trained on.
        unlabelled: clusters without a label that no training saw.
        record: scores of earlier candidates, in the order of time.
        probes: geometries of the base set that no training saw.
    """

    labels: Sequence[Label]
    held_out: Sequence[Label] = field(default=())
    unlabelled: Sequence[Cluster] = field(default=())
    record: Sequence[RecordRow] = field(default=())
    probes: Sequence[Cluster] = field(default=())


def record_of(rows: Sequence[LabelRow], start: str) -> tuple[RecordRow, ...]:
    """The record, from the labels of a run.

    Where the newest candidate had been refused, its shadow score counts; otherwise that of the model in use. A label
    that met only the starting model says nothing about learning and is left out, and so is one none of whose atoms
    counts.

    Args:
        rows: in the order of time.
        start: identity of the model that the run began with.
    """
    found = []
    for row in rows:
        shadow = row.data.get("shadow")
        untrained = _counted(row.data, "force_rmse_start")
        score = _counted(row.data if shadow is None else shadow, "force_rmse")
        if untrained is None or score is None or (shadow is None and row.model == start):
            continue
        found.append(RecordRow(key=row.key, force_rmse=score, force_rmse_start=untrained))
    return tuple(found)


def _counted(data: Mapping[str, Any], name: str) -> float | None:
    """An RMSE in which atoms count as in training; rows of earlier versions, in which all did, hold only the plain."""
    value = data.get(f"weighted_{name}", data.get(name))
    return None if value is None else float(value)


def record_ratio(record: Sequence[RecordRow], last: int = RECORD_LABELS) -> float:
    """Force error of the line of candidates over that of the starting model, on the last labels; 1 where there is none.

    ``sqrt((Σ c² + n₀ s²) / (Σ s² + n₀ s²))`` with c and s the RMSE of candidate and start on each label, s² in the
    prior their mean square, and n₀ = ``PRIOR_LABELS``.
    """
    rows = record[-last:]
    if not rows:
        return 1.0
    start = np.square([row.force_rmse_start for row in rows])
    newest = np.square([row.force_rmse for row in rows])
    prior = PRIOR_LABELS * start.mean()
    return float(np.sqrt((newest.sum() + prior) / (start.sum() + prior)))


def pooled_rmse(wrong: Sequence[Floats]) -> float:
    """Root mean square over all components of all arrays; NaN where there are none."""
    if not wrong:
        return float("nan")
    return float(np.sqrt(np.mean(np.square(np.concatenate([w.ravel() for w in wrong])))))
