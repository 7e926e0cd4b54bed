"""What cannot be simulated is refused with cause and cure; what can is not."""

from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.collections import g2

from qmml_md.errors import ElementError, StructureError
from qmml_md.system.images import box_from_cell
from qmml_md.system.molecules import Molecules, molecules_of
from qmml_md.system.structures import check_structure, read_structure
from qmml_md.system.valence import lacking_atoms

HCNO = ("H", "C", "N", "O")
CUTOFF_A = 5.2


def from_ase(atoms: ase.Atoms, folder: Path, **keywords) -> Molecules:
    ase.io.write(folder / "structure.extxyz", atoms)
    return read_structure(folder / "structure.extxyz", **keywords)


def check(molecules: Molecules, symbols: tuple[str, ...] = HCNO) -> None:
    check_structure(molecules, symbols=symbols, cutoff_A=CUTOFF_A)


def without(path: Path, target: Path, *drop: str) -> Path:
    """A copy of a PDB file without the lines whose element column or record is named."""
    lines = path.read_text().splitlines(keepends=True)
    target.write_text("".join(line for line in lines if line[76:78].strip() not in drop and line[:6] not in drop))
    return target


@pytest.fixture
def nma(examples: Path) -> Molecules:
    return read_structure(examples / "nma_in_water" / "nma_in_water.pdb")


@pytest.fixture
def ethanol(examples: Path) -> Molecules:
    return read_structure(examples / "ethanol_nve" / "ethanol.pdb")


def test_sound_structures_pass(nma: Molecules, ethanol: Molecules, data: Path) -> None:
    for molecules in (nma, ethanol, read_structure(data / "chignolin_1uao_model1.pdb")):
        check(molecules)


def test_hydrogens_stripped_from_a_protein_are_missed(data: Path, tmp_path: Path) -> None:
    path = without(data / "chignolin_1uao_model1.pdb", tmp_path / "heavy.pdb", "H")
    with pytest.raises(
        StructureError, match=r"lack hydrogens or bonds: N of GLY 1 \(index 0\).*and \d+ more"
    ) as caught:
        check(read_structure(path))
    assert "addHydrogens" in caught.value.cure
    assert len(str(caught.value)) < 1500


def test_water_without_hydrogens_is_missed(examples: Path, tmp_path: Path) -> None:
    path = without(examples / "nma_in_water" / "nma_in_water.pdb", tmp_path / "heavy.pdb", "H", "CONECT")
    with pytest.raises(StructureError, match="lack hydrogens or bonds") as caught:
        check(read_structure(path))
    # All 213 oxygens of water, and of the solute all but the carbonyl carbon and oxygen.
    assert "216 atoms" in caught.value.what


def test_missing_bonds_of_a_ligand_are_found(examples: Path, tmp_path: Path) -> None:
    path = without(examples / "ethanol_nve" / "ethanol.pdb", tmp_path / "bare.pdb", "CONECT")
    with pytest.raises(StructureError, match=r"C2 of EOH 1 \(index 0\).*and 1 more has no bond") as caught:
        check(read_structure(path))
    assert "CONECT" in caught.value.cure


#: Closed shells that no rule over bonds and angles can tell from a molecule that lacks hydrogens.
LOOK_INCOMPLETE = {"CS", "CH2_s1A1d"}
#: Hydrogens whose loss leaves the geometry of a sound molecule: alkynyl, cyanide, pyrrole, peroxide, fluoride.
NOT_PROVABLE = {"C2H2": 2, "HCN": 1, "C3H4_C3v": 1, "C4H4NH": 1, "H2O2": 2, "HF": 1}
CLOSED_SHELLS = [
    name
    for name in g2.names
    if set(g2[name].symbols) <= {"H", "C", "N", "O", "F", "S"} and not g2[name].get_initial_magnetic_moments().any()
]


def test_no_closed_shell_of_the_g2_set_is_blamed(tmp_path: Path) -> None:
    assert len(CLOSED_SHELLS) > 60
    symbols = ("H", "C", "N", "O", "F", "S")
    for name in sorted(set(CLOSED_SHELLS) - LOOK_INCOMPLETE):
        check(from_ase(molecule(name), tmp_path), symbols)


def test_every_hydrogen_taken_from_the_g2_set_is_missed(tmp_path: Path) -> None:
    for name in sorted(set(CLOSED_SHELLS) - LOOK_INCOMPLETE - {"H2"}):
        atoms, unnoticed = molecule(name), 0
        for hydrogen in np.flatnonzero(atoms.numbers == 1):
            incomplete = atoms.copy()
            del incomplete[hydrogen]
            unnoticed += len(lacking_atoms(from_ase(incomplete, tmp_path))) == 0
        assert unnoticed == NOT_PROVABLE.get(name, 0), name


def test_thermal_motion_raises_no_alarm(tmp_path: Path) -> None:
    """Every atom off by 0.02 Å rms in each direction: bonds by 0.028 Å, a quarter more than C=O at 300 K."""
    rng = np.random.default_rng(7)
    for name in ("CH3CONH2", "CH3COOH", "C6H6", "C4H4O", "CH3CN", "CH3CH2OH", "C5H5N"):
        for _ in range(20):
            atoms = molecule(name)
            atoms.positions += rng.normal(scale=0.02, size=(len(atoms), 3))
            check(from_ase(atoms, tmp_path))


def test_declared_charge_excuses_a_missing_proton(tmp_path: Path) -> None:
    ethoxide = molecule("CH3CH2OH")
    del ethoxide[3]
    with pytest.raises(StructureError, match="1 atom lacks hydrogens or bonds: O1 of C2H5O 1"):
        check(from_ase(ethoxide, tmp_path))
    check(from_ase(ethoxide, tmp_path, formal_charges={"C2H5O": -1}))


def test_declared_charge_does_not_excuse_missing_carbon_hydrogens(tmp_path: Path) -> None:
    ethanol = molecule("CH3CH2OH")
    del ethanol[8]
    with pytest.raises(StructureError, match="1 atom lacks hydrogens or bonds: C1"):
        check(from_ase(ethanol, tmp_path, formal_charges={"C2H5O": -1}))


def test_carboxylate_needs_no_declaration(tmp_path: Path) -> None:
    acetate = molecule("CH3COOH")
    acid = [
        i for i in np.flatnonzero(acetate.numbers == 1) if acetate.get_distances(i, acetate.numbers == 8).min() < 1.1
    ]
    oxygen = int(np.flatnonzero(acetate.numbers == 8)[np.argmin(acetate.get_distances(acid[0], acetate.numbers == 8))])
    del acetate[acid]
    carbon = int(np.argmin(np.where(acetate.numbers == 6, acetate.get_distances(oxygen, range(len(acetate))), 9)))
    with pytest.raises(StructureError, match="lacks hydrogens"):
        check(from_ase(acetate, tmp_path))
    acetate.set_distance(carbon, oxygen, 1.26, fix=0)
    check(from_ase(acetate, tmp_path))


def test_unknown_element_names_the_atoms(tmp_path: Path) -> None:
    with pytest.raises(ElementError, match=r"do not know F: F1 of CF4 1 \(index 1\)") as caught:
        check(from_ase(molecule("CF4"), tmp_path))
    assert "qmml weights list" in caught.value.cure


def test_symbol_that_is_no_element_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n\nQq 0 0 0\n")
    with pytest.raises(ElementError, match="virtual site or has no element"):
        check(read_structure(tmp_path / "a.xyz"))


@pytest.mark.parametrize(
    ("lengths", "angles", "fits"),
    [
        ((10.4, 11.0, 12.0), (90, 90, 90), True),
        ((10.3, 11.0, 12.0), (90, 90, 90), False),
        # All edges exceed twice the cutoff; between its faces the box is 12 sin 60° = 10.39 Å wide.
        ((12.0, 12.0, 12.0), (90, 90, 60), False),
        ((12.1, 12.1, 12.0), (90, 90, 60), True),
        # Rhombic dodecahedron of edge d: widths d / sqrt 2.
        ((14.8, 14.8, 14.8), (60, 60, 90), True),
        ((14.6, 14.6, 14.6), (60, 60, 90), False),
    ],
)
def test_box_is_measured_between_its_faces(ethanol: Molecules, lengths, angles, fits: bool) -> None:
    molecules = replace(ethanol, box=box_from_cell(np.array(lengths) / 10, np.array(angles, dtype=float)))
    if fits:
        check(molecules)
    else:
        with pytest.raises(StructureError, match=r"twice the cutoff of 5\.2 Å is 10\.4 Å"):
            check(molecules)


def test_nan_is_named(nma: Molecules) -> None:
    positions = nma.positions.copy()
    positions[15, 1] = np.nan
    with pytest.raises(StructureError, match=r"H2 of HOH 1 \(index 14\) is not|HOH \d+ \(index 15\) is not a finite"):
        check(replace(nma, positions=positions))


def test_nan_in_a_file_is_named(examples: Path, tmp_path: Path) -> None:
    text = (examples / "ethanol_nve" / "ethanol.pdb").read_text().replace("  -0.400", "     nan")
    (tmp_path / "nan.pdb").write_text(text)
    with pytest.raises(StructureError, match=r"C2 of EOH 1 \(index 0\) is not a finite number"):
        check(read_structure(tmp_path / "nan.pdb"))


def test_overlap_across_the_box_is_found(nma: Molecules) -> None:
    """An atom 0.3 Å from the periodic image of another."""
    positions = nma.positions.copy()
    water = nma.molecule_of == nma.molecule_of[20]
    oxygen, target = np.flatnonzero(water)[0], np.flatnonzero(nma.numbers == 8)[50]
    positions[water] += positions[target] + [1.8732, 0.03, -1.8732] - positions[oxygen]
    moved = replace(nma, positions=positions)
    with pytest.raises(StructureError, match=r"overlap \(closer than 0\.5 Å\): O of HOH.*0\.30 Å"):
        check(moved)
    # The twin: without the box the same atoms are far apart, and nothing is found.
    check(replace(moved, box=None))


def test_doubled_atom_lies_at_the_same_place(nma: Molecules) -> None:
    positions = nma.positions.copy()
    waters = [np.flatnonzero(nma.molecule_of == k) for k in (5, 9)]
    positions[waters[0]] = positions[waters[1]] + nma.box[2]
    with pytest.raises(StructureError, match="lie at the same place"):
        check(replace(nma, positions=positions))


def test_bond_across_missing_residues_is_named(data: Path, tmp_path: Path) -> None:
    lines = (data / "chignolin_1uao_model1.pdb").read_text().splitlines(keepends=True)
    gap = [line for line in lines if line[22:26].strip() not in ("5", "6")]
    (tmp_path / "gap.pdb").write_text("".join(gap))
    with pytest.raises(StructureError, match=r"bonds are too long: C of PRO 4 .* to N of GLY 7"):
        check(read_structure(tmp_path / "gap.pdb"))


def test_crowded_atom_is_named(ethanol: Molecules) -> None:
    molecules = replace(ethanol, bonds=np.concatenate([ethanol.bonds, [[3, 4]]]))
    with pytest.raises(StructureError, match=r"HO of EOH 1 \(index 3\); H11 of EOH 1 \(index 4\) has more bonds"):
        check(molecules)


def test_endless_molecule_is_refused(tmp_path: Path) -> None:
    """A polyethylene chain bonded to its own image; the same chain with a longer box and closed ends is finite."""
    a = 2.55
    carbons = np.array([[a * k / 2, 0.42 * (-1) ** k, 0] for k in range(10)])
    hydrogens = [c + np.array([0, 0.63 * np.sign(c[1]), s * 0.89]) for c in carbons for s in (1, -1)]
    atoms = ase.Atoms("C10H20", np.concatenate([carbons, hydrogens]), cell=[5 * a, 12, 12], pbc=True)
    with pytest.raises(StructureError, match="bonded to a periodic image of its own molecule"):
        check(from_ase(atoms, tmp_path))


def test_all_problems_are_named_at_once(nma: Molecules) -> None:
    bonds = nma.bonds[1:]
    molecules = replace(
        nma, box=np.eye(3), bonds=bonds, molecule_of=molecules_of(bonds, nma.size), positions=nma.positions * 0.99
    )
    with pytest.raises(ElementError) as caught:
        check(molecules, ("H", "C", "N"))
    text = str(caught.value)
    for expected in ("do not know O", "twice the cutoff", "overlap", "problems"):
        assert expected in text
    assert text.count("\n") < 24


def test_empty_structure_is_refused(ethanol: Molecules) -> None:
    none = np.zeros(0, dtype=np.int64)
    empty = replace(
        ethanol, numbers=none, masses=np.zeros(0), positions=np.zeros((0, 3)), bonds=np.zeros((0, 2), dtype=np.int64),
        molecule_of=none, residue_of=none, fragment_of=none, formal_charge=none,
    )  # fmt: skip
    with pytest.raises(StructureError, match="holds no atoms"):
        check(empty)
