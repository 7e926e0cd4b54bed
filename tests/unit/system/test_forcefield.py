"""What remains of a force field when the ML atoms are taken out of it, by identity with the whole and the part."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.config import System
from qmml_md.errors import ForceFieldError
from qmml_md.system.build import topology
from qmml_md.system.field import Field, load_field
from qmml_md.system.forcefield import build_field, build_mm, take_out
from qmml_md.system.mixed import read_system
from qmml_md.system.molecules import Floats, Molecules
from qmml_md.system.structures import read_structure

PLATFORMS = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
#: Energies of up to 1e4 kJ/mol: Reference adds in double precision, but its PME tables and the text of the System carry
#: about 1e-9 of them; the others compute pairs in single precision, 6e-8 of terms of 1e4 to 1e5 kJ/mol.
ENERGY_KJ_PER_MOL = {"Reference": 1e-4}
SINGLE_KJ_PER_MOL = 0.05
ETHANE: dict[str, Any] = {"structure": "ethane.pdb", "force_field": ["ethane.xml"]}
AMBER14 = ["amber14-all.xml", "amber14/tip3p.xml"]
WHOLE = "resname ETH"
METHYL = "resname ETH and name C1 H1 H2 H3"
#: From the carbonyl of Ace to the alpha carbon of Ala: two bonds are cut, and a peptide bond lies within.
STRETCH = "(resname ACE and name C O) or (resname ALA and not name C O)"


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(__file__).parents[2] / "data" / "force_field"


@pytest.fixture(scope="module")
def peptide(examples: Path) -> Molecules:
    """Ace-Ala-Nme in water."""
    return read_structure(examples / "alanine_dipeptide_tip3p" / "alanine_dipeptide.pdb")


@pytest.fixture(scope="module")
def alone(examples: Path) -> Molecules:
    """The same without water."""
    whole = examples / "alanine_dipeptide_tip3p" / "alanine_dipeptide.pdb"
    molecules = read_structure(whole, periodic=False)
    keep = np.flatnonzero(molecules.molecule_of == 0)
    part = {
        name: getattr(molecules, name)[keep]
        for name in ("numbers", "masses", "positions", "molecule_of", "residue_of", "fragment_of", "formal_charge")
    }
    bonds = molecules.bonds[np.isin(molecules.bonds, keep).all(axis=1)]
    return replace(molecules, topology=molecules.topology.subset(keep.tolist()), bonds=bonds, **part)


def energy(system: openmm.System, positions: Floats, box: Floats | None, platform: str) -> float:
    """Energy of atoms in a System of theirs, kJ/mol."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    if box is not None:
        context.setPeriodicBoxVectors(*box)
    context.setPositions(positions)
    return float(context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("method", ["none", "pme", "cutoff"])
def test_a_whole_solute_taken_out(folder: Path, platform: str, method: str) -> None:
    # E_field = E_mm(all) − E_mm(solute alone in vacuum): images of the solute stay with the force field.
    system = System(**ETHANE, ml_atoms=WHOLE, nonbonded=method, periodic=method != "none", nonbonded_cutoff_A=10)
    found = read_system(system, folder, platform)
    assert found.field is not None
    x, box = found.molecules.positions, found.molecules.box
    everything = energy(build_mm(system, found.molecules, folder, method), x, box, platform)
    vacuum = System(**ETHANE, ml_atoms=WHOLE, periodic=False)
    solute = found.part.molecules
    own = energy(build_mm(vacuum, replace(solute, box=None), folder, "none"), solute.positions, None, platform)
    rest, _ = found.field.evaluate(x, box)
    tolerance = ENERGY_KJ_PER_MOL.get(platform, SINGLE_KJ_PER_MOL)
    assert rest == pytest.approx(everything - own, abs=tolerance)
    # Sabotage: a solute that keeps its own interactions is noticed.
    assert abs(own) > 10.0 * tolerance
    assert abs(rest - everything) > 10.0 * tolerance


def removed_terms(mm: openmm.System, molecules: Molecules, atoms: np.ndarray) -> float:
    """Energy of what openmmml says it takes out, kJ/mol, by formulas of our own.

    Bonds within the ML atoms; angles with an ML atom in the middle, torsions with two, impropers with an ML centre, all
    as far as the other ends are ML or bonded to an ML atom; pairs of ML atoms.
    """
    ours, x = set(atoms.tolist()), molecules.positions
    bonded = {frozenset(bond) for bond in molecules.bonds.tolist()}
    total = 0.0
    forces = {type(force).__name__: force for force in mm.getForces()}
    bonds = forces["HarmonicBondForce"]
    for i, j, length, k in (bonds.getBondParameters(b) for b in range(bonds.getNumBonds())):
        if {i, j} <= ours:
            total += 0.5 * k._value * (np.linalg.norm(x[i] - x[j]) - length._value) ** 2
    angles = forces["HarmonicAngleForce"]
    for i, j, m, angle, k in (angles.getAngleParameters(a) for a in range(angles.getNumAngles())):
        if j in ours:
            u, v = x[i] - x[j], x[m] - x[j]
            found = np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
            total += 0.5 * k._value * (found - angle._value) ** 2
    torsions = forces["PeriodicTorsionForce"]
    for *four, n, phase, k in (torsions.getTorsionParameters(t) for t in range(torsions.getNumTorsions())):
        proper = all(frozenset(pair) in bonded for pair in pairwise(four))
        centre = [a for a in four if all(frozenset((a, b)) in bonded for b in four if b != a)]
        if ({four[1], four[2]} <= ours) if proper else set(centre) <= ours:
            total += k._value * (1.0 + np.cos(n * dihedral(*x[four]) - phase._value))
    return total + pairs(forces["NonbondedForce"], x, atoms)


def dihedral(a: Floats, b: Floats, c: Floats, d: Floats) -> float:
    """Dihedral angle in radians."""
    u, v, w = b - a, c - b, d - c
    return float(np.arctan2(np.linalg.norm(v) * (u @ np.cross(v, w)), np.cross(u, v) @ np.cross(v, w)))


def pairs(force: openmm.NonbondedForce, x: Floats, atoms: np.ndarray) -> float:
    """Energy of all pairs of some atoms without any cutoff, kJ/mol."""
    exceptions = {}
    for k in range(force.getNumExceptions()):
        i, j, *rest = force.getExceptionParameters(k)
        exceptions[frozenset((i, j))] = [value._value for value in rest]
    single = [[value._value for value in force.getParticleParameters(k)] for k in range(force.getNumParticles())]
    total = 0.0
    for row, i in enumerate(atoms.tolist()):
        for j in atoms[:row].tolist():
            (qi, si, ei), (qj, sj, ej) = single[i], single[j]
            q, s, e = exceptions.get(frozenset((i, j)), [qi * qj, 0.5 * (si + sj), np.sqrt(ei * ej)])
            r = np.linalg.norm(x[i] - x[j])
            # OpenMM's constant (CODATA 2018), which ours is not built from.
            total += 138.93545764438198 * q / r + 4.0 * e * ((s / r) ** 12 - (s / r) ** 6)
    return total


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("selection", ["resname ALA and sidechain", STRETCH])
def test_a_part_with_cut_bonds_taken_out(alone: Molecules, examples: Path, platform: str, selection: str) -> None:
    system = System(structure="none.pdb", force_field=AMBER14, ml_atoms=selection)
    atoms = alone.topology.select(selection)
    field = build_field(system, alone, atoms, examples, platform)
    assert field.sites == (1 if len(atoms) == 4 else 2)
    mm = build_mm(system, alone, examples, "none")
    everything, taken = energy(mm, alone.positions, None, platform), removed_terms(mm, alone, atoms)
    rest, _ = field.evaluate(alone.positions, None)
    tolerance = ENERGY_KJ_PER_MOL.get(platform, SINGLE_KJ_PER_MOL)
    assert rest == pytest.approx(everything - taken, abs=tolerance)
    # Sabotage: one atom less (a carbon) is another identity.
    assert abs(removed_terms(mm, alone, atoms[1:]) - taken) > 10.0 * tolerance


def test_forces_at_the_border_are_minus_the_gradient(alone: Molecules, examples: Path) -> None:
    system = System(structure="none.pdb", force_field=AMBER14, ml_atoms=STRETCH)
    field = build_field(system, alone, alone.topology.select(STRETCH), examples, "Reference")
    _, forces = field.evaluate(alone.positions, None)
    # Second-order differences: bonds are harmonic, other terms of 1e3 kJ/mol/nm² change over 0.1 nm: 1e5 h² = 1e-5.
    step = 1e-5
    for atom in np.unique(field.links):
        for k in range(3):
            moved = np.array([alone.positions, alone.positions])
            moved[:, atom, k] += (step, -step)
            rise, fall = (field.evaluate(x, None)[0] for x in moved)
            assert forces[atom, k] == pytest.approx(-(rise - fall) / (2.0 * step), abs=1e-3)


FORMATS: dict[str, dict[str, Any]] = {
    "pdb": ETHANE,
    "pdbx": ETHANE | {"structure": "ethane.cif"},
    "amber": {"structure": "ethane.inpcrd", "topology": "ethane.prmtop"},
    "gromacs": {"structure": "ethane.gro", "topology": "ethane.top"},
    "charmm": {"structure": "ethane.pdb", "topology": "ethane.psf", "parameters": ["ethane.prm"]},
}
#: The files carry seven digits of charges, lengths and force constants: 1e-7 of energies of 300 kJ/mol, and as much of
#: forces of 1e4 kJ/mol/nm; six of CHARMM's radii make that ten times as much.
FORMAT_KJ_PER_MOL, FORMAT_KJ_PER_MOL_PER_NM = 1e-3, 1e-2


@pytest.mark.parametrize("selection", [WHOLE, METHYL])
@pytest.mark.parametrize("name", list(FORMATS))
def test_all_kinds_of_files_say_the_same(folder: Path, name: str, selection: str) -> None:
    found = read_system(System(**FORMATS[name], ml_atoms=selection), folder, "Reference")
    other = read_system(System(**ETHANE, ml_atoms=selection), folder, "Reference")
    field, wanted = found.field, other.field
    assert field is not None
    assert wanted is not None
    assert (found.molecules.bonds == other.molecules.bonds).all()
    assert found.molecules.box == pytest.approx(other.molecules.box)
    assert (found.part.links == other.part.links).all()
    assert field.charges == pytest.approx(wanted.charges, abs=1e-6)
    assert field.masses == pytest.approx(wanted.masses, abs=1e-2)
    assert {frozenset(pair) for pair in field.constraints.tolist()} == {
        frozenset(pair) for pair in wanted.constraints.tolist()
    }
    x, box = other.molecules.positions, other.molecules.box
    moved = x + rigid_moves(other.molecules)
    ours, theirs = ([f.evaluate(at, box) for at in (x, moved)] for f in (field, wanted))
    # CHARMM keeps the angle of rigid water, which is a constant.
    assert ours[1][0] - ours[0][0] == pytest.approx(theirs[1][0] - theirs[0][0], abs=FORMAT_KJ_PER_MOL)
    assert abs(theirs[1][0] - theirs[0][0]) > 1e3 * FORMAT_KJ_PER_MOL
    for (_, f), (_, g) in zip(ours, theirs, strict=True):
        assert per_molecule(f - g, other.molecules) == pytest.approx(0.0, abs=FORMAT_KJ_PER_MOL_PER_NM)
        assert f[:8] == pytest.approx(g[:8], abs=FORMAT_KJ_PER_MOL_PER_NM)


def rigid_moves(molecules: Molecules) -> Floats:
    """A displacement for each molecule, nm."""
    moves = 0.02 * np.random.default_rng(8).normal(size=(int(molecules.molecule_of.max()) + 1, 3))
    return np.asarray(moves[molecules.molecule_of])


def per_molecule(forces: Floats, molecules: Molecules) -> Floats:
    """Net forces."""
    found = np.zeros((int(molecules.molecule_of.max()) + 1, 3))
    np.add.at(found, molecules.molecule_of, forces)
    return found


def test_a_changed_charge_is_another_force_field(folder: Path, tmp_path: Path) -> None:
    # Sabotage of the comparison above.
    for name in ("ethane.pdb", "ethane.xml"):
        (tmp_path / name).write_text((folder / name).read_text().replace('charge="0.417"', 'charge="0.418"'))
    fields = [read_system(System(**ETHANE, ml_atoms=WHOLE), place, "Reference") for place in (folder, tmp_path)]
    (_, f), (_, g) = (s.field.evaluate(s.molecules.positions, s.molecules.box) for s in fields if s.field is not None)
    assert np.abs(per_molecule(f - g, fields[0].molecules)).max() > 10.0 * FORMAT_KJ_PER_MOL_PER_NM


def test_single_precision_is_accurate_enough_to_say(peptide: Molecules, examples: Path) -> None:
    # Measured: energy 4e-3 kJ/mol of -1.05e4, forces 1e-2 kJ/mol/nm (1e-5 eV/Å) of 600. A tenfold margin.
    system = System(structure="none.pdb", force_field=AMBER14, ml_atoms="not water")
    fast = build_field(system, peptide, peptide.topology.select("not water"), examples)
    exact = load_field(fast.xml, "Reference")
    (e, f), (e_exact, f_exact) = (field.evaluate(peptide.positions, peptide.box) for field in (fast, exact))
    assert e == pytest.approx(e_exact, abs=0.04)
    assert np.abs(f - f_exact).max() < 0.1


def test_the_ewald_sum_is_as_accurate_as_asked(folder: Path) -> None:
    # Forces under the default tolerance against those under a much stricter one.
    coarse, fine = (
        read_system(System(**ETHANE, ml_atoms=WHOLE, ewald_tolerance=t), folder, "Reference") for t in (1e-4, 1e-7)
    )
    (_, f), (_, g) = (
        s.field.evaluate(s.molecules.positions, s.molecules.box) for s in (coarse, fine) if s.field is not None
    )
    assert np.abs(f - g).max() < 1e-3 * np.abs(g).max()


@pytest.mark.parametrize("constraints", ["none", "h_bonds"])
@pytest.mark.parametrize("rigid_water", [False, True])
def test_constraints_are_outside_of_the_ml_atoms(
    peptide: Molecules, examples: Path, constraints: str, rigid_water: bool
) -> None:
    system = System(
        structure="none.pdb", force_field=AMBER14, ml_atoms=STRETCH, constraints=constraints, rigid_water=rigid_water
    )
    atoms = peptide.topology.select(STRETCH)
    field = build_field(system, peptide, atoms, examples)
    assert not np.isin(field.constraints, atoms).any()
    waters = int(peptide.molecule_of.max())
    # Outside are two methyl groups and the N–H of Nme: seven bonds of hydrogen.
    hydrogens = 7 if constraints == "h_bonds" else 0
    per_water = 3 if rigid_water else (2 if constraints == "h_bonds" else 0)
    assert len(field.constraints) == hydrogens + per_water * waters


def test_hydrogens_can_be_heavy(peptide: Molecules, examples: Path) -> None:
    system = System(structure="none.pdb", force_field=AMBER14, ml_atoms="not water", hydrogen_mass_Da=3.0)
    field = build_field(system, peptide, peptide.topology.select("not water"), examples)
    solute = peptide.molecule_of == 0
    assert set(field.masses[solute & (peptide.numbers == 1)]) == {3.0}
    assert field.masses.sum() == pytest.approx(peptide.masses.sum(), rel=1e-4)


def nonbonded(field: Field) -> openmm.NonbondedForce:
    """The force of a field that has a long range."""
    return next(force for force in field.system().getForces() if isinstance(force, openmm.NonbondedForce))


@pytest.mark.parametrize(
    ("selection", "method"),
    [
        (WHOLE, openmm.NonbondedForce.PME),
        ("resname HOH", openmm.NonbondedForce.CutoffPeriodic),
        ("resid 1", openmm.NonbondedForce.PME),
    ],
)
def test_several_ml_molecules_take_the_reaction_field(folder: Path, selection: str, method: int) -> None:
    found = read_system(System(**ETHANE, ml_atoms=selection), folder)
    assert found.field is not None
    assert nonbonded(found.field).getNonbondedMethod() == method
    vacuum = read_system(System(**ETHANE, ml_atoms=selection, periodic=False), folder)
    assert vacuum.field is not None
    assert nonbonded(vacuum.field).getNonbondedMethod() == openmm.NonbondedForce.NoCutoff


def test_under_pme_the_force_between_ml_molecules_would_jump(folder: Path) -> None:
    # Why `pme` is refused among several ML molecules: force on an oxygen as it passes half the box from another.
    system = System(**ETHANE, ml_atoms="resname HOH")
    molecules = read_structure(folder / "ethane.pdb")
    waters, box = molecules.topology.select("resname HOH"), molecules.box
    assert box is not None
    first, other = waters[:3], waters[3:]
    jumps = {}
    for method in ("pme", "cutoff"):
        mm = build_mm(system, molecules, folder, method)
        rest = take_out(topology(molecules), mm, waters.tolist())
        field = Field(openmm.XmlSerializer.serialize(rest), "Reference")
        forces = []
        for step in (-1e-5, 1e-5):
            x = molecules.positions.copy()
            x[other] += x[first[0]] - x[other[0]] + [0.5 * box[0, 0] + step, 0.1, 0.2]
            forces.append(field.evaluate(x, box)[1][other[0], 0])
        jumps[method] = abs(forces[1] - forces[0])
    # Two charges of 0.834 e at 1.27 nm, whose mutual force turns around: 2 · 139 · 0.70 / 1.27² · 1.25/1.27.
    assert jumps["pme"] == pytest.approx(118.0, rel=0.02)
    assert jumps["cutoff"] < 0.1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ml_atoms": "water and resid < 5", "nonbonded": "pme"}, "several molecules"),
        ({"nonbonded": "none"}, "one image"),
        ({"nonbonded_cutoff_A": 12.0}, "twice system.nonbonded_cutoff_A"),
        ({"force_field": ["amber14-all.xml"]}, "no template for residue HOH"),
        ({"force_field": ["nothing.xml"]}, "no force field file nothing.xml"),
        ({"force_field": ["amber14-all.xml", "amber14/tip4pew.xml"]}, "no template for residue HOH"),
        ({"ml_atoms": "resname ALA"}, "cuts bonds that must not be cut"),
        ({"ml_atoms": "name O and water"}, "cuts bonds that must not be cut"),
    ],
)
def test_what_cannot_be_built_is_refused(peptide: Molecules, examples: Path, keys: dict[str, Any], words: str) -> None:
    plain = {"structure": "none.pdb", "force_field": AMBER14, "ml_atoms": "not water"} | keys
    system = System(**plain)
    with pytest.raises(ForceFieldError, match=words):
        build_field(system, peptide, peptide.topology.select(system.ml_atoms), examples)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("<AtomTypes>", "<Script>1</Script><AtomTypes>"), "holds Script"),
        (lambda text: text.replace("<Info>", "<InitializationScript>1</InitializationScript>"), "holds Init"),
        (lambda text: text.replace("<Info>", '<Include file="/etc/hostname"/>'), "holds Include"),
        (lambda text: text.replace("<NonbondedForce ", '<NonbondedForce useDispersionCorrection="f()" '), "would run"),
        (lambda text: "<!DOCTYPE x>" + text, "document type"),
        (lambda text: text[:-10], "cannot be read"),
    ],
)
def test_force_field_files_may_not_run_anything(
    folder: Path, tmp_path: Path, change: Callable[[str], str], words: str
) -> None:
    (tmp_path / "ethane.pdb").write_text((folder / "ethane.pdb").read_text())
    text = (folder / "ethane.xml").read_text().replace("<AtomTypes>", "<Info><AtomTypes>", 1)
    (tmp_path / "ethane.xml").write_text(change(text).replace("<Info>", ""))
    with pytest.raises(ForceFieldError, match=words):
        read_system(System(**ETHANE, ml_atoms=WHOLE), tmp_path)


def test_a_file_in_the_working_directory_is_not_taken_for_one_of_openmm(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "amber14-all.xml"
    trap.write_text("<ForceField><Script>raise SystemExit</Script></ForceField>")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ForceFieldError, match="no template"):
        read_system(System(**ETHANE | {"force_field": ["amber14-all.xml"]}, ml_atoms=WHOLE), folder)
