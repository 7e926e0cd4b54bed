"""Atoms and molecules get the names of the topology."""

import json

import numpy as np
import pytest

from qmml_md.analysis.naming import names
from qmml_md.errors import AuditError
from qmml_md.records.segment import Particles


def particles(text, n):
    return Particles(
        numbers=np.ones(n, dtype=np.int64), masses=np.ones(n), topology_json=text, periodic=False, degrees_of_freedom=3
    )


def topology():
    def residue(name, number, first, atoms):
        found = [{"index": first + i, "name": a, "element": a[0]} for i, a in enumerate(atoms)]
        return {"index": number, "name": name, "resSeq": number, "segmentID": "", "atoms": found}

    residues = [residue("ACE", 1, 0, ["C", "O"]), residue("NME", 2, 2, ["N"]), residue("HOH", 3, 3, ["O", "H1", "H2"])]
    return {"chains": [{"index": 0, "residues": residues}], "bonds": [[0, 1], [2, 0], [3, 4], [3, 5]]}


def test_molecules_are_what_bonds_connect():
    found = names(particles(json.dumps(topology()), 6))
    assert found.atoms == ("ACE1 C", "ACE1 O", "NME2 N", "HOH3 O", "HOH3 H1", "HOH3 H2")
    assert found.molecule_of == (0, 0, 0, 1, 1, 1)
    assert found.molecules == ("ACE1…NME2", "HOH3")


@pytest.mark.parametrize("text", ["", "[]", '{"chains": []}', json.dumps(topology())])
def test_topology_that_does_not_fit_is_refused(text):
    with pytest.raises(AuditError, match="cannot be read for 7 atoms"):
        names(particles(text, 7))
