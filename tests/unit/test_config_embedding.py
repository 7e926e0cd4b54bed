import pytest
from pydantic import ValidationError

from qmml_md.config import Config
from qmml_md.config_file import parse_config

MIXED = {"structure": "a.pdb", "ml_atoms": "resname ACE ALA NME", "force_field": ["amber14-all.xml"]}


def test_electrostatic_embedding_needs_a_force_field() -> None:
    with pytest.raises(ValidationError, match=r"set system\.ml_atoms"):
        Config(system={"structure": "a.pdb"}, reference={"embedding": "electrostatic"})
    found = Config(system=MIXED, reference={"embedding": "electrostatic"})
    assert (found.reference.embedding, found.reference.embedding_cutoff_A) == ("electrostatic", 12.0)
    assert Config(system=MIXED).reference.embedding == "mechanical"


@pytest.mark.parametrize("line", ["embedding: polarisable", "embedding_cutoff_A: 0", "embedding_cutoff: 9"])
def test_other_words_and_impossible_cutoffs_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="embedding"):
        parse_config(f"system:\n  structure: a.pdb\nreference:\n  {line}\n")
