"""The keys of the region: what is refused, and how selections become seeds, exclusions and solvent."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from qmml_md.config import Region
from qmml_md.engine.experience import region_layout, thresholds
from qmml_md.errors import ConfigError
from qmml_md.learning.calibration import fit_calibration
from qmml_md.region.policy import empty_region
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(scope="module")
def solution() -> Molecules:
    """N-methylacetamide in water."""
    return read_structure(EXAMPLES / "nma_in_water" / "nma_in_water.pdb")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stay_eV_per_A": 0.7}, "stay_eV_per_A must not exceed"),
        ({"seed": "water", "exclude": "water"}, "what is always core cannot stay outside"),
        ({"seed": " "}, "an empty selection selects nothing"),
        ({"solvent": ""}, "at least 1 character"),
        ({"unit": "atoms"}, "'auto', 'fragments', 'residues' or 'molecules'"),
        ({"smoothing_fs": -1.0}, "greater than or equal to 0"),
        ({"min_residence_checks": 0}, "greater than or equal to 1"),
        ({"buffer_bonds": -1}, "greater than or equal to 0"),
        ({"solvent_molecules": 0}, "greater than or equal to 1"),
        ({"solvent_molecules": 24}, "leave no room in max_qm_atoms"),
    ],
)
def test_senseless_keys_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Region(**change)


def test_by_default_nothing_is_smoothed_held_seeded_or_counted(solution: Molecules) -> None:
    settings = Region()
    policy = thresholds(settings, fit_calibration(()), region_layout(settings, solution))
    assert (policy.smoothing_fs, policy.min_residence_checks, policy.buffer_bonds) == (0.0, 1, 0)
    assert (policy.solvent_molecules, policy.clusters_per_frame) == (None, 1)
    assert policy.layout is not None
    assert (len(policy.layout.seeds), policy.layout.solvent.sum(), policy.layout.open_atoms.all()) == (0, 213, True)


def test_selections_become_seeds_exclusions_and_solvent(solution: Molecules) -> None:
    settings = Region(seed="name C and not water", exclude="water and index < 15", solvent_molecules=3, buffer_A=0.0)
    layout = region_layout(settings, solution)
    assert layout.seeds.tolist() == [4, 8]
    shut = np.flatnonzero(~layout.open_atoms)
    assert shut.tolist() == [12, 13, 14]
    assert layout.solvent.sum() == 639 // 3 - 1
    policy = thresholds(settings, fit_calibration(()), layout)
    region = policy.select(np.zeros(solution.size), empty_region(), solution.positions, solution)
    assert set(layout.seeds) <= set(region.core)
    assert len(region.atoms) == 12 + 3 * 3
    assert not set(shut) & set(region.atoms)


@pytest.mark.parametrize("key", ["seed", "exclude", "solvent"])
def test_a_selection_of_nothing_is_refused_by_its_key(solution: Molecules, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"region\.{key}: `resname XYZ` selects no atom"):
        region_layout(Region(solvent_molecules=2, **{key: "resname XYZ"}), solution)


def test_a_system_without_water_needs_no_other_solvent() -> None:
    ethanol = read_structure(EXAMPLES / "ethanol_nve" / "ethanol.pdb")
    assert not region_layout(Region(), ethanol).solvent.any()
    with pytest.raises(ConfigError, match=r"region\.solvent: `water` selects no atom"):
        region_layout(Region(solvent_molecules=2), ethanol)
