"""Reading: three formats agree with each other and with OpenMM's own readers."""

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from openmm import app, unit

from qmml_md.errors import StructureError
from qmml_md.system.build import topology
from qmml_md.system.images import box_from_cell
from qmml_md.system.structures import check_structure, read_structure
from qmml_md.system.xyz import hill_formula

HCNO = ("H", "C", "N", "O")
#: One ethanol in a box of any shape, to be completed by its CRYST1 record.
TRICLINIC = "CRYST1   20.000   24.000   22.000  75.00  80.00 100.00 P 1           1 \n"


def bond_set(molecules) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in molecules.bonds}


@pytest.mark.parametrize("name", ["nma_in_water/nma_in_water.pdb", "ethanol_nve/ethanol.pdb"])
def test_pdb_agrees_with_openmm(examples: Path, name: str) -> None:
    ours, theirs = read_structure(examples / name), app.PDBFile(str(examples / name))
    # A PDB file carries 1e-4 nm; both readers must agree to the rounding of a product.
    expected = theirs.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    np.testing.assert_allclose(ours.positions, expected, atol=1e-14)
    bonds = {tuple(sorted((a.index, b.index))) for a, b in theirs.topology.bonds()}
    assert bond_set(ours) == bonds
    assert ours.numbers.tolist() == [a.element.atomic_number for a in theirs.topology.atoms()]
    masses = [a.element.mass.value_in_unit(unit.dalton) for a in theirs.topology.atoms()]
    # Two tables of atomic weights, of different years.
    np.testing.assert_allclose(ours.masses, masses, rtol=2e-4)
    vectors = theirs.topology.getPeriodicBoxVectors()
    if vectors is None:
        assert ours.box is None
    else:
        np.testing.assert_allclose(ours.box, np.array(vectors.value_in_unit(unit.nanometer)), atol=1e-12)


def test_mmcif_agrees_with_pdb(examples: Path, tmp_path: Path) -> None:
    source = app.PDBFile(str(examples / "nma_in_water" / "nma_in_water.pdb"))
    with (tmp_path / "nma.cif").open("w") as file:
        app.PDBxFile.writeFile(source.topology, source.positions, file)
    pdb = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    cif = read_structure(tmp_path / "nma.cif")
    assert (cif.bonds == pdb.bonds).all()
    assert (cif.numbers == pdb.numbers).all()
    np.testing.assert_allclose(cif.positions, pdb.positions, atol=1e-12)
    np.testing.assert_allclose(cif.box, pdb.box, atol=1e-12)


def test_xyz_guesses_the_bonds_that_pdb_states(examples: Path, tmp_path: Path) -> None:
    pdb = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    atoms = ase.Atoms(pdb.numbers, pdb.positions * 10, cell=pdb.box * 10, pbc=True)
    # Atoms wrapped one by one: bonds must be found across the faces of the box.
    atoms.wrap()
    ase.io.write(tmp_path / "nma.extxyz", atoms)
    xyz = read_structure(tmp_path / "nma.extxyz")
    assert bond_set(xyz) == bond_set(pdb)
    assert [r.name for r in xyz.topology.residues][:2] == ["C3H7NO", "HOH"]
    check_structure(xyz, symbols=HCNO, cutoff_A=5.2)


def test_bonds_across_the_box_need_the_box(examples: Path, tmp_path: Path) -> None:
    """The twin: without the box the wrapped molecules fall apart, and the check says so."""
    pdb = read_structure(examples / "nma_in_water" / "nma_in_water.pdb")
    atoms = ase.Atoms(pdb.numbers, pdb.positions * 10, cell=pdb.box * 10, pbc=True)
    atoms.wrap()
    ase.io.write(tmp_path / "nma.extxyz", atoms)
    with pytest.raises(StructureError, match="lack hydrogens or bonds"):
        check_structure(read_structure(tmp_path / "nma.extxyz", periodic=False), symbols=HCNO, cutoff_A=5.2)


def test_xyz_turns_a_rotated_lattice_with_its_atoms(tmp_path: Path) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([[12, 0, 0], [3, 13, 0], [-2, 4, 14]])
    atoms.pbc = True
    straight = atoms.copy()
    atoms.rotate(77, (1, 2, 3), rotate_cell=True)
    for name, frame in (("a", straight), ("b", atoms)):
        ase.io.write(tmp_path / f"{name}.extxyz", frame)
    a, b = (read_structure(tmp_path / f"{name}.extxyz") for name in "ab")
    # Extended XYZ carries eight decimals of an Å.
    np.testing.assert_allclose(b.box, a.box, atol=1e-8)
    assert b.box is not None
    distances = [np.linalg.norm(m.positions[:, None] - m.positions[None], axis=2) for m in (a, b)]
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-8)


def test_xyz_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "h2.xyz"
    path.write_text("2\nProperties=charge:R:1:pos:R:3:species:S:1\n0.1 0 0 0 H\n0.1 0 0 0.74 h\n")
    molecules = read_structure(path)
    assert molecules.positions[1].tolist() == pytest.approx([0, 0, 0.074])
    assert bond_set(molecules) == {(0, 1)}


def test_shared_proton_is_bonded_to_the_nearer_oxygen(tmp_path: Path) -> None:
    """Both oxygens of a short hydrogen bond are within the sum of radii and tolerance, 1.37 Å, of the hydrogen."""
    path = tmp_path / "shared.xyz"
    path.write_text("4\n\nH -0.3 0.9 0\nO 0 0 0\nH 1.1 0 0\nO 2.4 0 0\n")
    assert bond_set(read_structure(path)) == {(0, 1), (1, 2)}


def test_interleaved_molecules_become_one_residue(tmp_path: Path) -> None:
    water = molecule("H2O")
    atoms = water + ase.Atoms(water.numbers, water.positions + np.array([5, 0, 0]))
    ase.io.write(tmp_path / "sorted.xyz", atoms[[0, 3, 1, 2, 4, 5]], format="extxyz")
    molecules = read_structure(tmp_path / "sorted.xyz")
    assert molecules.molecule_of.tolist() == [0, 1, 0, 0, 1, 1]
    assert [r.name for r in molecules.topology.residues] == ["SYS"]
    assert [a.index for a in molecules.topology.atoms] == list(range(6))


def test_hill_formula() -> None:
    assert hill_formula(list("OHHCCHHHH")) == "C2H6O"
    assert hill_formula(list("HOH")) == "H2O"
    assert hill_formula(["C", "Cl", "Cl", "H", "H"]) == "CH2Cl2"


def test_triclinic_box_is_read_in_reduced_form(examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "triclinic.pdb"
    path.write_text(TRICLINIC + (examples / "ethanol_nve" / "ethanol.pdb").read_text())
    expected = box_from_cell(np.array([2.0, 2.4, 2.2]), np.array([75.0, 80.0, 100.0]))
    molecules = read_structure(path)
    np.testing.assert_allclose(molecules.box, expected, atol=1e-12)
    vectors = topology(molecules).getPeriodicBoxVectors().value_in_unit(unit.nanometer)
    np.testing.assert_allclose(np.array(vectors), expected, atol=1e-12)
    assert read_structure(path, periodic=False).box is None


def test_dummy_cell_is_no_box(examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "dummy.pdb"
    dummy = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1 \n"
    path.write_text(dummy + (examples / "ethanol_nve" / "ethanol.pdb").read_text())
    assert read_structure(path).box is None
    with pytest.raises(StructureError, match="has no box"):
        read_structure(path, periodic=True)


def test_crystal_symmetry_is_refused_unless_asked_for(examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "crystal.pdb"
    path.write_text(
        "CRYST1   40.824   18.498   22.371  90.00  90.47  90.00 P 1 21 1      2 \n"
        + (examples / "ethanol_nve" / "ethanol.pdb").read_text()
    )
    with pytest.raises(StructureError, match=r"space group P 1 21 1.*\n.*periodic: false"):
        read_structure(path)
    assert read_structure(path, periodic=False).box is None
    assert read_structure(path, periodic=True).box is not None


def test_formal_charges_by_residue_name(data: Path) -> None:
    charges = {"ASP": -1, "GLU": -1}
    molecules = read_structure(data / "chignolin_1uao_model1.pdb", formal_charges=charges)
    assert molecules.formal_charge.sum() == -2
    charged = np.flatnonzero(molecules.formal_charge)
    # What the user says of two residues agrees with bonds, which speak for the others.
    atoms = [(str(molecules.topology.atom(int(i))), int(molecules.formal_charge[i])) for i in charged]
    assert atoms == [("GLY1-N", 1), ("ASP3-OD1", -1), ("GLU5-OE1", -1), ("GLY10-O", -1)]
    with pytest.raises(StructureError, match=r"names residue ASX(.|\n)*GLY"):
        read_structure(data / "chignolin_1uao_model1.pdb", formal_charges={"ASX": -1})


def test_charges_in_the_file_count_unless_the_residue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hydroxide.pdb"
    path.write_text(
        "HETATM    1  O   OHX A   1       0.000   0.000   0.000  1.00  0.00           O1-\n"
        "HETATM    2  H   OHX A   1       0.000   0.000   0.970  1.00  0.00           H  \nCONECT    1    2\nEND\n"
    )
    assert read_structure(path).formal_charge.tolist() == [-1, 0]
    assert read_structure(path, formal_charges={"OHX": 0}).formal_charge.tolist() == [0, 0]


def test_names_stay_as_in_the_file_although_bonds_need_standard_ones(tmp_path: Path) -> None:
    path = tmp_path / "wat.pdb"
    path.write_text(
        "ATOM      1  OH2 WAT A   1       0.000   0.000   0.119\n"
        "ATOM      2  H1  WAT A   1       0.000   0.763  -0.477\n"
        "ATOM      3  H2  WAT A   1       0.000  -0.763  -0.477\nEND\n"
    )
    molecules = read_structure(path, formal_charges={"WAT": 0})
    assert bond_set(molecules) == {(0, 1), (0, 2)}
    assert [str(a) for a in molecules.topology.atoms] == ["WAT1-OH2", "WAT1-H1", "WAT1-H2"]


def test_disulfide_bridge_is_found(data: Path) -> None:
    molecules = read_structure(data / "crambin_cys3_cys40.pdb")
    sulfurs = np.flatnonzero(molecules.numbers == 16)
    assert tuple(sulfurs) in bond_set(molecules)
    assert molecules.molecule_of.max() == 0


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.gro", "", r"`\.gro` is no structure file"),
        ("a.pdb", None, "does not exist"),
        ("a.pdb", "", "holds no atoms"),
        ("a.pdb", "REMARK nothing here\nEND\n", "holds no atoms"),
        ("a.cif", "data_x\n_cell.length_a 10\n", "cannot be read"),
        ("a.cif", "not a cif file at all", "cannot be read"),
        (
            "a.pdb",
            "ATOM      1  N   GLY A   1      -6.7x8  -1.424   4.200  1.00  0.00           N\n",
            "line 1: columns",
        ),
        ("a.xyz", "", "line 1 should hold the number of atoms"),
        ("a.xyz", "two\n\nH 0 0 0\n", "line 1 should hold the number of atoms"),
        ("a.xyz", "2\n\nH 0 0 0\n", "line 4 should hold the remaining 1 of 2"),
        ("a.xyz", "1\n\nH 0 0\n", "line 3 should hold a symbol and three"),
        ("a.xyz", "1\nProperties=species:S:1\nH 0 0 0\n", "line 2 should hold the columns"),
        ("a.xyz", '1\nLattice="9 0 0 0 9 0"\nH 0 0 0\n', "line 2 should hold nine numbers"),
        ("a.xyz", '1\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T F"\nH 0 0 0\n', "some directions only"),
        ("a.xyz", "0\n\n", "holds no atoms"),
    ],
)
def test_what_cannot_be_read_says_why_and_how_to_mend_it(
    tmp_path: Path, name: str, text: str | None, match: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(StructureError, match=match) as caught:
        read_structure(tmp_path / name)
    assert caught.value.cure
    assert str(caught.value).count("\n") < 20


def test_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pdb").write_bytes(bytes(range(256)))
    with pytest.raises(StructureError, match="UnicodeDecodeError"):
        read_structure(tmp_path / "a.pdb")
