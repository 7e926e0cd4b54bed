"""Charges: the user before the file before bonds; what cannot be told is refused by name, what is meant is taken."""

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule

from qmml_md.errors import RegionError, StructureError
from qmml_md.region.cluster import cut_cluster
from qmml_md.system.molecules import Molecules, topology_json
from qmml_md.system.stated import stated_residues
from qmml_md.system.structures import check_structure, read_structure

SYMBOLS = ("H", "C", "N", "O", "S", "Na", "Fe")


def read(atoms: ase.Atoms, folder: Path, **charges: int) -> Molecules:
    ase.io.write(folder / "structure.extxyz", atoms)
    return read_structure(folder / "structure.extxyz", formal_charges=charges)


def check(molecules: Molecules, multiplicity: int | None = None) -> None:
    check_structure(molecules, symbols=SYMBOLS, cutoff_A=5.2, multiplicity=multiplicity)


def pdb(folder: Path, *lines: str) -> Path:
    (folder / "some.pdb").write_text("\n".join([*lines, "END\n"]))
    return folder / "some.pdb"


def hetatm(serial: int, name: str, residue: str, x: float, element: str, charge: str = "  ") -> str:
    place = f"{x:8.3f}   0.000   0.000  1.00  0.00"
    return f"HETATM{serial:5d} {name:<4s} {residue:<3s} A{serial:4d}    {place}          {element:>2s}{charge}"


def test_methyl_radical_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    molecules = read(molecule("CH3"), tmp_path)
    with pytest.raises(StructureError, match=r"do not tell the charge of C1 of CH3 1 \(index 0\)") as caught:
        check(molecules)
    assert "reference.multiplicity" in caught.value.cure
    assert "system.formal_charges" in caught.value.cure
    check(molecules, multiplicity=2)
    cluster = cut_cluster(molecules, molecules.positions, np.arange(4), multiplicity=2)
    assert (cluster.charge, cluster.multiplicity) == (0, 2)
    with pytest.raises(RegionError, match="odd number"):
        cut_cluster(molecules, molecules.positions, np.arange(4))


@pytest.mark.parametrize(("charge", "electrons"), [(1, 8), (-1, 10)])
def test_charge_of_an_ion_of_carbon_is_what_the_user_says(tmp_path: Path, charge: int, electrons: int) -> None:
    molecules = read(molecule("CH3"), tmp_path, CH3=charge)
    check(molecules)
    assert molecules.formal_charge.tolist() == [charge, 0, 0, 0]
    cluster = cut_cluster(molecules, molecules.positions, np.arange(4))
    assert int(cluster.numbers.sum()) - cluster.charge == electrons


def test_radicals_that_lack_a_bond_by_geometry_are_taken_as_meant(tmp_path: Path) -> None:
    hydroxyl = read(molecule("OH"), tmp_path, HO=0)
    with pytest.raises(StructureError, match="lacks hydrogens"):
        check(hydroxyl)
    check(hydroxyl, multiplicity=2)
    assert hydroxyl.formal_charge.tolist() == [0, 0]
    # One unpaired electron excuses one atom, not two.
    two = molecule("OH") + ase.Atoms("OH", molecule("OH").positions + np.array([6.0, 0, 0]))
    with pytest.raises(StructureError, match="2 atoms lack hydrogens"):
        check(read(two, tmp_path, HO=0), multiplicity=2)
    check(read(two, tmp_path, HO=0), multiplicity=3)


def test_oxygen_is_a_triplet_when_the_user_says_so(tmp_path: Path) -> None:
    molecules = read(molecule("O2"), tmp_path)
    check(molecules, multiplicity=3)
    cluster = cut_cluster(molecules, molecules.positions, np.arange(2), multiplicity=3)
    assert (cluster.charge, cluster.multiplicity) == (0, 3)


@pytest.mark.parametrize("name", ["CH2_s1A1d", "CH2_s3B1d"])
def test_carbenes_are_refused_unless_they_are_meant(tmp_path: Path, name: str) -> None:
    with pytest.raises(StructureError, match=r"C1 of CH2 1"):
        check(read(molecule(name), tmp_path))
    check(read(molecule(name), tmp_path), multiplicity=3)


def test_user_comes_before_file_and_file_before_bonds(tmp_path: Path) -> None:
    lines = (
        hetatm(1, "FE", "HEM", 0.0, "FE", "2+"), hetatm(2, "FE", "FEX", 9.0, "FE"), hetatm(3, "NA", "NA", 18.0, "NA"),
    )  # fmt: skip
    path = pdb(tmp_path, *lines)
    molecules = read_structure(path)
    assert molecules.formal_charge.tolist() == [2, 0, 1]
    assert stated_residues(molecules.topology) == {0}
    with pytest.raises(StructureError, match=r"do not tell the charge of FE of FEX 2"):
        check(molecules)
    stated = read_structure(path, formal_charges={"HEM": 3, "FEX": 2})
    assert stated.formal_charge.tolist() == [3, 2, 1]
    assert stated_residues(stated.topology) == {0, 1}
    check(stated)
    assert '"formal_charge": 3' in topology_json(stated)


def test_charge_of_a_residue_takes_from_the_opposite_first(tmp_path: Path) -> None:
    """A glycine zwitterion said to be +1 has lost the charge of its carboxylate, not doubled its ammonium."""
    glycine = molecule("CH3COOH")
    molecules = read(glycine, tmp_path)
    oxygen = np.flatnonzero(molecules.numbers == 8)
    assert not molecules.formal_charge.any()
    acetate = glycine[[i for i in range(len(glycine)) if not _acidic(glycine, i)]]
    anion = read(acetate, tmp_path)
    assert (anion.formal_charge.sum(), int(anion.formal_charge[anion.numbers == 8].min())) == (-1, -1)
    neutral = read(acetate, tmp_path, C2H3O2=0)
    assert not neutral.formal_charge.any()
    double = read(acetate, tmp_path, C2H3O2=-2)
    assert double.formal_charge[double.numbers == 8].sum() == -2
    assert len(oxygen) == 2


def _acidic(atoms: ase.Atoms, i: int) -> bool:
    return atoms.numbers[i] == 1 and atoms.get_distances(i, np.flatnonzero(atoms.numbers == 8)).min() < 1.1


def test_contradiction_between_user_and_bonds_is_named(tmp_path: Path) -> None:
    water = molecule("H2O")
    for charge, words in ((-2, r"HOH 1 is given -2 e, its bonds make \+0 e"), (1, "odd number of electrons")):
        molecules = read(water, tmp_path, HOH=charge)
        with pytest.raises(StructureError, match=words) as caught:
            check(molecules)
        assert "leave the residue out" in caught.value.cure
        # Meant all the same: a radical cation, a dianion.
        check(molecules, multiplicity=2 if charge == 1 else 1)


def test_contradiction_between_file_and_bonds_is_named(tmp_path: Path) -> None:
    path = pdb(tmp_path, hetatm(1, "NA", "NA", 0.0, "NA", "1-"))
    with pytest.raises(StructureError, match=r"NA 1 is given -1 e, its bonds make \+1 e"):
        check(read_structure(path))
    check(read_structure(path, formal_charges={"NA": 1}))


def test_name_of_a_deprotonated_cysteine_is_a_statement(tmp_path: Path) -> None:
    """The same atoms as a thiol that has lost its hydrogen, under the name that says so and under another."""
    thiolate = molecule("CH3SH")
    hydrogen = int(np.argmin(np.where(thiolate.numbers == 1, thiolate.get_distances(
        int(np.flatnonzero(thiolate.numbers == 16)[0]), range(len(thiolate))), 9)))  # fmt: skip
    del thiolate[hydrogen]
    lines = [
        f"HETATM{k + 1:5d} {s + str(k):<4s} CYX A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {s:>2s}"
        for k, (s, (x, y, z)) in enumerate(zip(thiolate.get_chemical_symbols(), thiolate.positions, strict=True))
    ]
    serial = {s: k + 1 for k, s in enumerate(thiolate.get_chemical_symbols())}
    conect = f"CONECT{serial['C']:5d}" + "".join(
        f"{k + 1:5d}" for k, s in enumerate(thiolate.get_chemical_symbols()) if s != "C"
    )
    with pytest.raises(StructureError, match="lacks hydrogens"):
        check(read_structure(pdb(tmp_path, *lines, conect)))
    named = read_structure(pdb(tmp_path, *[line.replace("CYX", "CYM") for line in lines], conect))
    check(named)
    assert named.formal_charge.sum() == -1


def test_charges_of_incomplete_residues_are_not_discussed(data: Path, tmp_path: Path) -> None:
    """A protein without hydrogens is told so once, not that its charges are strange."""
    text = (data / "chignolin_1uao_model1.pdb").read_text().splitlines(keepends=True)
    (tmp_path / "heavy.pdb").write_text("".join(line for line in text if line[76:78].strip() != "H"))
    with pytest.raises(StructureError) as caught:
        check(read_structure(tmp_path / "heavy.pdb"))
    assert "lack hydrogens" in str(caught.value)
    assert "charge of" not in str(caught.value)
    assert "contradict" not in str(caught.value)
