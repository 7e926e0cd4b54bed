"""Whether learning helped is told from labels that the model had not seen, and from no others."""

import numpy as np
import pytest

from qmml_md.analysis.learning import learning_part
from qmml_md.records.rows import LabelRow


def row(step: int, model: str, rmse: float, start: float, atoms: int) -> LabelRow:
    data = {"parents": list(range(atoms)), "force_rmse": rmse, "force_rmse_start": start}
    return LabelRow(key=f"k{step}", step=step, model=model, region_epoch=1, data=data)


def values(labels: list[LabelRow]) -> dict[str, float]:
    return {finding.name: finding.value for finding in learning_part(labels, "first").findings}


def test_pools_over_atoms() -> None:
    labels = [row(0, "first", 9.0, 9.0, 50), row(1, "second", 0.1, 0.2, 10), row(2, "third", 0.3, 0.1, 30)]
    found = values(labels)
    assert found["unseen_labels"] == 2
    assert found["unseen_force_rmse"] == pytest.approx(np.sqrt((10 * 0.01 + 30 * 0.09) / 40))
    assert found["unseen_force_rmse_start"] == pytest.approx(np.sqrt((10 * 0.04 + 30 * 0.01) / 40))


def test_labels_of_the_first_model_say_nothing() -> None:
    assert values([row(0, "first", 0.1, 0.1, 10)]) == {}
    assert values([]) == {}


def test_makes_no_verdict() -> None:
    assert learning_part([row(1, "second", 9.0, 0.1, 10)], "first").checks == ()


def test_the_guarantee_counts_core_atoms_only() -> None:
    known = row(0, "first", 0.1, 0.1, 4)
    known.data.update(complete=[True, False, True, True], core=[True, True, True, False])
    unknown = row(1, "first", 0.1, 0.1, 4)
    unknown.data.update(complete=None, core=[True, True, True, True])
    assert values([known, unknown]) == {"core_atoms_guaranteed": pytest.approx(2 / 3)}
    assert values([unknown]) == {}
