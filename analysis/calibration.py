"""Was the run right about its own doubt? What each label was foretold, against the error that it then revealed.

Only numbers that were stored before the label was computed count: expected error and upper bound of each atom. Labels
of one member, or of runs that did not calibrate, were foretold nothing and are left out. It makes no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import Region
from ..records.rows import LabelRow
from ..records.scores import Scores, score
from .findings import Finding, Part

Series = NDArray[np.float64]

#: Share of the atoms that their bounds promise to hold.
PROMISED = 0.9
#: The error of a mean of members over their disagreement, where only a threshold of disagreement is given.
ERROR_PER_DISAGREEMENT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foretold:
    """One label: what was said of its atoms before, and their true errors.

    Attributes:
        step: of the label.
        expected, bound, error: eV/Å, shape (a,).
        novelty: shape (a,); NaN where none was stored.
    """

    step: int
    expected: Series
    bound: Series
    error: Series
    novelty: Series

    @property
    def coverage(self) -> float:
        """Share of the atoms whose error is at most the bound."""
        return float((self.error <= self.bound).mean())


def foretold(labels: Sequence[LabelRow]) -> list[Foretold]:
    """The labels of which something was foretold, in order; atoms without a disagreement (link atoms) left out."""
    found = []
    for row in labels:
        if not row.data.get("bound") or not row.data.get("expected"):
            continue
        kept = np.array([sigma is not None for sigma in row.data["sigma"]], dtype=bool)
        novelty = row.data.get("novelty") or [None] * len(kept)
        columns = [
            _column(values)[kept] for values in (*(row.data[k] for k in ("expected", "bound", "error")), novelty)
        ]
        if kept.any():
            expected, bound, error, new = columns
            found.append(Foretold(step=row.step, expected=expected, bound=bound, error=error, novelty=new))
    return found


def scores(told: Sequence[Foretold], target: float) -> Scores:
    """All atoms of all labels together, by the definitions of ``docs/quantities/calibration.md``."""
    expected, bound, error = (
        np.concatenate([np.empty(0), *(getattr(one, name) for one in told)]) for name in ("expected", "bound", "error")
    )
    return score(expected, bound, error, target)


def target_of(region: Region) -> float:
    """Force error that matters, eV/Å: the target of the run, else what its threshold of disagreement is worth."""
    return region.target_force_error_eV_per_A or ERROR_PER_DISAGREEMENT * region.enter_eV_per_A


def calibration_part(labels: Sequence[LabelRow], region: Region) -> Part:
    """Coverage, misses, false alarms and rank correlation of what was foretold.

    Args:
        labels: labels with their prequential scores, in order.
        region: of the configuration; names the force error that matters.
    """
    told = foretold(labels)
    if not told:
        return Part()
    found = scores(told, target_of(region))
    each = np.array([one.coverage for one in told])
    # Atoms of a label are correlated: labels are what is counted.
    error = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
    return Part(
        findings=(
            Finding(name="calibration_labels", value=len(told), unit=""),
            Finding(name="calibration_target", value=found.target, unit="eV/Å"),
            Finding(
                name="calibration_coverage", value=found.coverage, expected=PROMISED, standard_error=error, unit="1"
            ),
            Finding(name="calibration_miss_rate", value=found.miss_rate, expected=0.0, unit="1"),
            Finding(name="calibration_false_alarm_rate", value=found.false_alarm_rate, expected=0.0, unit="1"),
            Finding(name="calibration_found", value=found.found, expected=1.0, unit="1"),
            Finding(name="calibration_spearman", value=found.spearman, expected=1.0, unit="1"),
        )
    )


def _column(values: Sequence[float | None]) -> Series:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
