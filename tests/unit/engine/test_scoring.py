"""What a label's row says of the cutoff guarantee."""

import numpy as np
import pytest

from qmml_md.engine.scoring import guarantee
from qmml_md.region.cluster import Cluster

WRONG = np.array([[0.1, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 5.0]])


def cluster(complete) -> Cluster:
    """Three atoms, the last one a link atom."""
    return Cluster(
        numbers=np.array([6, 1, 1]),
        positions=np.eye(3),
        parent=np.array([4, 5, -1]),
        links=np.array([[2, 0]]),
        charge=0,
        multiplicity=1,
        complete=complete,
    )


def test_share_of_the_core_and_error_where_the_guarantee_holds() -> None:
    core = np.array([True, True, False])
    found = guarantee(cluster(np.array([True, False, False])), core, WRONG, 2.0 * WRONG)
    assert found["complete"] == [True, False, False]
    assert found["guaranteed"] == 0.5
    # One atom with three components, one of them 0.1.
    assert found["force_rmse_complete"] == pytest.approx(0.1 / np.sqrt(3.0))
    assert found["force_rmse_complete_start"] == pytest.approx(0.2 / np.sqrt(3.0))
    # Sabotage: the link atom's 5 eV/Å would be seen in any mean that held it.
    assert guarantee(cluster(np.ones(3, dtype=bool)), core, WRONG, WRONG)["force_rmse_complete"] > 1.0


def test_nothing_complete_and_nothing_known() -> None:
    core = np.array([True, True, False])
    none = guarantee(cluster(np.zeros(3, dtype=bool)), core, WRONG, WRONG)
    assert (none["guaranteed"], none["force_rmse_complete"]) == (0.0, None)
    assert guarantee(cluster(np.ones(3, dtype=bool)), ~core & False, WRONG, WRONG)["guaranteed"] is None
    unknown = guarantee(cluster(None), core, WRONG, WRONG)
    assert set(unknown) == set(none)
    assert set(unknown.values()) == {None}
