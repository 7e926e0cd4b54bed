"""Which bonds may leave the ML atoms."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.errors import ForceFieldError
from qmml_md.system.border import check_border
from qmml_md.system.fragments import cuttable_bonds
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure
from qmml_md.system.subsystem import cut_bonds


@pytest.fixture(scope="module")
def chignolin(data: Path) -> Molecules:
    return read_structure(data / "chignolin_1uao_model1.pdb")


@pytest.mark.parametrize(
    ("selection", "links"),
    [
        ("protein", 0),
        ("resname TRP and sidechain", 1),
        ("(resid 2 to 4 and not (resid 4 and name C O)) or (resid 1 and name C O)", 2),
    ],
)
def test_single_bonds_of_carbon_may_be_cut(chignolin: Molecules, selection: str, links: int) -> None:
    atoms = chignolin.topology.select(selection)
    found = check_border(chignolin, atoms)
    assert len(found) == links
    assert np.isin(found[:, 0], atoms).all()
    assert not np.isin(found[:, 1], atoms).any()


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ("resid 3", "N of PRO 4 .* – C of ASP 3 .*: not between two carbon atoms"),
        ("resname TRP and name CZ2 HZ2", "CZ2 of TRP 9 .* double, aromatic or conjugated"),
        ("resname PRO and name CG HG2 HG3", "CG of PRO 4 .* in a ring"),
        ("element H", "and .* more"),
    ],
)
def test_other_bonds_may_not(chignolin: Molecules, selection: str, words: str) -> None:
    with pytest.raises(ForceFieldError, match=words):
        check_border(chignolin, chignolin.topology.select(selection))


def test_what_passes_is_what_may_be_cut(chignolin: Molecules) -> None:
    # Every set of whole fragments passes or cuts two bonds of one atom; moving one atom across a border is caught.
    allowed = {frozenset(bond) for bond in cuttable_bonds(chignolin.numbers, chignolin.bonds).tolist()}
    rng = np.random.default_rng(11)
    count = int(chignolin.fragment_of.max()) + 1
    passed = 0
    for _ in range(50):
        chosen = rng.random(count) < 0.5
        atoms = np.flatnonzero(chosen[chignolin.fragment_of])
        _, ends = np.unique(cut_bonds(chignolin, atoms)[:, 1], return_counts=True)
        if (ends > 1).any():
            with pytest.raises(ForceFieldError, match="bonds of"):
                check_border(chignolin, atoms)
        else:
            assert {frozenset(link) for link in check_border(chignolin, atoms).tolist()} <= allowed
            passed += 1
        # Sabotage: one hydrogen on the other side of the border.
        hydrogen = atoms[chignolin.numbers[atoms] == 1][0]
        with pytest.raises(ForceFieldError, match="must not be cut"):
            check_border(chignolin, atoms[atoms != hydrogen])
    assert passed > 0


def test_two_caps_at_one_atom_are_refused(chignolin: Molecules) -> None:
    # Both neighbours of an alpha carbon are ML, the alpha carbon is not.
    outer = chignolin.topology.select("resname TYR and name CA")[0]
    atoms = np.setdiff1d(np.arange(chignolin.size), chignolin.topology.select("resname TYR and name CA HA N H"))
    before = chignolin.topology.select("resid 0 and name C O")
    atoms = np.setdiff1d(atoms, before)
    with pytest.raises(ForceFieldError, match=r"cuts 2 bonds of CA of TYR"):
        check_border(chignolin, atoms)
    assert outer not in atoms
