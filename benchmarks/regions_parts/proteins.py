"""Chignolin and crambin in water, and regions around their atoms."""

from functools import cache
from pathlib import Path

import numpy as np
import openmm
from openmm import Vec3, app, unit

from qmml_md.config import Region as RegionSettings
from qmml_md.engine.experience import region_layout, thresholds
from qmml_md.learning.calibration import fit_calibration
from qmml_md.region.cluster import Cluster, cut_cluster
from qmml_md.region.policy import Region, ThresholdPolicy
from qmml_md.region.sampling import region_around
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "structures"
#: File and edge of the box, nm: for crambin one that holds ten thousand atoms.
PROTEINS = {"chignolin": ("chignolin_1uao_model1.pdb", 3.4), "crambin": ("crambin_1ejg_with_hydrogens.pdb", 4.75)}
#: Steps of a minimiser.
RELAXATION = 40
#: Most atoms of a cluster, and reach of its buffer, Å. The indole of a tryptophan with its link atom needs 16.
SIZES = ((24, 2.5), (40, 3.5), (64, 4.5))


@cache
def solvated(name: str, folder: Path) -> Molecules:
    """A protein in a box of water, relaxed until the contacts of waters that were put there are gone.

    Args:
        name: of ``PROTEINS``.
        folder: where the structure may be written.
    """
    file, edge = PROTEINS[name]
    protein = app.PDBFile(str(DATA / file))
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(protein.topology, protein.positions)
    modeller.addSolvent(field, model="tip3p", boxSize=Vec3(edge, edge, edge) * unit.nanometer)
    system = field.createSystem(modeller.topology, nonbondedMethod=app.CutoffPeriodic)
    platform = openmm.Platform.getPlatformByName("CPU")
    sums = {"Threads": "1", "DeterministicForces": "true"}
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, sums)
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=RELAXATION)
    path = folder / f"{name}_in_water.pdb"
    with path.open("w") as out:
        app.PDBFile.writeFile(modeller.topology, context.getState(positions=True).getPositions(), out)
    return read_structure(path)


def policy_of(molecules: Molecules, max_atoms: int, buffer_A: float) -> ThresholdPolicy:
    """The policy of a run with a cluster of this size."""
    settings = RegionSettings(max_qm_atoms=max_atoms, buffer_A=buffer_A)
    return thresholds(settings, fit_calibration(()), region_layout(settings, molecules))


def protein_atoms(molecules: Molecules) -> np.ndarray:
    """Atoms of the protein: of every molecule that is neither water nor an ion."""
    sizes = np.bincount(molecules.molecule_of)[molecules.molecule_of]
    return np.flatnonzero(sizes > 3)


def centres(molecules: Molecules, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random atoms, three of four in the protein and the fourth anywhere."""
    inside = rng.choice(protein_atoms(molecules), size=count)
    anywhere = rng.integers(molecules.size, size=count)
    return np.where(rng.random(count) < 0.75, inside, anywhere)


def cluster_at(atom: int, molecules: Molecules, policy: ThresholdPolicy) -> tuple[Region, Cluster]:
    """The region and the cluster that a run would take around an atom in doubt."""
    region = region_around(atom, molecules, policy)
    return region, cut_cluster(molecules, molecules.positions, region.atoms)
