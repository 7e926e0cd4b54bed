"""The ensemble through openmmml, in a script that knows nothing else of this package."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit
from openmmml import MLPotential

from qmml_md.ensemble import weights
from qmml_md.ensemble.mlpotential import QmmlPotentialFactory
from qmml_md.ensemble.model import evaluate
from qmml_md.errors import ConfigError, ElementError

ROOT = Path(__file__).parents[3]
MINI = str(ROOT / "tests" / "data" / "ani_mini.safetensors")
CAPPED = ROOT / "examples" / "alanine_dipeptide_tip3p" / "alanine_dipeptide.pdb"
PLATFORMS = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
#: Reference adds in double precision; the others keep positions in single, 6e-8 nm of 2 nm, and forces in single too.
ENERGY = {"Reference": 1e-6}
SINGLE_KJ_PER_MOL = 0.02


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    MLPotential.registerImplFactory("qmml", QmmlPotentialFactory())


@pytest.fixture(scope="module")
def peptide() -> tuple[app.Topology, np.ndarray]:
    """Ace-Ala-Nme alone, and its positions, nm."""
    pdb = app.PDBFile(str(CAPPED))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.deleteWater()
    modeller.topology.setPeriodicBoxVectors(None)
    return modeller.topology, np.array(modeller.positions.value_in_unit(unit.nanometer))


def energy(system: openmm.System, positions: np.ndarray, platform: str) -> float:
    """Energy, kJ/mol; virtual sites are placed."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    sites = system.getNumParticles() - len(positions)
    context.setPositions(np.concatenate([positions, np.zeros((sites, 3))]))
    context.computeVirtualSites()
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def numbers(topology: app.Topology) -> np.ndarray:
    return np.array([atom.element.atomic_number for atom in topology.atoms()])


def side_chain(topology: app.Topology) -> list[int]:
    return [a.index for a in topology.atoms() if a.residue.name == "ALA" and a.name in ("CB", "HB1", "HB2", "HB3")]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("force", ["torchforce", "pythonforce"])
def test_a_whole_system(peptide: tuple[app.Topology, np.ndarray], platform: str, force: str) -> None:
    topology, x = peptide
    system = MLPotential("qmml", weights=MINI, precision="double", force=force).createSystem(topology)
    wanted = evaluate(weights.load(MINI, "double"), numbers(topology), x, None).energy
    assert energy(system, x, platform) == pytest.approx(wanted, abs=ENERGY.get(platform, SINGLE_KJ_PER_MOL))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_mixed_system_with_a_cap(peptide: tuple[app.Topology, np.ndarray], platform: str) -> None:
    topology, x = peptide
    field = app.ForceField("amber14-all.xml")
    everything, atoms = field.createSystem(topology), side_chain(topology)
    potential = MLPotential("qmml", weights=MINI, precision="double")
    mixed = potential.createMixedSystem(topology, everything, atoms, forceGroup=3)
    ours = [k for k in range(mixed.getNumForces()) if mixed.getForce(k).getForceGroup() == 3]
    assert len(ours) == 1
    with_ensemble = energy(mixed, x, platform)
    mixed.removeForce(ours[0])
    host = atoms[0]
    (outer,) = {b[k].index for b in topology.bonds() for k in (0, 1) if b[1 - k].index == host} - set(atoms)
    vector = x[outer] - x[host]
    methane = np.concatenate([x[atoms], [x[host] + 0.107 * vector / np.linalg.norm(vector)]])
    wanted = evaluate(weights.load(MINI, "double"), np.array([6, 1, 1, 1, 1]), methane, None).energy
    difference = with_ensemble - energy(mixed, x, platform)
    assert difference == pytest.approx(wanted, abs=ENERGY.get(platform, SINGLE_KJ_PER_MOL))
    # Sabotage: without its cap the side chain is a radical, and has another energy.
    bare = evaluate(weights.load(MINI, "double"), np.array([6, 1, 1, 1]), methane[:4], None).energy
    assert abs(bare - wanted) > 1.0


def test_interpolation_is_refused_before_openmm_crashes(peptide: tuple[app.Topology, np.ndarray]) -> None:
    topology, _ = peptide
    everything, atoms = app.ForceField("amber14-all.xml").createSystem(topology), side_chain(topology)
    with pytest.raises(ConfigError, match="interpolate"):
        MLPotential("qmml", weights=MINI).createMixedSystem(topology, everything, atoms, interpolate=True)


def test_a_periodic_system_says_that_its_range_is_short() -> None:
    pdb = app.PDBFile(str(CAPPED))
    atoms = [a.index for a in pdb.topology.atoms() if a.residue.name != "HOH"]
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    everything = field.createSystem(pdb.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer)
    mixed = MLPotential("qmml", weights=MINI).createMixedSystem(pdb.topology, everything, atoms)
    assert mixed.usesPeriodicBoundaryConditions()
    assert mixed.getForce(mixed.getNumForces() - 1).getName() == "ensemble"


def test_wrong_arguments_are_named(peptide: tuple[app.Topology, np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="precision: `half`"):
        MLPotential("qmml", weights=MINI, precision="half")
    with pytest.raises(ConfigError, match="force: `magic`"):
        MLPotential("qmml", weights=MINI, force="magic")
    topology = app.Topology()
    topology.addAtom("M", None, topology.addResidue("HOH", topology.addChain()))
    with pytest.raises(ElementError, match="no element"):
        MLPotential("qmml", weights=MINI).createSystem(topology)


@pytest.mark.parametrize("first", ["qmml_md.ensemble.mlpotential", "openmmml"])
def test_importing_it_first_or_last_loads_no_torch(first: str) -> None:
    code = f"import {first}, openmmml, qmml_md.ensemble.mlpotential, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "False", found.stderr
