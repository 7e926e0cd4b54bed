"""Segments and the database: float64 to the bit, opened by MDTraj, all or nothing."""

import sqlite3
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from qmml_md.errors import RunDirectoryError
from qmml_md.records.books import Account, Entry
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.frames import ARRAYS, Frame, concatenate, stack
from qmml_md.records.rows import CheckpointRow, Event, LabelRow, ModelRow, SegmentRow
from qmml_md.records.run_directory import RunDirectory
from qmml_md.records.segment import Particles, read_particles, read_segment, write_segment
from qmml_md.system.molecules import topology_json
from qmml_md.system.structures import read_structure

ETHANOL = Path(__file__).parents[3] / "examples" / "ethanol_nve" / "ethanol.pdb"


def frame(step: int, rng: np.random.Generator) -> Frame:
    return Frame(
        step=step,
        time=step * 0.5e-3,
        positions=rng.normal(size=(9, 3)),
        velocities=rng.normal(size=(9, 3)),
        forces_used=rng.normal(size=(9, 3)),
        potential_used=float(rng.normal()),
        kinetic=float(rng.normal()),
        conserved=float(rng.normal()),
        entries=step,
        box=np.array([[2.0, 0.0, 0.0], [0.3, 2.1, 0.0], [0.1, -0.2, 2.2]]),
        region_epoch=0,
        disagreement=np.full(9, np.nan) if step % 2 else rng.random(9),
    )


@pytest.fixture
def particles() -> Particles:
    molecules = read_structure(ETHANOL)
    return Particles(
        numbers=molecules.numbers,
        masses=molecules.masses,
        topology_json=topology_json(molecules),
        periodic=True,
        degrees_of_freedom=24,
    )


def test_a_segment_keeps_every_bit(tmp_path: Path, particles: Particles) -> None:
    rng = np.random.default_rng(3)
    frames = stack([frame(i, rng) for i in range(5)], "model")
    write_segment(tmp_path / "0.h5", frames, particles)
    again = read_segment(tmp_path / "0.h5")
    for name in ARRAYS:
        assert getattr(again, name).tobytes() == getattr(frames, name).tobytes(), name
    assert again.model_id == ("model",) * 5
    assert read_particles(tmp_path / "0.h5").topology_json == particles.topology_json


def test_mdtraj_opens_a_segment(tmp_path: Path, particles: Particles) -> None:
    rng = np.random.default_rng(3)
    frames = stack([frame(i, rng) for i in range(5)], "model")
    write_segment(tmp_path / "0.h5", frames, particles)
    trajectory = mdtraj.load(str(tmp_path / "0.h5"))
    assert trajectory.n_atoms == 9
    assert trajectory.topology.n_bonds == 8
    # MDTraj holds coordinates in float32.
    assert np.abs(trajectory.xyz - frames.positions).max() < 4e-7
    assert np.abs(trajectory.unitcell_vectors - frames.box).max() < 1e-6
    assert trajectory.time == pytest.approx(frames.time)


def test_a_segment_is_never_overwritten(tmp_path: Path, particles: Particles) -> None:
    frames = stack([frame(0, np.random.default_rng(0))], "model")
    write_segment(tmp_path / "0.h5", frames, particles)
    with pytest.raises(RunDirectoryError, match="exists already"):
        write_segment(tmp_path / "0.h5", frames, particles)


def test_a_segment_holds_one_model(tmp_path: Path, particles: Particles) -> None:
    rng = np.random.default_rng(0)
    both = concatenate([stack([frame(0, rng)], "a"), stack([frame(1, rng)], "b")])
    with pytest.raises(RunDirectoryError, match="2 models"):
        write_segment(tmp_path / "0.h5", both, particles)


def test_a_damaged_segment_is_named(tmp_path: Path, particles: Particles) -> None:
    path = tmp_path / "0.h5"
    write_segment(path, stack([frame(0, np.random.default_rng(0))], "model"), particles)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunDirectoryError, match=r"0\.h5 cannot be read"):
        read_segment(path)


def whole_commit() -> Commit:
    return Commit(
        segment=SegmentRow(id=0, first_step=0, last_step=5, frames=2, model="m", file="segments/000000.h5", sha256="x"),
        entries=[Entry(step=5, time=0.1, account=Account.MODEL, before=0.1, after=0.3, cause="é")],
        events=[Event(step=5, time=0.1, kind="label", message="m", data={"a": [1.5]})],
        labels=[LabelRow(key="k", step=5, model="m", region_epoch=1, data={"core": [True]})],
        timings={"md": (1.25, 3)},
        checkpoint=CheckpointRow(id=0, step=5, folder="000000", sha256="y", model="m"),
        meta={"note": {"x": 1}},
    )


def test_a_commit_comes_back_as_it_was(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path / "run.db", create=True)
    commit = whole_commit()
    database.commit(commit)
    database.close()
    again = RunDatabase(tmp_path / "run.db")
    assert again.segments() == [commit.segment]
    assert again.entries() == commit.entries
    assert again.events() == commit.events
    assert again.labels() == commit.labels
    assert again.timings() == commit.timings
    assert again.last_checkpoint() == commit.checkpoint
    assert again.meta("note") == {"x": 1}
    again.close()


def test_a_commit_that_fails_changes_nothing(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path / "run.db", create=True)
    database.commit(whole_commit())
    with pytest.raises(sqlite3.IntegrityError):
        # The same label at the same step again; the entry before it must not stay.
        database.commit(whole_commit())
    assert len(database.entries()) == 1
    assert len(database.events()) == 1
    database.close()


def test_a_rewind_voids_what_came_after_and_keeps_it(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path / "run.db", create=True)
    good, bad, again = (Entry(step=5, time=0.1, account=Account.HEAT, before=0.0, after=a, cause="") for a in (1, 2, 3))
    first, second = (
        SegmentRow(id=i, first_step=5 * i, last_step=5, frames=2, model="m", file=f"{i}", sha256="x") for i in (0, 1)
    )
    models = [ModelRow(id=name, step=0, parent="", data={}) for name in ("a", "b")]
    database.commit(Commit(segment=first, entries=[good], models=models[:1]))
    place = database.place()
    database.commit(Commit(segment=second, entries=[bad], models=models[1:]))
    database.commit(Commit(rewind_to=place, entries=[again], models=models[1:]))
    assert database.entries() == [good, again]
    assert database.entries(void=True) == [bad]
    assert database.segments() == [first]
    assert database.segments(void=True) == [second]
    assert database.models() == models
    assert database.models(void=True) == models[1:]
    # A second return to the same place voids what was true in between, and nothing before.
    database.commit(Commit(rewind_to=place))
    assert database.entries() == [good]
    assert database.entries(void=True) == [bad, again]
    assert database.models() == models[:1]
    database.close()


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path / "run.db", create=True)
    database.commit(Commit(meta={"schema_version": 99}))
    database.close()
    with pytest.raises(RunDirectoryError, match="schema version 99"):
        RunDatabase(tmp_path / "run.db")


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory(tmp_path).create()
