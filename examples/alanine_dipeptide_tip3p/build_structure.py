"""Build alanine_dipeptide.pdb: Ace-Ala-Nme in a periodic cube of TIP3P water at 300 K and 1 bar.

The heavy atoms start at standard bond lengths and angles near the C7eq conformer; OpenMM's Modeller adds hydrogens and
water, and a short NPT run with the force field of the example finds the density.

Usage: python build_structure.py [OUTPUT.pdb]      (about a minute on one core; the same seed gives the same file)
"""

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

WATERS = 260
TEMPERATURE = 300.0 * unit.kelvin
PRESSURE = 1.0 * unit.bar
SEED = 20180625
CUTOFF = 0.9 * unit.nanometer
EQUILIBRATION_STEPS = 20_000
SAMPLES = 40
STEPS_PER_SAMPLE = 500

#: name, residue, element, then (bonded atom, Å), (angle atom, degrees), (dihedral atom, degrees).
Z_MATRIX = (
    ("C", "ACE", "C", None, None, None),
    ("CH3", "ACE", "C", ("C", 1.520), None, None),
    ("N", "ALA", "N", ("C", 1.335), ("CH3", 116.6), None),
    ("O", "ACE", "O", ("C", 1.229), ("N", 122.9), ("CH3", 180.0)),
    ("CA", "ALA", "C", ("N", 1.449), ("C", 121.9), ("CH3", 180.0)),
    ("C'", "ALA", "C", ("CA", 1.522), ("N", 110.1), ("C", -80.0)),
    ("CB", "ALA", "C", ("CA", 1.526), ("N", 109.7), ("C", 160.0)),
    ("N'", "NME", "N", ("C'", 1.335), ("CA", 116.6), ("N", 70.0)),
    ("O'", "ALA", "O", ("C'", 1.229), ("CA", 120.4), ("N", -110.0)),
    ("CM", "NME", "C", ("N'", 1.449), ("C'", 121.9), ("CA", 180.0)),
)
#: Names in a file are unique within their residue only.
NAMES = {"C'": "C", "O'": "O", "N'": "N", "CM": "C"}
ORDER = {"ACE": ("CH3", "C", "O"), "ALA": ("N", "CA", "CB", "C'", "O'"), "NME": ("N'", "CM")}


def cartesian() -> dict[str, np.ndarray]:
    """Positions of the heavy atoms in Å from the Z-matrix."""
    placed: dict[str, np.ndarray] = {}
    for name, _residue, _element, bond, angle, dihedral in Z_MATRIX:
        if bond is None:
            placed[name] = np.zeros(3)
        elif angle is None:
            placed[name] = np.array([bond[1], 0.0, 0.0])
        else:
            b, c = placed[bond[0]], placed[angle[0]]
            # Any reference off the axis will do for the third atom, which only fixes the plane.
            d = placed[dihedral[0]] if dihedral else c + np.array([0.0, 1.0, 0.0])
            theta, phi = np.radians(angle[1]), np.radians(dihedral[1] if dihedral else 0.0)
            axis = (c - b) / np.linalg.norm(c - b)
            normal = np.cross(d - c, axis)
            normal /= np.linalg.norm(normal)
            inplane = np.cross(axis, normal)
            direction = np.cos(theta) * axis + np.sin(theta) * (np.cos(phi) * inplane + np.sin(phi) * normal)
            placed[name] = b + bond[1] * direction
    return placed


def solute() -> tuple[app.Topology, unit.Quantity]:
    """The heavy atoms as OpenMM topology and positions."""
    elements = {row[0]: row[2] for row in Z_MATRIX}
    positions = cartesian()
    topology = app.Topology()
    chain = topology.addChain()
    ordered = []
    for residue_name, names in ORDER.items():
        residue = topology.addResidue(residue_name, chain)
        for name in names:
            topology.addAtom(NAMES.get(name, name), app.Element.getBySymbol(elements[name]), residue)
            ordered.append(positions[name])
    topology.createStandardBonds()
    return topology, np.array(ordered) * unit.angstrom


def solvated(field: app.ForceField) -> app.Modeller:
    """The solute with its hydrogens and exactly ``WATERS`` waters in a cubic box."""
    modeller = app.Modeller(*solute())
    # The Reference platform: hydrogens are placed by minimising from random places, to the same end each time.
    modeller.addHydrogens(field, platform=openmm.Platform.getPlatformByName("Reference"))
    modeller.addSolvent(field, model="tip3p", numAdded=WATERS)
    return modeller


def equilibrate(field: app.ForceField, modeller: app.Modeller) -> tuple[np.ndarray, np.ndarray]:
    """Minimise, run NPT, and return positions and box (nm) of the sample whose volume is nearest to the mean."""
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=CUTOFF, constraints=app.HBonds, rigidWater=True
    )
    barostat = openmm.MonteCarloBarostat(PRESSURE, TEMPERATURE, 25)
    barostat.setRandomNumberSeed(SEED)
    system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 2.0 / unit.picosecond, 2.0 * unit.femtosecond)
    integrator.setRandomNumberSeed(SEED)
    platform = openmm.Platform.getPlatformByName("CPU")
    # One thread and a fixed order of summation: the same seed gives the same file.
    context = openmm.Context(system, integrator, platform, {"Threads": "1", "DeterministicForces": "true"})
    context.setPeriodicBoxVectors(*modeller.topology.getPeriodicBoxVectors())
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
    context.setVelocitiesToTemperature(TEMPERATURE, SEED)
    integrator.step(EQUILIBRATION_STEPS)
    samples = []
    for _ in range(SAMPLES):
        integrator.step(STEPS_PER_SAMPLE)
        state = context.getState(positions=True)
        box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        samples.append((state.getPositions(asNumpy=True).value_in_unit(unit.nanometer), box))
    volumes = np.array([np.linalg.det(box) for _, box in samples])
    print(f"volume {volumes.mean():.3f} nm3, standard deviation {volumes.std():.3f} nm3 over {SAMPLES} samples")
    return samples[int(np.argmin(np.abs(volumes - volumes.mean())))]


def centred(topology: app.Topology, positions: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whole molecules, the solute in the middle, the centre of each water inside the box (nm)."""
    heavy = [atom.index for atom in topology.atoms() if atom.residue.name != "HOH"]
    moved = positions + box.diagonal() / 2 - positions[heavy].mean(axis=0)
    for residue in topology.residues():
        if residue.name == "HOH":
            atoms = [atom.index for atom in residue.atoms()]
            moved[atoms] -= np.floor(moved[atoms].mean(axis=0) / box.diagonal()) * box.diagonal()
    return moved


def write(path: Path, topology: app.Topology, positions: np.ndarray, box: np.ndarray) -> None:
    """Write the PDB file with its box (CRYST1) and the bonds of the solute (CONECT), without today's date."""
    topology.setPeriodicBoxVectors(box * unit.nanometer)
    with path.open("w") as file:
        file.write("REMARK   1 ACE-ALA-NME IN TIP3P WATER, 300 K, 1 BAR; MADE BY BUILD_STRUCTURE.PY\n")
        lengths = box.diagonal() * 10
        file.write("CRYST1{:9.3f}{:9.3f}{:9.3f}  90.00  90.00  90.00 P 1           1 \n".format(*lengths))
        app.PDBFile.writeModel(topology, positions * unit.nanometer, file)
        app.PDBFile.writeFooter(topology, file)


def main() -> None:
    """Build the structure and write it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("alanine_dipeptide.pdb")
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = solvated(field)
    positions, box = equilibrate(field, modeller)
    write(path, modeller.topology, centred(modeller.topology, positions, box), box)
    print(f"{path}: {modeller.topology.getNumAtoms()} atoms, box edge {box[0, 0] * 10:.3f} Å")


if __name__ == "__main__":
    main()
