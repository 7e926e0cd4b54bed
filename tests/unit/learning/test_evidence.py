"""The record of candidates, and what little a short one proves."""

import numpy as np
import pytest

from qmml_md.learning.evidence import RECORD_LABELS, RecordRow, pooled_rmse, record_of, record_ratio
from qmml_md.records.rows import LabelRow


def row(key: str, model: str, rmse: float, start: float | None, shadow: float | None = None) -> LabelRow:
    data = {"force_rmse": rmse, "shadow": None if shadow is None else {"model": "refused", "force_rmse": shadow}}
    if start is not None:
        data["force_rmse_start"] = start
    return LabelRow(key=key, step=0, model=model, region_epoch=0, data=data)


def test_the_newest_candidate_counts_whether_it_was_accepted_or_not() -> None:
    rows = [
        row("first", "start", 0.05, 0.05),
        row("refused", "start", 0.05, 0.05, shadow=0.08),
        row("accepted", "learned", 0.03, 0.05),
        row("of an old run", "learned", 0.03, None),
    ]
    assert record_of(rows, "start") == (
        RecordRow(key="refused", force_rmse=0.08, force_rmse_start=0.05),
        RecordRow(key="accepted", force_rmse=0.03, force_rmse_start=0.05),
    )


def test_ignoring_the_shadow_would_hide_a_harmful_candidate() -> None:
    """The sabotaged twin: scored by the model in use alone, refused candidates look harmless."""
    rows = [row(f"k{k}", "start", 0.05, 0.05, shadow=0.10) for k in range(4)]
    assert record_ratio(record_of(rows, "start")) > 1.3
    hidden = [RecordRow(key=r.key, force_rmse=r.data["force_rmse"], force_rmse_start=0.05) for r in rows]
    assert record_ratio(hidden) == pytest.approx(1.0)


def test_a_short_record_is_drawn_towards_no_change() -> None:
    assert record_ratio([]) == 1.0
    one = [RecordRow(key="a", force_rmse=0.10, force_rmse_start=0.05)]
    # (4 + 8) / (1 + 8)
    assert record_ratio(one) == pytest.approx(np.sqrt(12.0 / 9.0))
    # Eight equal rows: (8 · 4 + 8) / (8 + 8)
    assert record_ratio(one * RECORD_LABELS) == pytest.approx(np.sqrt(40.0 / 16.0))


def test_only_the_last_labels_count() -> None:
    bad = [RecordRow(key="a", force_rmse=0.5, force_rmse_start=0.05)] * 5
    good = [RecordRow(key="b", force_rmse=0.03, force_rmse_start=0.05)] * RECORD_LABELS
    assert record_ratio([*bad, *good]) == record_ratio(good) < 1.0


def test_pooled_rmse_weighs_components_not_labels() -> None:
    assert pooled_rmse([np.full((1, 3), 2.0), np.zeros((3, 3))]) == pytest.approx(1.0)
    assert np.isnan(pooled_rmse([]))
