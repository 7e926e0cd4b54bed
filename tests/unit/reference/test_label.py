from dataclasses import replace

import numpy as np
import pytest

from qmml_md import config
from qmml_md.errors import LabelError, MixedLabels
from qmml_md.reference.label import ELECTROSTATIC, check_embedding, check_one_level, label_key
from qmml_md.reference.pyscf_setup import level_of_theory
from qmml_md.region.cluster import Cluster, Surroundings

LEVEL = level_of_theory(config.Reference())
AMONG_CHARGES = replace(LEVEL, embedding=ELECTROSTATIC)


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(
        positions=np.array([[0.0, 0.0, 4.0], [0.0, 1.0, 4.0]]),
        charges=np.array([0.5, -0.5]),
        parent=np.array([7, 8]),
        own=np.array([-0.8, 0.4, 0.4]),
    )


def test_addresses_of_unembedded_labels_stay_what_they_were(water: Cluster) -> None:
    # Taken from the version before embedding: a store of that time must go on being found.
    assert LEVEL.fingerprint == "b8951ed6670cc95e"
    assert label_key(water, LEVEL) == "e6a8b0e335404bedc29a45b73007b0fcdf713421e61e5af29dd1c823ed365650"
    assert AMONG_CHARGES.fingerprint != LEVEL.fingerprint


def test_every_number_of_the_surroundings_is_in_the_key(water: Cluster, around: Surroundings) -> None:
    keys = {label_key(water, AMONG_CHARGES), label_key(replace(water, surroundings=around), AMONG_CHARGES)}
    for name in ("positions", "charges", "own"):
        changed = getattr(around, name).copy()
        changed.flat[1] += 1e-6
        moved = replace(around, **{name: changed})
        keys.add(label_key(replace(water, surroundings=moved), AMONG_CHARGES))
    assert len(keys) == 5


def test_which_atoms_the_charges_came_from_is_not(water: Cluster, around: Surroundings) -> None:
    same = replace(around, parent=around.parent + 3)
    keys = {label_key(replace(water, surroundings=x), AMONG_CHARGES) for x in (around, same)}
    assert len(keys) == 1


def test_surroundings_and_level_belong_together(water: Cluster, around: Surroundings) -> None:
    embedded = replace(water, surroundings=around)
    check_embedding(water, LEVEL)
    check_embedding(embedded, AMONG_CHARGES)
    with pytest.raises(LabelError, match="lies among point charges, but labels of pyscf are mechanical"):
        check_embedding(embedded, LEVEL)
    with pytest.raises(LabelError, match="has no surroundings, but labels of pyscf are electrostatic"):
        check_embedding(water, AMONG_CHARGES)


def test_embedded_and_unembedded_do_not_mix() -> None:
    with pytest.raises(MixedLabels, match=r"2 levels of theory .* embedding electrostatic and mechanical") as caught:
        check_one_level([LEVEL, AMONG_CHARGES, LEVEL])
    assert "begin a new run" in caught.value.cure
    check_one_level([LEVEL, replace(LEVEL)])
    check_one_level([AMONG_CHARGES])
    check_one_level([])


def test_every_difference_is_named() -> None:
    with pytest.raises(MixedLabels, match="basis 6-31g\\* and def2-svp; grid_level 3 and 4"):
        check_one_level([LEVEL, replace(LEVEL, basis="def2-svp", grid_level=4)])
