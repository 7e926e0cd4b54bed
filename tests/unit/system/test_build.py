"""The OpenMM System holds particles and a box, and nothing that would move them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from openmm import unit

from qmml_md.errors import StructureError
from qmml_md.system.build import build_system, topology
from qmml_md.system.structures import read_structure


def test_system_has_masses_and_box_and_nothing_else(examples: Path) -> None:
    molecules = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    system = build_system(molecules)
    masses = [system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())]
    assert masses == molecules.masses.tolist()
    assert system.getNumForces() == system.getNumConstraints() == 0
    vectors = system.getDefaultPeriodicBoxVectors()
    assert np.array([list(v.value_in_unit(unit.nanometer)) for v in vectors]).tolist() == molecules.box.tolist()


def test_topology_keeps_names_bonds_and_box(examples: Path) -> None:
    molecules = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    converted = topology(molecules)
    assert [a.name for a in converted.atoms()] == [a.name for a in molecules.topology.atoms]
    assert converted.getNumBonds() == len(molecules.bonds)
    assert converted.getPeriodicBoxVectors() is not None


def test_vacuum_has_no_box(examples: Path) -> None:
    molecules = read_structure(examples / "ethanol_nve" / "ethanol.pdb")
    assert topology(molecules).getPeriodicBoxVectors() is None
    assert not build_system(molecules).usesPeriodicBoundaryConditions()


def test_virtual_site_is_refused(examples: Path) -> None:
    molecules = read_structure(examples / "ethanol_nve" / "ethanol.pdb")
    masses = molecules.masses.copy()
    masses[3] = 0.0
    with pytest.raises(StructureError, match=r"HO of EOH 1 \(index 3\) has no mass"):
        build_system(replace(molecules, masses=masses))
