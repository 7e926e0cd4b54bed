"""Frames out of tolerance are those that some check of the forces fails for."""

import numpy as np
import pytest

from qmml_md.analysis.forces import ForceErrors, ForceTally, force_part, out_of_tolerance
from qmml_md.analysis.record import CLASSES
from qmml_md.config import Audit

ATOMS, CORE, STEPS = 100, 4, np.array([0, 10, 20])


def errors(residual_eV_per_A: float, *, core: bool) -> ForceErrors:
    """Three frames; in the second the first atoms, in the core or not, are off by so much in every component."""
    tally = ForceTally(np.ones(ATOMS, dtype=np.int64), len(STEPS))
    residual, flags = np.zeros((len(STEPS), ATOMS, 3)), np.full((len(STEPS), ATOMS), CLASSES["rest"], dtype=np.int8)
    residual[1, :CORE] = residual_eV_per_A
    if core:
        flags[:, :CORE] = CLASSES["core"]
    tally.add(np.arange(len(STEPS)), STEPS, residual, flags)
    return tally.errors()


@pytest.mark.parametrize(
    ("residual", "core", "failed"),
    [
        # Over all atoms 0.1 * (4 / 100)^(1/2) = 0.02 eV/Å, within 0.05; over the core 0.1.
        (0.1, True, {"force_rmse_core"}),
        (0.1, False, set()),
        # 0.4 * 0.2 = 0.08 eV/Å over all atoms.
        (0.4, False, {"force_rmse"}),
        (0.04, True, set()),
        (0.6, True, {"force_rmse", "force_rmse_core", "force_maxresid"}),
        (np.nan, True, {"force_rmse", "force_rmse_core", "force_maxresid"}),
    ],
)
def test_a_frame_that_a_check_fails_for_is_out_of_tolerance(residual: float, core: bool, failed: set[str]) -> None:
    found, tolerance = errors(residual, core=core), Audit()
    assert (tolerance.force_rmse_eV_per_A, tolerance.force_maxresid_eV_per_A) == (0.05, 0.5)
    checks = force_part(STEPS, found, tolerance).checks
    assert {check.name for check in checks if check.status == "fail"} == failed
    assert out_of_tolerance(found, tolerance).tolist() == [False, bool(failed), False]
    assert all("first at step 10" in check.why for check in checks if check.status == "fail")
