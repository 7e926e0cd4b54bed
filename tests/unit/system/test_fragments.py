"""Fragments: nothing is cut but single bonds between carbons, out of rings and of conjugation."""

import numpy as np
import pytest

from qmml_md.system.fragments import cuttable_bonds, fragments_of
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure


def chain(symbols: str, bonds: str, hydrogens: str) -> tuple[np.ndarray, np.ndarray]:
    """Heavy atoms, bonds such as "01 12", and the number of hydrogens on each."""
    numbers = [{"C": 6, "N": 7, "O": 8, "S": 16}[s] for s in symbols]
    pairs = [[int(a, 36), int(b, 36)] for a, b in bonds.split()]
    for atom, count in enumerate(hydrogens):
        for _ in range(int(count)):
            pairs.append([atom, len(numbers)])
            numbers.append(1)
    return np.array(numbers), np.array(pairs, dtype=np.int64)


@pytest.mark.parametrize(
    ("name", "symbols", "bonds", "hydrogens", "cut"),
    [
        ("butane", "CCCC", "01 12 23", "3223", {(0, 1), (1, 2), (2, 3)}),
        ("propene", "CCC", "01 12", "312", {(0, 1)}),
        ("butadiene", "CCCC", "01 12 23", "2112", set()),
        ("propyne", "CCC", "01 12", "301", set()),
        ("ethanol", "CCO", "01 12", "321", {(0, 1)}),
        ("N-methylacetamide", "CCONC", "01 12 13 34", "30013", {(0, 1)}),
        ("toluene", "CCCCCCC", "01 12 23 34 45 50 06", "0111113", {(0, 6)}),
        ("biphenyl bond", "CCCCCCC", "01 12 23 34 45 50 06", "0111112", set()),
        ("cyclohexane", "CCCCCC", "01 12 23 34 45 50", "222222", set()),
        ("dimethyl disulfide", "CSSC", "01 12 23", "3003", set()),
        (
            "ring of nine",
            "CCCCCCCCC",
            "01 12 23 34 45 56 67 78 80",
            "222222222",
            {(k, k + 1) for k in range(8)} | {(0, 8)},
        ),
        ("ring of eight", "CCCCCCCC", "01 12 23 34 45 56 67 70", "22222222", set()),
    ],
)
def test_only_single_acyclic_carbon_bonds_may_be_cut(name, symbols, bonds, hydrogens, cut) -> None:
    numbers, pairs = chain(symbols, bonds, hydrogens)
    assert {tuple(sorted(b)) for b in cuttable_bonds(numbers, pairs).tolist()} == cut, name
    expected = 1 if name == "ring of nine" else None
    fragments = fragments_of(numbers, pairs)
    assert fragments.max() + 1 == (9 if expected else len(cut) + 1)


def test_peptide_falls_apart_into_amides_and_side_chains(data) -> None:
    molecules: Molecules = read_structure(data / "chignolin_1uao_model1.pdb")
    atoms = {str(a): a.index for a in molecules.topology.atoms}
    fragment = molecules.fragment_of
    for together in (("GLY1-C", "TYR2-N"), ("TYR2-N", "TYR2-CA"), ("ASP3-CG", "ASP3-OD1"), ("TRP9-CG", "TRP9-CH2"),
                     ("PRO4-CA", "PRO4-CB"), ("PRO4-N", "PRO4-CD"), ("THR6-CB", "THR6-OG1")):  # fmt: skip
        assert fragment[atoms[together[0]]] == fragment[atoms[together[1]]], together
    for apart in (("TYR2-CA", "TYR2-C"), ("TYR2-CA", "TYR2-CB"), ("TRP9-CB", "TRP9-CG"), ("ASP3-CB", "ASP3-CG")):
        assert fragment[atoms[apart[0]]] != fragment[atoms[apart[1]]], apart
    # The largest is what caps and 24 atoms have room for.
    assert np.bincount(fragment).max() <= 16


def test_disulfide_stays_whole_while_the_backbone_between_its_cysteines_is_cut(data) -> None:
    molecules = read_structure(data / "crambin_1ejg_with_hydrogens.pdb", periodic=False)
    sulfurs = [b for b in molecules.bonds.tolist() if (molecules.numbers[b] == 16).all()]
    assert len(sulfurs) == 3
    assert all(molecules.fragment_of[a] == molecules.fragment_of[b] for a, b in sulfurs)
    assert molecules.fragment_of.max() + 1 > 100
    assert (np.diff(np.unique(molecules.fragment_of, return_index=True)[1]) > 0).all()


def test_hydrogens_missing_make_no_bond_cuttable() -> None:
    """The twin: without its hydrogens a carbon is not known to be saturated, and nothing is cut."""
    numbers, pairs = chain("CCCC", "01 12 23", "0000")
    assert len(cuttable_bonds(numbers, pairs)) == 0
    assert fragments_of(numbers, pairs).tolist() == [0, 0, 0, 0]
