"""Every exchange of energy is booked, however atoms move and a model takes over; resuming changes nothing."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Kind, Status
from qmml_md.engine.loop import resume, start
from qmml_md.engine.origin import read_origin, remaining
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.ensemble.model import evaluate
from qmml_md.errors import ConfigError, RunDirectoryError
from qmml_md.records.books import Account
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("talkative")

WATERS = 40
INTEGRATORS = ("verlet", "langevin", "bussi", "nose_hoover", "respa")
RAMP = {"learning": {"update_policy": "ramp", "ramp_steps": 8}, "reference": {"max_labels": 2}}
REWIND = {
    # So tight that each label asks for an update.
    "learning": {
        "update_policy": "rewind", "rewind_above_eV_per_A": 0.1, "max_rewinds": 1, "force_rmse_eV_per_A": 0.1,
        "max_epochs": 600,
    },
    "reference": {"max_labels": 3},
    "dynamics": {"integrator": "nose_hoover"},
}  # fmt: skip


def tables(run: RunDirectory, *, void: bool = False):
    """Ledger, segments, models and events."""
    database = run.open_database()
    try:
        rows = [getattr(database, name)(void=void) for name in ("entries", "segments", "models")]
        return *rows, database.events()
    finally:
        database.close()


def run_it(small, tmp_path: Path, **changes) -> RunDirectory:
    return start(small.configuration(**changes), config_dir=ROOT, out=tmp_path / "run", progress=Silent())


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Waters on a lattice in a box of 1.3 nm, as a PDB file."""
    rng = np.random.default_rng(5)
    shape = np.array([[0.0, 0.0, 0.0], [0.957, 0.0, 0.0], [-0.24, 0.927, 0.0]])
    size, lines = 13.0, ["CRYST1   13.000   13.000   13.000  90.00  90.00  90.00 P 1           1"]
    grid = np.array([[i, j, k] for i in range(4) for j in range(4) for k in range(4)])[rng.permutation(64)[:WATERS]]
    for m, cell in enumerate(grid):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        for name, x in zip(("O", "H1", "H2"), shape @ turn + (cell + 0.5) * size / 4, strict=True):
            lines.append(
                f"HETATM{3 * m + 1:5d}  {name:<3} HOH A{m + 1:4d}    {x[0]:8.3f}{x[1]:8.3f}{x[2]:8.3f}  1.00  0.00"
                f"          {name[0]:>2}"
            )
    path = tmp_path_factory.mktemp("water") / "water.pdb"
    path.write_text("\n".join([*lines, "END", ""]))
    return str(path)


def assert_books_close(run: RunDirectory) -> None:
    """H̃ of each frame is K + U − Σ of the entries before it; entries and models stand in order."""
    entries, _, models, _ = tables(run)
    frames = read_trajectory(run).frames
    amounts = np.concatenate([[0.0], np.cumsum([entry.amount for entry in entries])])
    assert np.abs(frames.kinetic + frames.potential_used - amounts[frames.entries] - frames.conserved).max() < 1e-8
    assert (np.diff(frames.step) > 0).all()
    assert (np.diff([entry.step for entry in entries]) >= 0).all()
    heat = [entry for entry in entries if entry.account == Account.HEAT]
    assert all(a.after == b.before for a, b in pairwise(heat))
    booked = [row for row in models[1:] if row.data["policy"] != "ramp"]
    assert len([entry for entry in entries if entry.account == Account.MODEL]) == len(booked)
    # The auditor shares no code with the engine.
    failed = [c for c in audit(run).checks if c.status == Status.FAIL and c.kind in (Kind.INTEGRITY, Kind.CONSERVATION)]
    assert [f"{check.name}: {check.why}" for check in failed if check.name != "drift"] == []


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_all_integrators_book_everything_and_resume_exactly(small, tmp_path: Path, integrator: str) -> None:
    changes = {
        "dynamics": {"integrator": integrator, "redraw_velocities_every_steps": 25, "remove_com_every_steps": 10},
        "reference": {"max_labels": 2},
    }
    whole = run_it(small, tmp_path / "whole", **changes)
    assert_books_close(whole)
    entries = tables(whole)[0]
    accounts = {entry.account for entry in entries}
    heated = {Account.HEAT} if integrator in ("langevin", "bussi", "nose_hoover") else set()
    assert accounts == {Account.MODEL, Account.VELOCITIES, Account.COM} | heated
    # Conserved to the error of the step, 0.25 fs: H̃ wanders by less than 1 kJ/mol, while K, U and the models moved
    # by far more.
    frames = read_trajectory(whole).frames
    assert np.ptp(frames.conserved) < 1.0
    assert sum(abs(entry.amount) for entry in entries) > 100.0
    config = small.configuration(**changes)
    out = tmp_path / "parts" / "run"
    start(config, config_dir=ROOT, out=out, progress=small.StopAt(27))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(whole)


def test_removing_the_centre_of_mass_costs_its_kinetic_energy(small, tmp_path: Path) -> None:
    changes = {"remove_com_every_steps": 20}
    run = run_it(small, tmp_path, dynamics=changes, reference={"max_labels": 0})
    trajectory = read_trajectory(run)
    masses, frames = trajectory.particles.masses, trajectory.frames
    removed = [entry for entry in tables(run)[0] if entry.account == Account.COM]
    assert [entry.step for entry in removed] == [20, 40]
    for entry in removed:
        # The frame of that step was taken before.
        momentum = masses @ frames.velocities[frames.step == entry.step][0]
        assert entry.amount == pytest.approx(-0.5 * momentum @ momentum / masses.sum(), rel=1e-9)
    assert all(entry.amount < -1e-3 for entry in removed)


def test_a_ramp_books_the_work_of_each_switch(small, tmp_path: Path) -> None:
    run = run_it(small, tmp_path, **RAMP)
    entries, segments, models, events = tables(run)
    assert_books_close(run)
    steps = [row.step for row in models]
    assert len(models) == 3
    # The label at step 0 begins a ramp over eight steps, that of step 20 another one.
    assert steps == [0, 8, 28]
    assert [event.kind for event in events].count("ramp") == 2
    ramp = [entry for entry in entries if entry.account == Account.RAMP]
    assert [entry.step for entry in ramp] == [*range(8), *range(20, 28)]
    frames, particles = read_trajectory(run).frames, read_trajectory(run).particles
    old, new = (weights.load(str(run.model(row.id)), "single") for row in models[:2])
    for k, entry in enumerate(ramp[:8]):
        i = int(np.flatnonzero(frames.step == entry.step)[0])
        here = [evaluate(model, particles.numbers, frames.positions[i], None).energy for model in (old, new)]
        # Energies of 1e3 kJ/mol in single precision: 1e3 · 1e-7 · a few.
        assert entry.amount == pytest.approx((here[1] - here[0]) / 8, abs=1e-3)
        assert frames.blend[i] == k / 8
    blended = [row for row in segments if row.blend]
    assert {(row.model, row.blend) for row in blended} == {
        (models[0].id, models[1].id), (models[1].id, models[2].id)
    }  # fmt: skip


# The stop at 11 lies between two labels: a label carries the first guess of its calculation in its last digits, and no
# guess may outlive the trigger that it was made in.
def test_a_ramp_is_resumed_exactly(small, tmp_path: Path) -> None:
    whole = run_it(small, tmp_path / "whole", **RAMP)
    for step in (3, 11, 23):
        out = tmp_path / f"parts{step}" / "run"
        start(small.configuration(**RAMP), config_dir=ROOT, out=out, progress=small.StopAt(step))
        resume(out, progress=Silent())
        assert small.everything(RunDirectory(out)) == small.everything(whole)


def test_a_rewind_discards_the_stretch_and_keeps_it(small, tmp_path: Path) -> None:
    run = run_it(small, tmp_path, **REWIND)
    assert_books_close(run)
    *_, models, events = tables(run)
    lost_entries, lost_segments, _, _ = tables(run, void=True)
    back = [event for event in events if event.kind == "rewind"]
    assert [event.data["to_step"] for event in back] == [0]
    assert back[0].data["from_step"] == 20
    assert [row.data["policy"] for row in models[1:]] == ["abrupt", "rewind", "abrupt"]
    # What was discarded is on the disk, with its hash in the table, and counts no more.
    assert [(row.first_step, row.last_step) for row in lost_segments] == [(5, 20)]
    assert all((run.root / row.file).exists() for row in lost_segments)
    assert {entry.account for entry in lost_entries} == {Account.HEAT}
    assert len(lost_entries) == back[0].data["entries"]
    # The label that showed the error was learned from, and the stretch was run again from the same place.
    frames = read_trajectory(run).frames
    assert frames.step.tolist() == list(range(0, 61, 5))
    assert frames.model_id[1] == models[2].id


def test_a_rewind_is_resumed_exactly(small, tmp_path: Path) -> None:
    whole = run_it(small, tmp_path / "whole", **REWIND)
    out = tmp_path / "parts" / "run"
    start(small.configuration(**REWIND), config_dir=ROOT, out=out, progress=small.StopAt(33))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(whole)


def test_volume_moves_are_booked_and_resumed_exactly(small, water: str, tmp_path: Path) -> None:
    changes = {
        "system": {"structure": water},
        "dynamics": {
            "integrator": "bussi", "steps": 40, "equilibration_steps": 0, "minimise": False, "pressure_bar": 1e4,
            "barostat_every_steps": 2,
        },
        "region": {"check_every_steps": 20, "max_qm_atoms": 9},
        "reference": {"max_labels": 0},
    }  # fmt: skip
    whole = run_it(small, tmp_path / "whole", **changes)
    assert_books_close(whole)
    moved = [entry for entry in tables(whole)[0] if entry.account == Account.BAROSTAT]
    volumes = np.linalg.det(read_trajectory(whole).frames.box)
    assert len(moved) > 3
    assert np.ptp(volumes) > 1e-4
    # A move at step s is the change between the box of the frame of s and that of the next frame.
    first = moved[0]
    assert first.amount != 0.0
    out = tmp_path / "parts" / "run"
    start(small.configuration(**changes), config_dir=ROOT, out=out, progress=small.StopAt(15))
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(whole)


def test_a_barostat_needs_a_box(small, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing repeats"):
        run_it(small, tmp_path, dynamics={"pressure_bar": 1.0})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("inner", ["member:9", "member:x", "cheap"])
def test_an_inner_potential_that_does_not_exist_is_refused(small, tmp_path: Path, inner: str) -> None:
    with pytest.raises(ConfigError, match="is no inner potential"):
        run_it(small, tmp_path, dynamics={"integrator": "respa", "respa_inner": inner})


def test_an_inner_potential_from_a_file_goes_into_the_run(small, tmp_path: Path) -> None:
    ensemble = weights.load(str(ROOT / "tests" / "data" / "ani_mini.safetensors"))
    weights.save(weights.single_member(ensemble, 2), tmp_path / "inner.safetensors")
    changes = {"integrator": "respa", "respa_inner": str(tmp_path / "inner.safetensors"), "steps": 20}
    by_file = run_it(small, tmp_path / "a", dynamics=changes, reference={"max_labels": 0})
    named = {**changes, "respa_inner": "member:2"}
    by_name = run_it(small, tmp_path / "b", dynamics=named, reference={"max_labels": 0})
    assert small.everything(by_file)["positions"] == small.everything(by_name)["positions"]
    (tmp_path / "inner.safetensors").unlink()
    assert "models/" in by_file.config.read_text()


def test_a_run_begins_at_a_frame_of_another(small, tmp_path: Path) -> None:
    first = run_it(small, tmp_path / "first")
    origin = read_origin(first.root, 40)
    config = remaining(origin)
    assert config.dynamics.steps == 20
    out = tmp_path / "second"
    second = start(config, config_dir=first.root, out=out, progress=Silent(), origin=origin)
    old, new = read_trajectory(first).frames, read_trajectory(second).frames
    at = int(np.flatnonzero(old.step == 40)[0])
    assert np.array_equal(new.positions[0], old.positions[at])
    assert np.array_equal(new.velocities[0], old.velocities[at])
    models = tables(first)[2]
    assert new.model_id[0] == models[-1].id
    assert (second.labels).exists()
    assert_books_close(second)


def test_an_origin_that_does_not_exist_is_refused(small, tmp_path: Path) -> None:
    first = run_it(small, tmp_path / "first", reference={"max_labels": 0})
    with pytest.raises(RunDirectoryError, match="no frame at step 3"):
        read_origin(first.root, 3)
    with pytest.raises(RunDirectoryError, match="none is left after step 60"):
        remaining(read_origin(first.root, 60))
    with pytest.raises(RunDirectoryError, match="does not exist"):
        read_origin(tmp_path / "nowhere", 0)
