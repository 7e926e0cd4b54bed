"""Did learning help? The error on labels that the model had not seen, beside that of the model that the run began with.

Only labels that came after the first accepted update count: before it both models are the same. The labels are those
that the region asked for, so the comparison speaks of places of doubt; it needs no tolerance and makes no verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..records.rows import LabelRow
from ..records.scores import pooled
from .findings import Finding, Part

UNIT = "eV/Å"


def learning_part(labels: Sequence[LabelRow], first_model: str) -> Part:
    """Pooled force RMSE on unseen labels, of the learning model and of the starting model.

    Args:
        labels: labels with their prequential scores, in order.
        first_model: identity of the model that the run began with.
    """
    unseen = [row for row in labels if row.model != first_model and "force_rmse_start" in row.data]
    if not unseen:
        return Part(checks=(), findings=_guarantee(labels))
    return Part(
        checks=(),
        findings=(
            *_guarantee(labels),
            Finding(name="unseen_labels", value=len(unseen), unit=""),
            Finding(name="unseen_force_rmse", value=pooled(unseen, "force_rmse"), unit=UNIT),
            Finding(name="unseen_force_rmse_start", value=pooled(unseen, "force_rmse_start"), unit=UNIT),
        ),
    )


def _guarantee(labels: Sequence[LabelRow]) -> tuple[Finding, ...]:
    """The share of core atoms that have everything within the model's cutoff in their cluster; nothing if unknown."""
    told = [whole for row in labels for whole in core_guarantee(row.data) or ()]
    return (Finding(name="core_atoms_guaranteed", value=sum(told) / len(told), unit="1"),) if told else ()


def core_guarantee(data: Mapping[str, Any]) -> list[bool] | None:
    """Whether each core atom of a label has everything within the model's cutoff in its cluster; None if unknown.

    Args:
        data: of the row of the label.
    """
    if data.get("complete") is None:
        return None
    return [whole for whole, core in zip(data["complete"], data["core"], strict=True) if core]
