import numpy as np
import pytest

from qmml_md import config
from qmml_md.errors import LabelError
from qmml_md.reference.cost import EXPONENT, MEASURED, PREFACTOR_S, WITHOUT_DENSITY_FIT, estimate

ETHANOL = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])


def test_constants_are_the_fit_to_the_measurements() -> None:
    functions, seconds = np.log(np.array(MEASURED)).T
    slope, intercept = np.polyfit(functions, seconds, 1)
    # Given to four and to four digits.
    assert pytest.approx(slope, abs=5e-5) == EXPONENT
    assert pytest.approx(np.exp(intercept), rel=5e-4) == PREFACTOR_S


def test_estimate_is_within_what_it_claims_of_the_measurements() -> None:
    for functions, seconds in MEASURED:
        assert abs(np.log(PREFACTOR_S * functions**EXPONENT / seconds)) < 0.25  # a fifth, up or down


def test_counts_are_those_of_ethanol() -> None:
    cost = estimate(ETHANOL, config.Reference())
    # 6-31G* with Cartesian d: 15 functions on each heavy atom, 2 on each hydrogen; that is a row of the table.
    assert (cost.atoms, cost.electrons, cost.basis_functions) == (9, 26, 57)
    assert cost.basis_functions in dict(MEASURED)


def test_cost_grows_with_the_cluster_and_without_density_fitting() -> None:
    settings = config.Reference()
    one = estimate(ETHANOL, settings)
    two = estimate(np.concatenate([ETHANOL, ETHANOL]), settings)
    assert two.seconds == pytest.approx(one.seconds * 2**EXPONENT)
    exact = estimate(ETHANOL, settings.model_copy(update={"density_fit": False}))
    assert exact.seconds == pytest.approx(one.seconds * WITHOUT_DENSITY_FIT)


def test_charge_takes_electrons_away_and_odd_counts_are_counted() -> None:
    assert estimate(ETHANOL, config.Reference(charge=1)).electrons == 25


def test_an_element_without_basis_is_named() -> None:
    with pytest.raises(LabelError, match="not found for U"):
        estimate(np.array([92]), config.Reference())
