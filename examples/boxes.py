"""What the scripts that build the structures of the examples have in common: a short NPT run, whole molecules."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

TEMPERATURE = 300.0 * unit.kelvin
PRESSURE = 1.0 * unit.bar
SEED = 20180625
STEPS_PER_SAMPLE = 500

#: Rows of a Z-matrix: name, residue, element, then (bonded atom, Å), (angle atom, degrees), (dihedral atom, degrees).
Row = tuple[str, str, str, tuple[str, float] | None, tuple[str, float] | None, tuple[str, float] | None]


def cartesian(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Positions of atoms in Å from a Z-matrix."""
    placed: dict[str, np.ndarray] = {}
    for name, _residue, _element, bond, angle, dihedral in rows:
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


def equilibrate(
    field: app.ForceField, modeller: app.Modeller, *, steps: int, samples: int = 40, cutoff_nm: float = 0.9
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise, run NPT, and return positions and box (nm) of the sample whose volume is nearest to the mean."""
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=cutoff_nm * unit.nanometer,
        constraints=app.HBonds,
        rigidWater=True,
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
    integrator.step(steps)
    found = []
    for _ in range(samples):
        integrator.step(STEPS_PER_SAMPLE)
        state = context.getState(positions=True)
        box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        found.append((state.getPositions(asNumpy=True).value_in_unit(unit.nanometer), box))
    volumes = np.array([np.linalg.det(box) for _, box in found])
    print(f"volume {volumes.mean():.3f} nm3, standard deviation {volumes.std():.3f} nm3 over {samples} samples")
    return found[int(np.argmin(np.abs(volumes - volumes.mean())))]


def centred(topology: app.Topology, positions: np.ndarray, box: np.ndarray, centre: list[int]) -> np.ndarray:
    """Whole molecules, the atoms ``centre`` in the middle, the centre of each other residue inside the box (nm)."""
    kept = {topology_atom.residue for topology_atom in topology.atoms() if topology_atom.index in set(centre)}
    moved = positions + box.diagonal() / 2 - positions[centre].mean(axis=0)
    for residue in topology.residues():
        if residue not in kept:
            atoms = [atom.index for atom in residue.atoms()]
            moved[atoms] -= np.floor(moved[atoms].mean(axis=0) / box.diagonal()) * box.diagonal()
    return moved


def write(path: Path, title: str, topology: app.Topology, positions: np.ndarray, box: np.ndarray) -> None:
    """Write a PDB file with its box (CRYST1) and bonds (CONECT), without today's date.

    Args:
        path: of the file.
        title: one line.
        topology: of all atoms.
        positions: nm, shape (n, 3).
        box: nm, shape (3, 3), rectangular.
    """
    topology.setPeriodicBoxVectors(box * unit.nanometer)
    with path.open("w") as file:
        file.write(f"REMARK   1 {title.upper()}; MADE BY BUILD_STRUCTURE.PY\n")
        lengths = box.diagonal() * 10
        file.write("CRYST1{:9.3f}{:9.3f}{:9.3f}  90.00  90.00  90.00 P 1           1 \n".format(*lengths))
        app.PDBFile.writeModel(topology, positions * unit.nanometer, file)
        app.PDBFile.writeFooter(topology, file)
    print(f"{path}: {topology.getNumAtoms()} atoms, box edge {box[0, 0] * 10:.3f} Å")
