"""Selections name atoms, and no selection runs code."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.errors import ConfigError
from qmml_md.system.molecules import Molecules
from qmml_md.system.selection import select
from qmml_md.system.structures import read_structure


@pytest.fixture(scope="module")
def chignolin(data: Path) -> Molecules:
    return read_structure(data / "chignolin_1uao_model1.pdb")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("all", lambda a: True),
        ("protein and not type H", lambda a: a.element.symbol != "H"),
        ("resname GLY ASP", lambda a: a.residue.name in ("GLY", "ASP")),
        ("resSeq 3 to 5", lambda a: 3 <= a.residue.resSeq <= 5),
        ("(index < 20) or name CA", lambda a: a.index < 20 or a.name == "CA"),
        ("name =~ 'H.*'", lambda a: a.name.startswith("H")),
        ("sidechain and mass > 13", lambda a: a.is_sidechain and a.element.mass > 13),
        ("resname 'GLY'", lambda a: a.residue.name == "GLY"),
    ],
)
def test_selections_are_those_of_mdtraj(chignolin: Molecules, expression: str, expected) -> None:
    atoms = select(chignolin, expression, "region.seeds")
    assert atoms.dtype == np.int64
    assert atoms.tolist() == [a.index for a in chignolin.topology.atoms if expected(a)]
    assert len(atoms) > 0


@pytest.mark.parametrize(
    "expression",
    ["", "GLY", "resname", "resname GLY and", "resid", "resname GLY and mass", "protien", "name CA;", "7", "'all'",
     "index < GLY", "mass 1..2 to 3", "lambda", "name lambda", "((all", "name atom", "resname re", "x" * 3000,
     "name =~ '('"],
)  # fmt: skip
def test_what_is_no_selection_names_the_key_and_the_cure(chignolin: Molecules, expression: str) -> None:
    with pytest.raises(ConfigError, match=r"system\.ml_atoms: `.*` is no selection") as caught:
        select(chignolin, expression, "system.ml_atoms")
    assert "resname LIG" in caught.value.cure
    assert len(str(caught.value)) < 600


def test_empty_selection_is_refused_unless_it_may_be_empty(chignolin: Molecules) -> None:
    with pytest.raises(ConfigError, match=r"region\.never: `resname LIG` selects no atom"):
        select(chignolin, "resname LIG", "region.never")
    assert select(chignolin, "resname LIG", "region.never", may_be_empty=True).tolist() == []


HOSTILE = [
    "__import__('os').system('touch {mark}')",
    "name CA and __import__('os').system('touch {mark}')",
    "exec('open(\"{mark}\", \"w\")')",
    "name (lambda: open('{mark}', 'w'))()",
    "atom.__class__.__init__.__globals__['__builtins__']",
    "[open('{mark}', 'w') for x in (1,)]",
    "name CA if open('{mark}', 'w') else all",
    "(x := open('{mark}', 'w'))",
    "name `open('{mark}', 'w')`",
    "f\"{{open('{mark}', 'w')}}\"",
    "name f\"{{open('{mark}', 'w')}}\"",
    "name \"\"\"a\" + str(open('{mark}', 'w')) + \"b\"\"\"",
    "name \"a\"\"\" + str(open('{mark}', 'w')) + \"\"\"b\"",
    "name 'a\\' + str(open(\"{mark}\", \"w\")) + \\'b'",
    "name =~ \"\\N{{LATIN SMALL LETTER A}}\" and open('{mark}', 'w')",
    "re.sys.modules['os'].system('touch {mark}')",
    "name CA\nimport os; os.system('touch {mark}')",
]  # fmt: skip


@pytest.mark.parametrize("expression", HOSTILE)
def test_no_selection_runs_code(chignolin: Molecules, tmp_path: Path, expression: str) -> None:
    mark = tmp_path / "mark"
    # What MDTraj takes for a string selects nothing; all else is refused.
    with pytest.raises(ConfigError):
        select(chignolin, expression.format(mark=mark), "system.ml_atoms")
    assert not mark.exists()


def test_python_itself_would_run_such_a_text(tmp_path: Path) -> None:
    """The twin: the expressions are live ammunition, and the mark would be seen."""
    mark = tmp_path / "mark"
    exec(HOSTILE[0].format(mark=mark))  # noqa: S102
    assert mark.exists()
