"""Unlabelled clusters: every kind of molecule is met, and what is cut is what the policy would choose."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.region.policy import ThresholdPolicy
from qmml_md.region.sampling import cluster_around, molecules_by_kind, random_atom
from qmml_md.system.structures import read_structure

NMA = Path(__file__).parents[3] / "examples" / "nma_in_water" / "nma_in_water.pdb"
POLICY = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=3.0, max_atoms=24)


@pytest.fixture(scope="module")
def box():
    return read_structure(NMA)


def test_kinds_part_the_atoms(box) -> None:
    kinds = molecules_by_kind(box)
    assert [len(kind) for kind in kinds] == [12, 639]
    assert sorted(np.concatenate(kinds).tolist()) == list(range(box.size))
    for kind in kinds:
        assert len({tuple(sorted(box.numbers[box.molecule_of == m])) for m in set(box.molecule_of[kind])}) == 1


def test_a_lone_solute_is_met_as_often_as_its_solvent(box) -> None:
    kinds, rng = molecules_by_kind(box), np.random.default_rng(4)
    hits = sum(random_atom(kinds, rng) < 12 for _ in range(400))
    # Binomial, p = 1/2: 200 ± 10; five standard deviations. Uniform over atoms it would be 7.
    assert abs(hits - 200) < 50


def test_cluster_around_an_atom_holds_its_molecule(box) -> None:
    cluster = cluster_around(0, box, POLICY)
    assert set(range(12)) <= set(cluster.parent.tolist())
    assert cluster.size <= 24
