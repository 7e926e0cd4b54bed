"""The structures of the examples are what their scripts and READMEs say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import mdtraj
import numpy as np

from qmml_md.system.images import nearest_image
from qmml_md.system.structures import check_structure, read_structure
from qmml_md.units import AVOGADRO_PER_MOL


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"build_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ethanol_is_what_its_script_writes(examples: Path) -> None:
    folder = examples / "ethanol_nve"
    assert script(folder / "build_structure.py").pdb_lines() == (folder / "ethanol.pdb").read_text().splitlines()


def test_nma_starts_from_the_measured_gas_phase_geometry(examples: Path) -> None:
    build = script(examples / "nma_in_water" / "build_structure.py")
    topology, positions = build.solute()
    xyz = np.array(positions.value_in_unit(positions.unit))
    names = {(a.residue.name, a.name): a.index for a in topology.atoms()}
    ch3, c, o = (names["ACE", n] for n in ("CH3", "C", "O"))
    n, h, methyl = (names["NME", n] for n in ("N", "H", "C"))
    trajectory = mdtraj.Trajectory(xyz / 10, mdtraj.Topology.from_openmm(topology))
    omega, anti = np.degrees(
        mdtraj.compute_dihedrals(trajectory, [[ch3, c, n, methyl], [o, c, n, h]], periodic=False)[0]
    )
    # mdtraj computes in float32.
    assert abs(abs(omega) - 180) < 0.1
    assert abs(abs(anti) - 180) < 0.1
    for (i, j), expected in {(c, o): 1.225, (c, n): 1.386, (c, ch3): 1.520, (n, methyl): 1.469}.items():
        assert abs(np.linalg.norm(xyz[i] - xyz[j]) - expected) < 1e-12
    distances = np.linalg.norm(xyz[:, None] - xyz, axis=2) + 9 * np.eye(12)
    assert distances.min() > 1.0


def test_nma_in_water_is_fit_for_the_run(examples: Path) -> None:
    molecules = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    # Three cells of the 5.2 Å neighbour list along each edge.
    assert molecules.box is not None
    assert molecules.box.diagonal().min() > 1.56
    check_structure(molecules, symbols=("H", "C", "N", "O"), cutoff_A=5.2)
    assert np.bincount(np.bincount(molecules.molecule_of)).nonzero()[0].tolist() == [3, 12]
    assert 600 < molecules.size < 700
    # Molecules are whole in the file: no bond needs a shift.
    i, j = molecules.bonds.T
    assert not nearest_image(molecules.positions[j] - molecules.positions[i], molecules.box)[1].any()
    # TIP3P at 300 K and 1 bar: 0.98 g/cm3; volume fluctuates by 1.5 % (kT kappa / V at 4.6e-10 / Pa, 6.6 nm3).
    density = molecules.masses.sum() / AVOGADRO_PER_MOL / (np.linalg.det(molecules.box) * 1e-21)
    assert abs(density - 0.98) < 3 * 0.015 * 0.98


def test_nma_is_still_trans(examples: Path) -> None:
    molecules = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    names = [str(a) for a in molecules.topology.atoms]
    quartet = [names.index(n) for n in ("ACE1-CH3", "ACE1-C", "NME2-N", "NME2-C")]
    trajectory = mdtraj.Trajectory(molecules.positions, molecules.topology)
    omega = np.degrees(mdtraj.compute_dihedrals(trajectory, [quartet], periodic=False)[0, 0])
    assert abs(omega) > 140
