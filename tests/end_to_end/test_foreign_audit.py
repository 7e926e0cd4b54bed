"""Trajectories that other programs made and wrote: OpenMM (DCD and table), ASE (extended XYZ), and H5MD by h5py."""

import dataclasses
import json
from pathlib import Path

import ase.io
import h5py
import numpy as np
import openmm
import pytest
import torch
from ase import Atoms
from ase import units as ase_units
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from openmm import app, unit

from qmml_md.analysis.causes.classes import Cause
from qmml_md.analysis.findings import Status
from qmml_md.analysis.foreign.audit import audit_foreign, read_foreign
from qmml_md.analysis.foreign.checks import Options
from qmml_md.commands.foreign import audit_trajectory
from qmml_md.ensemble import weights
from qmml_md.ensemble.force import build_force
from qmml_md.ensemble.model import evaluate
from qmml_md.errors import AuditError
from qmml_md.system.build import build_system, topology
from qmml_md.system.structures import read_structure
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL

DATA = Path(__file__).parents[1] / "data"
START = DATA / "quantum" / "ethanol_300K_fine_wb97x_631gd.extxyz"
#: A constant that the stored energies carry and the model does not: the self energies of another program, eV.
SELF = -4000.0
FRAMES, STEP_FS = 40, 0.25
NVE = Options(ensemble="nve", drift_kT_per_ns_per_dof=200.0)


@pytest.fixture(scope="module")
def mini():
    """The small ensemble in double precision."""
    torch.set_num_threads(1)
    return weights.load(str(DATA / "ani_mini.safetensors"), "double")


class Mini(Calculator):
    """The small ensemble as an ASE calculator, with self energies of its own."""

    implemented_properties = ("energy", "forces")

    def __init__(self, model):
        super().__init__()
        self.model = model

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        box = np.array(atoms.cell) * 0.1 if atoms.pbc.all() else None
        out = evaluate(self.model, atoms.numbers.astype(np.int64), atoms.positions * 0.1, box)
        self.results = {
            "energy": out.energy * EV_PER_KJ_PER_MOL + SELF,
            "forces": out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM,
        }


def ase_run(model, *, periodic=False, langevin=False, frames=FRAMES, step_fs=STEP_FS):
    """Frames of an ASE run, one at each step, as ASE keeps them."""
    atoms = ase.io.read(START, 0)
    if periodic:
        atoms.set_cell([9.5, 10.0, 10.5])
        atoms.pbc = True
    atoms.calc = Mini(model)
    masses = atoms.get_masses()[:, None]
    momenta = np.random.default_rng(4).normal(size=(*masses.shape[:1], 3)) * np.sqrt(ase_units.kB * 300.0 * masses)
    atoms.set_momenta(momenta - masses / masses.sum() * momenta.sum(axis=0))
    kwargs = {"fixcm": False, "temperature_K": 300.0, "friction": 0.001 / ase_units.fs, "rng": np.random.default_rng(5)}
    md = (
        Langevin(atoms, step_fs * ase_units.fs, **kwargs) if langevin else VelocityVerlet(atoms, step_fs * ase_units.fs)
    )
    kept = []

    def keep():
        copy = atoms.copy()
        if periodic:
            copy.wrap()
        copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        copy.info["time_fs"] = md.nsteps * step_fs
        kept.append(copy)

    md.attach(keep, interval=1)
    md.run(frames - 1)
    return kept


@pytest.fixture(scope="module")
def kept(mini):
    """An honest ASE run."""
    return ase_run(mini)


def copies(kept):
    """Frames that a test may spoil."""
    new = []
    for frame in kept:
        copy = frame.copy()
        copy.calc = SinglePointCalculator(copy, energy=frame.get_potential_energy(), forces=frame.get_forces().copy())
        new.append(copy)
    return new


def audited(frames, tmp_path, model, options=NVE, **kwargs):
    path = tmp_path / "run.extxyz"
    ase.io.write(path, frames, format="extxyz")
    return audit_foreign(read_foreign([path], **kwargs), model, options=options, out=tmp_path / "audit")


def failed(result):
    return {check.name for check in result.checks if check.status == Status.FAIL}


def status(result, name):
    return next(check.status for check in result.checks if check.name == name)


def value(result, name):
    return next(finding.value for finding in result.findings if finding.name == name)


def test_ase_run_passes_and_its_constant_is_found(kept, mini, tmp_path):
    result = audited(kept, tmp_path, mini)
    assert failed(result) == set()
    assert {c.name for c in result.checks if c.status == Status.NOT_APPLICABLE} == {"kinetic"}
    # Eight printed decimals: 5e-9 Å times forces of some eV/Å and curvatures of 50 eV/Å² stay below 1e-6.
    assert value(result, "force_rmse") < 1e-6
    assert value(result, "energy_offset") * EV_PER_KJ_PER_MOL == pytest.approx(SELF, abs=1e-5)
    assert abs(value(result, "velocity_offset")) < 1e-3
    document = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert document["verdict"] == result.verdict
    assert len(document["frames"]) == FRAMES


def test_periodic_run_with_wrapped_atoms_passes(mini, tmp_path):
    result = audited(ase_run(mini, periodic=True), tmp_path, mini)
    assert failed(result) == set()


def test_thermostat_is_not_blamed_for_its_noise(mini, tmp_path):
    result = audited(ase_run(mini, langevin=True), tmp_path, mini, Options(ensemble="nvt"))
    assert failed(result) == set()
    assert status(result, "conservation") == Status.NOT_APPLICABLE


def test_long_step_shows_as_drift_or_not_at_all_but_never_as_another_surface(mini, tmp_path):
    result = audited(ase_run(mini, step_fs=1.0), tmp_path, mini)
    assert not failed(result) & {"forces", "energies", "motion", "velocities"}


def in_kcal(frames):
    for frame in frames:
        frame.calc.results["forces"] = frame.calc.results["forces"] * (96.48533212331 / 4.184)


def negative(frames):
    for frame in frames:
        frame.calc.results["forces"] = -frame.calc.results["forces"]


def half(frames):
    for frame in frames:
        frame.calc.results["forces"] = 0.5 * frame.calc.results["forces"]


def energies_in_hartree(frames):
    for frame in frames:
        frame.calc.results["energy"] = frame.calc.results["energy"] / 27.211386245988


def leap_frog(frames):
    # What a leap-frog integrator holds beside x(t): v(t − dt/2).
    for frame in frames:
        momenta, forces = frame.get_momenta(), frame.get_forces()
        frame.set_momenta(momenta - 0.5 * STEP_FS * ase_units.fs * forces)


def momenta_in_another_unit(frames):
    for frame in frames:
        frame.set_momenta(frame.get_momenta() * ase_units.fs)


def drop(frames):
    del frames[20]
    for k, frame in enumerate(frames):
        frame.info["time_fs"] = k * STEP_FS


def drop_with_its_time(frames):
    del frames[20]


def repeat(frames):
    frames[20] = frames[19].copy()
    frames[20].calc = frames[19].calc
    frames[20].info["time_fs"] = 20 * STEP_FS


def clock(frames):
    for frame in frames:
        frame.info["time_fs"] *= 2.0


SABOTAGE = [
    (in_kcal, {"forces", "work"}, Cause.UNIT),
    (negative, {"forces", "work"}, Cause.NOT_GRADIENT),
    (half, {"forces", "work"}, Cause.NOT_GRADIENT),
    (energies_in_hartree, {"energies", "work", "conservation"}, Cause.UNIT),
    (leap_frog, {"velocities"}, Cause.OFF_STEP),
    (momenta_in_another_unit, {"velocities"}, Cause.UNIT),
    (drop, {"motion"}, Cause.FRAMES),
    (drop_with_its_time, {"order"}, Cause.FRAMES),
    (repeat, {"order"}, Cause.FRAMES),
    (clock, {"velocities", "motion"}, None),
]


@pytest.mark.parametrize(("spoil", "expected", "cause"), SABOTAGE, ids=[s.__name__ for s, _, _ in SABOTAGE])
def test_spoilt_trajectory_fails_by_name_and_cause(kept, mini, tmp_path, spoil, expected, cause):
    frames = copies(kept)
    spoil(frames)
    result = audited(frames, tmp_path, mini)
    assert failed(result) >= expected
    if cause is not None:
        assert result.diagnoses[0].cause == cause, result.diagnoses


def test_wrong_weights_are_another_surface(kept, mini, tmp_path):
    moved = {
        k: t * (1 + 0.05 * torch.sin(torch.arange(t.numel()).reshape(t.shape)))
        for k, t in weights.tensors_of(mini).items()
    }
    other = weights.build(mini.card, moved, "double")
    result = audited(kept, tmp_path, other)
    assert {"forces", "energies"} <= failed(result)
    assert result.diagnoses[0].cause == Cause.MODEL_DIFFERS


def openmm_run(mini, tmp_path, *, leap_frog=True):
    """A run of OpenMM with its own integrator and reporters; the topology beside it."""
    molecules = read_structure(START)
    system = build_system(molecules)
    system.addForce(build_force(mini, molecules.numbers, periodic=False, kind="torchforce"))
    integrator = openmm.VerletIntegrator(STEP_FS * unit.femtosecond)
    simulation = app.Simulation(topology(molecules), system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(molecules.positions)
    simulation.context.setVelocitiesToTemperature(300.0, 3)
    dcd, table, pdb = tmp_path / "run.dcd", tmp_path / "run.csv", tmp_path / "start.pdb"
    simulation.reporters.append(app.DCDReporter(str(dcd), 1))
    simulation.reporters.append(
        app.StateDataReporter(
            str(table),
            1,
            step=True,
            time=True,
            potentialEnergy=True,
            kineticEnergy=True,
            totalEnergy=True,
            temperature=True,
        )
    )
    with pdb.open("w") as file:
        app.PDBFile.writeFile(simulation.topology, molecules.positions * 10.0, file)
    simulation.step(FRAMES)
    simulation.reporters.clear()
    return dcd, table, pdb


@pytest.fixture(scope="module")
def of_openmm(mini, tmp_path_factory):
    """The files of an honest OpenMM run."""
    return openmm_run(mini, tmp_path_factory.mktemp("openmm"))


def test_openmm_dcd_with_its_table_passes(of_openmm, mini):
    dcd, table, pdb = of_openmm
    result = audit_foreign(read_foreign([dcd, table], topology=pdb), mini, options=NVE)
    assert failed(result) == set()
    lacking = {c.name: c.why for c in result.checks if c.status == Status.NOT_APPLICABLE}
    assert set(lacking) == {"forces", "work", "velocities", "kinetic", "momentum"}
    assert lacking["forces"] == "needs forces in the files"
    # Positions in a DCD are singles in Å: an energy may be off by forces times 1e-7 of them, and is said to be.
    assert 0.0 < value(result, "energy_scatter") < 20 * value(result, "energy_scatter_by_rounding")
    assert value(result, "acceleration_factor") == pytest.approx(1.0, abs=2e-3)


def test_dcd_alone_still_tells_what_moved_the_atoms(of_openmm, mini):
    dcd, _, pdb = of_openmm
    result = audit_foreign(read_foreign([dcd], topology=pdb, spacing_fs=STEP_FS), mini, options=NVE)
    assert status(result, "motion") == Status.PASS
    wrong = audit_foreign(read_foreign([dcd], topology=pdb, spacing_fs=2 * STEP_FS), mini, options=NVE)
    assert failed(wrong) == {"motion"}


def test_table_of_another_length_is_refused(of_openmm, mini, tmp_path):
    dcd, table, pdb = of_openmm
    short = tmp_path / "short.csv"
    short.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(Exception, match=r"40 frames, .* 39 rows"):
        read_foreign([dcd, short], topology=pdb)
    with pytest.raises(Exception, match="holds no elements"):
        read_foreign([dcd, table])


def write_h5md(path, kept, *, units=True, species="enum", dtype=np.float64):
    """What the H5MD 1.1 document asks for, in nm, ps and kJ/mol."""
    names = h5py.enum_dtype({"H": 1, "C": 6, "N": 7, "O": 8}, basetype="i")
    scale = 1.0 / EV_PER_KJ_PER_MOL
    with h5py.File(path, "w") as file:
        head = file.create_group("h5md")
        head.attrs["version"] = np.array([1, 1])
        head.create_group("author").attrs["name"] = "nobody"
        for key, text in (("name", "h5py"), ("version", h5py.__version__)):
            head.require_group("creator").attrs[key] = text
        group = file.create_group("particles/all")
        box = group.create_group("box")
        box.attrs["dimension"], box.attrs["boundary"] = 3, [b"none"] * 3
        group.create_dataset("species", data=kept[0].numbers, dtype=names if species == "enum" else "i8")
        mass = group.create_dataset("mass", data=kept[0].get_masses())
        quantities = {
            "position": ("nm", [f.positions * 0.1 for f in kept]),
            "velocity": ("nm ps-1", [f.get_velocities() * ase_units.fs * 100.0 for f in kept]),
            "force": ("kJ mol-1 nm-1", [f.get_forces() * scale * 10.0 for f in kept]),
        }
        energies = {
            "potential_energy": [f.get_potential_energy() * scale for f in kept],
            "kinetic_energy": [f.get_kinetic_energy() * scale for f in kept],
        }
        for name, (text, values) in quantities.items():
            put(group.create_group(name), np.array(values, dtype=dtype), text, units)
        for name, values in energies.items():
            put(file.create_group(f"observables/all/{name}"), np.array(values), "kJ mol-1", units)
        if units:
            mass.attrs["unit"] = "Da"


def put(element, values, text, units):
    value = element.create_dataset("value", data=values)
    element.create_dataset("step", data=1)
    time = element.create_dataset("time", data=STEP_FS * 1e-3)
    if units:
        value.attrs["unit"], time.attrs["unit"] = text, "ps"


def test_h5md_passes_every_check(kept, mini, tmp_path):
    path = tmp_path / "run.h5md"
    write_h5md(path, kept)
    result = audit_foreign(read_foreign([path]), mini, options=NVE)
    assert {c.name: c.status for c in result.checks if c.status != Status.PASS and c.name != "conservation"} == {}
    assert status(result, "conservation") != Status.FAIL


def test_h5md_without_units_is_refused_and_can_be_told(kept, mini, tmp_path):
    path = tmp_path / "run.h5md"
    write_h5md(path, kept, units=False)
    with pytest.raises(Exception, match="does not say in which unit"):
        read_foreign([path])
    told = {
        "positions": "nm", "velocities": "nm/ps", "forces": "kJ/mol/nm", "energies": "kJ/mol", "time": "ps",
        "masses": "Da",
    }  # fmt: skip
    assert failed(audit_foreign(read_foreign([path], units=told), mini, options=NVE)) == set()
    wrong = audit_foreign(read_foreign([path], units={**told, "forces": "kcal/mol/nm"}), mini, options=NVE)
    assert failed(wrong) == {"forces", "work"}
    assert wrong.diagnoses[0].cause == Cause.UNIT


def test_h5md_with_bare_species_needs_masses_or_a_topology(kept, tmp_path):
    path = tmp_path / "run.h5md"
    write_h5md(path, kept, species="bare")
    assert read_foreign([path]).numbers.tolist() == kept[0].numbers.tolist()
    with h5py.File(path, "a") as file:
        del file["particles/all/mass"]
    with pytest.raises(Exception, match="may be atom types"):
        read_foreign([path])
    assert read_foreign([path], topology=START).numbers.tolist() == kept[0].numbers.tolist()


def test_memory_does_not_hold_the_frames(kept, mini, tmp_path):
    # Blocks are read one at a time: no block is larger than was asked for, and together they are all frames.
    path = tmp_path / "run.h5md"
    write_h5md(path, kept)
    sizes = [len(block.positions) for block in read_foreign([path]).blocks(16)]
    assert sizes == [16, 16, 8]
    first = [block.first for block in dataclasses.replace(read_foreign([path])).blocks(16)]
    assert first == [0, 16, 32]


def test_atoms_of_an_ase_file_are_those_of_ase(tmp_path):
    atoms = Atoms("OH2", positions=np.eye(3))
    ase.io.write(tmp_path / "x.extxyz", atoms)
    assert read_foreign([tmp_path / "x.extxyz"]).numbers.tolist() == [8, 1, 1]


def test_command_prints_verdict_cause_and_checks(of_openmm, kept, tmp_path, capsys):
    weights_file = str(DATA / "ani_mini.safetensors")
    dcd, table, pdb = of_openmm
    out = tmp_path / "audit"
    code = audit_trajectory([dcd, table], weights=weights_file, topology=pdb, ensemble="nvt", out=out)
    printed = capsys.readouterr().out
    assert code == 0
    assert "not_applicable" in printed
    assert "needs forces in the files" in printed
    frames = copies(kept)
    in_kcal(frames)
    path = tmp_path / "run.extxyz"
    ase.io.write(path, frames, format="extxyz")
    assert audit_trajectory([path], weights=weights_file) == 1
    assert "unit factor" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "run.extxyz.audit" / "audit.json").read_text())["diagnoses"][0]["cause"] == "unit factor"
    )


@pytest.mark.parametrize("pair", ["forces", "forces=", "=eV"])
def test_unit_that_declares_nothing_is_refused(pair, tmp_path):
    with pytest.raises(AuditError, match=r"does not declare a unit|no quantity"):
        audit_trajectory([tmp_path / "x.extxyz"], weights="ani1x", units=[pair])
