"""Formal charges by valence: what force fields say of their residues, and small molecules one by one."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import openmm.app
import pytest
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers

from qmml_md.system.bonds import guess_bonds
from qmml_md.system.charges import Charges, infer_charges
from qmml_md.system.fragments import fragments_of
from qmml_md.system.structures import read_structure

AMBER = Path(openmm.app.__file__).parent / "data" / "amber14"


def residues(name: str) -> list[tuple[str, np.ndarray, np.ndarray, int]]:
    """Name, atomic numbers, bonds and charge of the residues of a force field; bonds to others end in hydrogen."""
    root = ElementTree.parse(AMBER / name).getroot()  # noqa: S314
    elements = {t.get("name"): t.get("element") for t in root.find("AtomTypes")}
    found = []
    for residue in root.find("Residues"):
        atoms = residue.findall("Atom")
        names = [atom.get("name") for atom in atoms]
        numbers = [atomic_numbers[elements[atom.get("type")] or "X"] for atom in atoms]
        bonds = [[names.index(bond.get(f"atomName{k}")) for k in (1, 2)] for bond in residue.findall("Bond")]
        for bond in residue.findall("ExternalBond"):
            bonds.append([names.index(bond.get("atomName")), len(numbers)])
            numbers.append(1)
        charge = round(sum(float(atom.get("charge")) for atom in atoms))
        found.append((residue.get("name"), np.array(numbers), np.array(bonds, dtype=int).reshape(-1, 2), charge))
    return found


@pytest.mark.parametrize(
    ("name", "count"),
    [("protein.ff14SB.xml", 78), ("DNA.OL15.xml", 16), ("RNA.OL3.xml", 17), ("lipid17.xml", 41)],
)
def test_residues_of_force_fields_have_their_charges(name: str, count: int) -> None:
    """All amino acids in all protonation states, inside a chain and at its ends; nucleotides; lipid headgroups."""
    charges = {}
    for residue, numbers, bonds, charge in residues(name):
        found = infer_charges(numbers, bonds, [residue] * len(numbers))
        assert (residue, int(found.charge.sum()), found.undecided.tolist()) == (residue, charge, [])
        charges[residue] = charge
    assert len(charges) == count
    if name.startswith("protein"):
        states = ("ASP", "ASH", "GLU", "GLH", "HID", "HIE", "HIP", "LYS", "LYN", "ARG", "CYS", "CYM", "CYX", "TYR")
        assert [charges[s] for s in states] == [-1, 0, -1, 0, 0, 0, 1, 1, 0, 1, 0, -1, 0, 0]


@pytest.mark.parametrize("name", ["protein.ff14SB.xml", "RNA.OL3.xml", "lipid17.xml"])
def test_every_fragment_has_its_own_charge(name: str) -> None:
    """Cut a residue into fragments, cap them, and infer the charge of each alone: the same."""
    pieces = 0
    for residue, numbers, bonds, _ in residues(name):
        whole = infer_charges(numbers, bonds, [residue] * len(numbers))
        fragment_of = fragments_of(numbers, bonds)
        for fragment in range(fragment_of.max() + 1):
            inside = fragment_of == fragment
            place, own = np.cumsum(inside) - 1, numbers[inside].tolist()
            ends = []
            for a, b in bonds[inside[bonds].any(axis=1)].tolist():
                if inside[a] and inside[b]:
                    ends.append([place[a], place[b]])
                else:
                    ends.append([place[a] if inside[a] else place[b], len(own)])
                    own.append(1)
            alone = infer_charges(np.array(own), np.array(ends, dtype=int).reshape(-1, 2), ["X"] * len(own))
            assert int(alone.charge.sum()) == int(whole.charge[inside].sum()), residue
            pieces += 1
    assert pieces > 30


def test_a_proton_more_or_less_would_be_seen() -> None:
    """The twin: every residue with one hydrogen less on a nitrogen, oxygen or sulfur has another charge, or none."""
    for residue, numbers, bonds, charge in residues("protein.ff14SB.xml"):
        for a, b in bonds.tolist():
            heavy, hydrogen = (a, b) if numbers[b] == 1 else (b, a)
            if numbers[hydrogen] != 1 or numbers[heavy] not in (7, 8, 16):
                continue
            keep = np.arange(len(numbers)) != hydrogen
            kept = bonds[(bonds != hydrogen).all(axis=1)]
            found = infer_charges(numbers[keep], kept - (kept > hydrogen), [residue] * int(keep.sum()))
            assert found.charge.sum() == charge - 1 or len(found.undecided)


def test_ions_of_the_force_field_are_right_or_undecided() -> None:
    certain = {}
    for name, numbers, bonds, charge in residues("tip3p.xml"):
        if len(numbers) == 1:
            found = infer_charges(numbers, bonds, [name])
            if not len(found.undecided):
                certain[name] = (int(found.charge[0]), charge)
    assert all(found == given for found, given in certain.values()), certain
    symbols = [
        "LI",
        "NA",
        "K",
        "RB",
        "CS",
        "MG",
        "CA",
        "ZN",
        "F",
        "CL",
        "BR",
        "IOD",
        "FE2",
        "FE",
        "CU",
        "MN",
        "NI",
        "CO",
    ]
    assert set(symbols) <= set(certain)


@pytest.mark.parametrize(
    ("name", "symbol", "charge"),
    [("Na+", "Na", 1), ("SOD", "Na", 1), ("POT", "K", 1), ("CLA", "Cl", -1), ("Cl-", "Cl", -1), ("CAL", "Ca", 2),
     ("ZN2", "Zn", 2), ("Fe2+", "Fe", 2), ("Fe3+", "Fe", 3), ("Cu+", "Cu", 1), ("FE", "Fe", 3), ("AR", "Ar", 0),
     ("HEM", "Fe", None), ("X", "Mn", None), ("X", "H", None), ("X", "O", None)],
)  # fmt: skip
def test_bare_atoms(name: str, symbol: str, charge: int | None) -> None:
    found = infer_charges(np.array([atomic_numbers[symbol]]), np.zeros((0, 2), dtype=int), [name])
    assert found.charge.tolist() == [charge or 0]
    assert found.undecided.tolist() == ([0] if charge is None else [])


def build(symbols: str, bonds: str, hydrogens: str) -> Charges:
    """Heavy atoms, one letter each (L: Cl), bonds such as "01 12", and the number of hydrogens on each heavy atom."""
    numbers = [{"L": 17}.get(s) or atomic_numbers[s] for s in symbols]
    pairs = [[int(a), int(b)] for a, b in bonds.split()]
    for atom, count in enumerate(hydrogens):
        for _ in range(int(count)):
            pairs.append([atom, len(numbers)])
            numbers.append(1)
    return infer_charges(np.array(numbers), np.array(pairs, dtype=int).reshape(-1, 2), ["X"] * len(numbers))


DECIDED = {
    "water": ("O", "", "2", "0"),
    "hydroxide": ("O", "", "1", "-"),
    "hydronium": ("O", "", "3", "+"),
    "ammonium": ("N", "", "4", "+"),
    "methoxide": ("CO", "01", "30", "0-"),
    "phenolate": ("CCCCCCO", "01 12 23 34 45 50 06", "0111110", "000000-"),
    "thiolate": ("CS", "01", "30", "0-"),
    "formate": ("COO", "01 02", "100", "0?-"),
    "hydrogen carbonate": ("COOO", "01 02 03", "0100", None),
    "carbonate": ("COOO", "01 02 03", "0000", None),
    "guanidinium": ("CNNN", "01 02 03", "0222", None),
    "amidinium": ("CCNN", "01 12 13", "3022", None),
    "imidazole": ("CNCNC", "01 12 23 34 40", "11101", "00000"),
    "imidazolium": ("CNCNC", "01 12 23 34 40", "11111", None),
    "pyridinium": ("CCCCCN", "01 12 23 34 45 50", "111111", "00000+"),
    "pyridine oxide": ("CCCCCNO", "01 12 23 34 45 50 56", "1111100", "00000+-"),
    "iminium": ("CN", "01", "22", "0+"),
    "nitromethane": ("CNOO", "01 12 13", "3000", None),
    "nitrate": ("NOOO", "01 02 03", "0000", None),
    "nitrone": ("CNCO", "01 12 13", "2030", "0+0-"),
    "trimethylamine oxide": ("NCCCO", "01 02 03 04", "03330", "+000-"),
    "azidomethane": ("CNNN", "01 12 23", "3000", None),
    "azide": ("NNN", "01 12", "000", "-+-"),
    "diazomethane": ("CNN", "01 12", "200", "0+-"),
    "benzenediazonium": ("CCCCCCNN", "01 12 23 34 45 50 06 67", "01111100", "000000+0"),
    "nitrous oxide": ("NNO", "01 12", "000", "0+-"),
    "isocyanomethane": ("CNC", "01 12", "300", "0+-"),
    "nitrilium": ("CCNC", "01 12 23", "3003", "00+0"),
    "pyrazolium": ("NNCCC", "01 12 23 34 40", "11111", None),
    "acetonitrile": ("CCN", "01 12", "300", "000"),
    "carbon monoxide": ("CO", "01", "00", "-+"),
    "cyanide": ("CN", "01", "00", "-0"),
    "thiocyanate": ("SCN", "01 12", "000", "-00"),
    "cyanate": ("OCN", "01 12", "000", "-00"),
    "carbon dioxide": ("COO", "01 02", "000", "000"),
    "ozone": ("OOO", "01 12", "000", None),
    "dimethyl sulfoxide": ("SCCO", "01 02 03", "0330", "0000"),
    "dimethyl sulfone": ("SCCOO", "01 02 03 04", "03300", "00000"),
    "trimethylsulfonium": ("SCCC", "01 02 03", "0333", "+000"),
    "trimethylsulfoxonium": ("SCCCO", "01 02 03 04", "03330", "+0000"),
    "methanesulfonate": ("CSOOO", "01 12 13 14", "30000", None),
    "methanesulfinate": ("CSOO", "01 12 13", "3000", None),
    "sulfate": ("SOOOO", "01 02 03 04", "00000", None),
    "hydrogen sulfate": ("SOOOO", "01 02 03 04", "00001", None),
    "sulfur dioxide": ("SOO", "01 02", "000", "000"),
    "thiophene": ("SCCCC", "01 12 23 34 40", "01111", "00000"),
    "thiazolium": ("SCNCC", "01 12 23 34 40", "01111", None),
    "phosphate": ("POOOO", "01 02 03 04", "00000", None),
    "dihydrogen phosphate": ("POOOO", "01 02 03 04", "00011", None),
    "phosphonium": ("PCCCC", "01 02 03 04", "03333", "+0000"),
    "hexafluorophosphate": ("PFFFFFF", "01 02 03 04 05 06", "0000000", "-000000"),
    "tetrafluoroborate": ("BFFFF", "01 02 03 04", "00000", "-0000"),
    "ammonia borane": ("BN", "01", "33", "-+"),
    "perchlorate": ("LOOOO", "01 02 03 04", "00000", None),
    "hypochlorite": ("LO", "01", "00", "0-"),
    "glycine zwitterion": ("NCCOO", "01 12 23 24", "32000", None),
    "oxygen": ("OO", "01", "00", "00"),
    "nitrogen": ("NN", "01", "00", "00"),
}
TOTALS = {
    "hydrogen carbonate": -1, "carbonate": -2, "formate": -1, "guanidinium": 1, "amidinium": 1, "imidazolium": 1,
    "nitromethane": 0, "nitrate": -1, "azidomethane": 0, "ozone": 0, "methanesulfonate": -1, "methanesulfinate": -1,
    "sulfate": -2, "hydrogen sulfate": -1, "thiazolium": 1, "pyrazolium": 1, "phosphate": -3,
    "dihydrogen phosphate": -1, "perchlorate": -1, "glycine zwitterion": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDED)
def test_molecules_and_ions(name: str) -> None:
    symbols, bonds, hydrogens, charges = DECIDED[name]
    found = build(symbols, bonds, hydrogens)
    assert found.undecided.tolist() == []
    if name in TOTALS:
        assert found.charge.sum() == TOTALS[name]
    else:
        assert found.charge[: len(symbols)].tolist() == [{"0": 0, "+": 1, "-": -1}[c] for c in charges]
    # No charge sits on carbon but a lone pair's, and none on hydrogen.
    numbers = np.array([{"L": 17}.get(s) or atomic_numbers[s] for s in symbols])
    assert not found.charge[len(symbols) :].any()
    assert not (found.charge[: len(symbols)][numbers == 6] > 0).any()


UNDECIDED = {
    "methyl": ("C", "", "3", {0}),
    "allyl": ("CCC", "01 12", "212", {0, 2}),
    "carbene": ("C", "", "2", {0}),
    "imidazolylidene": ("CNCCN", "01 12 23 34 40", "01111", {0}),
    "acetyl": ("CCO", "01 12", "300", {1}),
    "ethynyl": ("CC", "01", "10", {1}),
    "nitric oxide": ("NO", "01", "00", {0}),
    "nitrogen dioxide": ("NOO", "01 02", "000", {1, 2}),
    "nitroxide": ("NCCO", "01 02 03", "0330", {3}),
    "amide anion": ("CN", "01", "31", {1}),
    "pyrazole without its hydrogen": ("NNCCC", "01 12 23 34 40", "00111", {0, 1}),
    "imidazole without its hydrogen": ("CNCNC", "01 12 23 34 40", "10101", {1, 3}),
    "pyrrole without its hydrogen": ("CCCCN", "01 12 23 34 40", "11110", {4}),
    "hydroperoxyl": ("OO", "01", "10", {1}),
    "sulfite": ("SOOO", "01 02 03", "0000", {0, 1, 2, 3}),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_bonds_do_not_tell_is_undecided(name: str) -> None:
    symbols, bonds, hydrogens, where = UNDECIDED[name]
    found = build(symbols, bonds, hydrogens)
    assert set(found.undecided.tolist()) <= where
    assert len(found.undecided) >= 1
    assert not found.charge[found.undecided].any()


def test_closed_shells_of_the_g2_set_are_neutral() -> None:
    """The only ones that bonds do not tell are singlet carbenes, and molecules of metals."""
    undecided, charged = set(), set()
    for name in g2.names:
        if g2[name].get_initial_magnetic_moments().any():
            continue
        atoms = molecule(name)
        numbers = atoms.numbers.astype(np.int64)
        found = infer_charges(numbers, guess_bonds(numbers, atoms.positions * 0.1, None), ["X"] * len(numbers))
        undecided |= {name} if len(found.undecided) else set()
        charged |= {name} if found.charge.sum() else set()
    assert undecided == {"CH2_s1A1d", "SiH2_s1A1d", "SiO", "LiH"}
    assert charged <= {"LiH", "Li2", "Na2", "Be", "NaCl", "LiF"}


def test_bonds_to_metals_are_ionic() -> None:
    """Zinc on two cysteine thiolates and two imidazoles, with its bonds in the file."""
    found = build("SCSC", "01 23", "0303")
    assert found.charge[:4].tolist() == [-1, 0, -1, 0]
    numbers = np.array([16, 6, 16, 6, 30, 1, 1, 1, 1, 1, 1])
    bonds = np.array([[0, 1], [2, 3], [0, 4], [2, 4], *([1, k] for k in (5, 6, 7)), *([3, k] for k in (8, 9, 10))])
    found = infer_charges(numbers, bonds, ["X"] * 11)
    assert found.charge[:5].tolist() == [-1, 0, -1, 0, 2]
    assert found.undecided.tolist() == []


def test_proteins(data: Path) -> None:
    crambin = read_structure(data / "crambin_1ejg_with_hydrogens.pdb", periodic=False)
    charged = {
        str(crambin.topology.atom(int(i))): int(crambin.formal_charge[i]) for i in crambin.formal_charge.nonzero()[0]
    }
    assert charged == {
        "THR1-N": 1, "ARG10-NH2": 1, "ARG17-NH2": 1, "GLU23-OE1": -1, "ASP43-OD1": -1, "ASN46-O": -1,
    }  # fmt: skip
    sulfurs = crambin.numbers == 16
    assert sulfurs.sum() == 6
    assert not crambin.formal_charge[sulfurs].any()


def test_order_of_atoms_and_bonds_does_not_matter_for_totals() -> None:
    rng = np.random.default_rng(5)
    for residue, numbers, bonds, charge in residues("protein.ff14SB.xml")[::5]:
        order = rng.permutation(len(numbers))
        place = np.argsort(order)
        shuffled = place[bonds][rng.permutation(len(bonds))]
        assert infer_charges(numbers[order], shuffled, [residue] * len(numbers)).charge.sum() == charge


def test_large_solvent_costs_little() -> None:
    """Water has nothing to pair up: 30,000 atoms within a second on a busy machine."""
    import time

    count = 10_000
    numbers = np.tile([8, 1, 1], count)
    bonds = (3 * np.arange(count)[:, None, None] + np.array([[0, 1], [0, 2]])).reshape(-1, 2)
    start = time.process_time()
    found = infer_charges(numbers, bonds, ["HOH"] * (3 * count))
    assert time.process_time() - start < 1.0
    assert not found.charge.any()
