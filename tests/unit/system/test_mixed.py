"""A configuration with a selection: what is read, what is built, and what is refused."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import unit
from pydantic import ValidationError

from qmml_md.config import System
from qmml_md.ensemble import weights
from qmml_md.ensemble.force import Particles, build_force
from qmml_md.ensemble.model import evaluate
from qmml_md.errors import ConfigError, ForceFieldError, StructureError
from qmml_md.system.archive import read_archive, write_archive
from qmml_md.system.mixed import read_system

DATA = Path(__file__).parents[2] / "data"
MINI = str(DATA / "ani_mini.safetensors")
FOLDER = DATA / "force_field"
PLATFORMS = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
GROMACS: dict[str, Any] = {"structure": "ethane.gro", "topology": "ethane.top"}
CHARMM: dict[str, Any] = {"structure": "ethane.pdb", "topology": "ethane.psf", "parameters": ["ethane.prm"]}
ETHANE: dict[str, Any] = {"structure": "ethane.pdb", "force_field": ["ethane.xml"]}
METHYL = "resname ETH and name C1 H1 H2 H3"
AMBER: dict[str, Any] = {"structure": "ethane.inpcrd", "topology": "ethane.prmtop"}
#: Single precision of the CPU platform: 6e-8 of positions of 2 nm under bonds of 2e5 kJ/mol/nm².
ENERGY_KJ_PER_MOL, FORCE_KJ_PER_MOL_PER_NM = 0.05, 0.5


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("selection", [METHYL, "resname HOH", "resname ETH"])
def test_one_openmm_system_holds_field_and_ensemble(platform: str, selection: str) -> None:
    # What the integrator moves atoms on is what the pieces say: field, ensemble on the part, forces of caps spread.
    found = read_system(System(**ETHANE, ml_atoms=selection), FOLDER, platform)
    part, field, ensemble = found.part, found.field, weights.load(MINI, "double")
    assert field is not None
    numbers, x, box = part.molecules.numbers, found.molecules.positions, found.molecules.box
    system = field.system()
    particles = Particles(atoms=part.atoms, links=part.links, distances_nm=part.distances_nm)
    system.addForce(build_force(ensemble, numbers, periodic=True, kind="torchforce", part=particles))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions(np.concatenate([x, np.zeros((field.sites, 3))]))
    context.computeVirtualSites()
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)[: field.size]
    energy, rest = field.evaluate(x, box)
    out = evaluate(ensemble, numbers, part.positions(x, box), box)
    spread = part.spread(out.forces, x, box)
    assert state.getPotentialEnergy()._value == pytest.approx(energy + out.energy, abs=ENERGY_KJ_PER_MOL)
    assert np.abs(forces - rest - spread).max() < FORCE_KJ_PER_MOL_PER_NM
    # Sabotage: without the ensemble, or with its forces on the wrong atoms, it is another potential.
    assert np.abs(forces - rest).max() > 10.0 * FORCE_KJ_PER_MOL_PER_NM
    assert np.abs(forces - rest - np.roll(spread, 1, axis=0)).max() > 10.0 * FORCE_KJ_PER_MOL_PER_NM


def test_all_atoms_need_no_force_field() -> None:
    for keys in ({}, {"ml_atoms": "all"}, {"force_field": ["ethane.xml"], "ml_atoms": "index < 100"}):
        found = read_system(System(**{"structure": "ethane.pdb"} | keys), FOLDER)
        assert found.field is None
        assert found.part.whole
    found = read_system(System(**AMBER), FOLDER)
    assert found.field is None
    assert found.molecules.size == 16


def test_masses_are_those_of_the_force_field() -> None:
    found = read_system(System(**AMBER, ml_atoms="resname ETH", hydrogen_mass_Da=2.0), FOLDER)
    assert found.field is not None
    assert (found.molecules.masses == found.field.masses).all()
    assert (found.part.molecules.masses[found.part.molecules.numbers == 1] == 2.0).all()


def test_molecules_that_were_wrapped_are_made_whole(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "ethane.xml", tmp_path)
    lines = (FOLDER / "ethane.pdb").read_text().splitlines()
    # The second carbon and its hydrogens one box further.
    moved = [
        f"{line[:30]}{float(line[30:38]) + 25.0:8.3f}{line[38:]}" if line[6:11].strip() in ("5", "6", "7", "8")
        and line.startswith("HETATM") else line for line in lines
    ]  # fmt: skip
    (tmp_path / "ethane.pdb").write_text("\n".join(moved) + "\n")
    whole, torn = (read_system(System(**ETHANE, ml_atoms=METHYL), folder, "Reference") for folder in (FOLDER, tmp_path))
    assert torn.molecules.positions == pytest.approx(whole.molecules.positions, abs=1e-12)
    assert torn.part.molecules.positions == pytest.approx(whole.part.molecules.positions, abs=1e-12)


def test_what_a_run_keeps_says_the_same(tmp_path: Path) -> None:
    found = read_system(System(**ETHANE, ml_atoms=METHYL), FOLDER, "Reference")
    write_archive(tmp_path, found)
    again = read_archive(tmp_path, "Reference")
    assert found.field is not None
    assert again.field is not None
    x, box = found.molecules.positions, found.molecules.box
    ours, theirs = found.field.evaluate(x, box), again.field.evaluate(x, box)
    assert ours[0] == theirs[0]
    assert (ours[1] == theirs[1]).all()
    assert (again.part.links == found.part.links).all()
    assert (again.part.molecules.positions == found.part.molecules.positions).all()


def test_charges_that_the_force_field_contradicts_are_refused() -> None:
    # Chloride would be neutral by this word; the atoms around it are on the ensemble or not.
    keys = ETHANE | {"formal_charges": {"CL": 0}}
    with pytest.raises(ForceFieldError, match="CL 5 the charge -1, the structure"):
        read_system(System(**keys, ml_atoms="resname CL"), FOLDER)
    assert read_system(System(**keys, ml_atoms="resname ETH"), FOLDER).field is not None


def spoiled(folder: Path, name: str, change: Callable[[str], str]) -> Path:
    """All files, one of them changed."""
    for path in FOLDER.iterdir():
        (folder / path.name).write_text(path.read_text())
    (folder / name).write_text(change((folder / name).read_text()))
    return folder


def without_last_atom(text: str) -> str:
    """GROMACS coordinates of one atom less."""
    lines = text.splitlines()
    return "\n".join([lines[0], str(int(lines[1]) - 1), *lines[2:-2], lines[-1]]) + "\n"


@pytest.mark.parametrize(
    ("name", "change", "keys", "words"),
    [
        ("ethane.gro", without_last_atom, GROMACS, "has 16 atoms"),
        ("ethane.pdb", lambda t: t.replace(" Na ", "  K "), AMBER | {"structure": "ethane.pdb"}, "another element"),
        ("ethane.gro", lambda t: t.replace("1.250", "x.250"), GROMACS, "cannot be read"),
        ("ethane.inpcrd", lambda t: t[: len(t) // 2], AMBER, "cannot be read|has 16 atoms"),
        ("ethane.inpcrd", lambda t: "\n".join(t.splitlines()[:-1]) + "\n", AMBER | {"periodic": True}, None),
    ],
)  # fmt: skip
def test_coordinates_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, change: Callable[[str], str], keys: dict[str, Any], words: str | None
) -> None:
    folder = spoiled(tmp_path, name, change)
    if words is None:
        # The box of the AMBER topology stands in for that of the coordinates.
        assert read_system(System(**keys, ml_atoms="resname ETH"), folder).molecules.box is not None
        return
    with pytest.raises(StructureError, match=words):
        read_system(System(**keys, ml_atoms="resname ETH"), folder)


@pytest.mark.parametrize(
    ("name", "change", "keys", "words"),
    [
        ("ethane.prmtop", lambda t: t[:2000], AMBER, "cannot be read"),
        ("ethane.top", lambda t: t.replace("[ atoms ]", '#include "nowhere.itp"\n[ atoms ]'), GROMACS, "nowhere.itp"),
        ("ethane.prm", lambda t: t.replace("H1     C1     C1", "H2     C1     C1"), CHARMM, "cannot be read"),
        ("ethane.prm", lambda t: t, CHARMM | {"parameters": ["none.prm"]}, "does not exist"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, change: Callable[[str], str], keys: dict[str, Any], words: str
) -> None:
    folder = spoiled(tmp_path, name, change)
    with pytest.raises(ForceFieldError, match=words):
        read_system(System(**{"ml_atoms": "resname ETH"} | keys), folder)


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="selects no atom"):
        read_system(System(**ETHANE, ml_atoms="resname XYZ"), FOLDER)


def test_a_position_that_is_no_number_is_refused(tmp_path: Path) -> None:
    folder = spoiled(tmp_path, "ethane.pdb", lambda text: text.replace("  16.900", "     nan"))
    with pytest.raises(StructureError, match="not a finite number"):
        read_system(System(**ETHANE, ml_atoms="resname ETH"), folder)


def test_water_that_an_amber_file_leaves_loose_is_named(tmp_path: Path) -> None:
    # Other programs than tleap write no bond between the hydrogens of a water.
    folder = spoiled(tmp_path, "ethane.prmtop", loosen)
    with pytest.raises(ForceFieldError, match="2 waters are not rigid"):
        read_system(System(**AMBER, ml_atoms="resname ETH"), folder)
    loose = read_system(System(**AMBER, ml_atoms="resname ETH", rigid_water=False), folder)
    assert loose.field is not None
    assert not len(loose.field.constraints)


def loosen(text: str) -> str:
    """The AMBER file without its last two bonds of hydrogen, those between hydrogens of water."""
    for pair in ("      27      30       4", "      36      39       4"):
        # Lines end anywhere within a bond.
        words = pair.split()
        text = re.sub(r"\s+".join(["", *words]) + r"(?=\s)", "", text, count=1)
    return text.replace("      16       6      12", "      16       6      10", 1)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ml_atoms": "protein"}, "give force_field or topology"),
        ({"force_field": ["a.xml"]}, "ml_atoms is `all`"),
        ({"force_field": ["a.xml"], "topology": "a.prmtop", "ml_atoms": "protein"}, "name one of them"),
        ({"topology": "a.xyz", "ml_atoms": "protein"}, "no file of parameters"),
        ({"topology": "a.psf", "ml_atoms": "protein"}, "needs parameters"),
        ({"topology": "a.top", "parameters": ["a.prm"], "ml_atoms": "protein"}, "belong to a CHARMM"),
        ({"topology": "a.psf", "parameters": ["a.prm"], "gromacs_include": "."}, "belongs to a GROMACS"),
        ({"nonbonded_switch_A": 9.0}, "less than nonbonded_cutoff_A"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        System(**{"structure": "a.pdb"} | keys)
