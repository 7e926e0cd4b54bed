"""A part of a molecule on the ensemble, the rest in a force field: the methyl group of a peptide among rigid waters.

The bond to the peptide is cut, so that a link atom takes part in everything: forces, labels, learning and the audit.
Labels are embedded in the charges of the force field.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.findings import Status
from qmml_md.config import Config
from qmml_md.engine.inputs import read_simulated
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.ensemble.potential import potential_of
from qmml_md.errors import RunDirectoryError
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.reference.store import LabelStore
from qmml_md.system.archive import read_archive

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "alanine_dipeptide_tip3p" / "alanine_dipeptide.pdb"
PEPTIDE, WATERS = 22, 6
#: The methyl group of alanine.
METHYL = "resname ALA and name CB HB1 HB2 HB3"

pytestmark = pytest.mark.usefixtures("talkative")


@pytest.fixture(scope="module")
def drop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peptide and the waters nearest to it, in vacuum."""
    whole = mdtraj.load(str(EXAMPLE))
    whole.image_molecules(inplace=True)
    oxygens = whole.topology.select("water and element O")
    away = np.linalg.norm(whole.xyz[0, oxygens, None] - whole.xyz[0, None, :PEPTIDE], axis=2).min(axis=1)
    near = oxygens[np.argsort(away)[:WATERS]]
    atoms = [*range(PEPTIDE), *sorted(int(o) + k for o in near for k in range(3))]
    path = tmp_path_factory.mktemp("drop") / "drop.pdb"
    part = whole.atom_slice(atoms)
    part.unitcell_vectors = None
    part.save_pdb(str(path))
    return path


def mixture(small, drop: Path, **changes: dict) -> Config:
    """The configuration of the small runs, with a force field."""
    system = {
        "structure": str(drop),
        "ml_atoms": METHYL,
        "force_field": ["amber14-all.xml", "amber14/tip3p.xml"],
        "constraints": "h_bonds",
        "periodic": False,
    }
    merged = {
        "system": system,
        "dynamics": {"steps": 40, "equilibration_steps": 10},
        "reference": {"embedding": "electrostatic"},
        "output": {"frame_every_steps": 1},
    }
    return small.configuration(**{key: {**merged.get(key, {}), **changes.get(key, {})} for key in {*merged, *changes}})


@pytest.fixture(scope="module")
def run(small, drop: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("mixture") / "run"
    return start(mixture(small, drop), config_dir=ROOT, out=out, progress=Silent())


@pytest.fixture(scope="module")
def audited(run: RunDirectory) -> dict[str, Status]:
    return {check.name: check.status for check in audit(run).checks}


def test_it_learned_from_an_embedded_cluster_with_a_link_atom(run: RunDirectory) -> None:
    (label,) = LabelStore(run.labels).all()
    assert label.level.embedding == "electrostatic"
    # CH3 and the hydrogen in place of the peptide.
    assert sorted(label.cluster.numbers.tolist()) == [1, 1, 1, 1, 6]
    around = label.cluster.surroundings
    assert around is not None
    # The peptide without its methyl group, and the waters; pairs of charges replace what the cut bond moved.
    assert set(around.parent[around.parent >= 0]) <= set(range(PEPTIDE + 3 * WATERS))
    assert (around.parent < 0).any()
    database = run.open_database()
    row, models = database.labels()[0], database.models()
    database.close()
    peptide = mdtraj.load(str(EXAMPLE)).topology
    real = [p for p in row.data["parents"] if p >= 0]
    assert [peptide.atom(p).name for p in real] == ["CB", "HB1", "HB2", "HB3"]
    assert row.data["parents"].count(-1) == 1
    assert len(models) == 2


def test_the_books_of_a_mixture_close(audited: dict[str, Status]) -> None:
    for name in (
        "files", "order", "models", "cadence", "continuity", "steps", "kinetic", "identity", "ledger", "replay",
        "model_updates",
    ):  # fmt: skip
        assert audited[name] is Status.PASS, name


def test_constraints_hold_in_every_frame(small, drop: Path, run: RunDirectory) -> None:
    field = read_archive(run.root).field
    assert field is not None
    # Three for each water, and the bonds to hydrogen of the peptide but for those of the methyl group.
    assert len(field.constraints) == 3 * WATERS + (12 - 3)
    positions = read_trajectory(run).frames.positions
    i, j = field.constraints.T
    lengths = np.linalg.norm(positions[:, i] - positions[:, j], axis=2)
    # SETTLE takes the distances in single precision; whatever they are then, they are held to 1e-10 of themselves.
    np.testing.assert_allclose(lengths, np.broadcast_to(field.lengths_nm, lengths.shape), rtol=1e-6)
    assert np.ptp(lengths, axis=0).max() < 1e-9
    # Twin: the bonds of the methyl group, which nothing holds, move by much more.
    carbon, *hydrogens = read_archive(run.root).part.atoms
    free = np.linalg.norm(positions[:, hydrogens] - positions[:, [carbon]], axis=2)
    assert np.ptp(free, axis=0).min() > 1e-6


def test_forces_are_the_gradient_of_the_whole(run: RunDirectory) -> None:
    """Central differences of 1e-6 nm: the third derivative leaves 1e-9 of a force, rounding of 1e3 kJ/mol 1e-4."""
    simulated = read_archive(run.root, "Reference")
    database = run.open_database()
    model = weights.load(str(run.model(database.models()[-1].id)), "double")
    database.close()
    potential = potential_of(simulated)
    positions = read_trajectory(run).frames.positions[-1]
    forces = potential.evaluate(model, positions, None).forces
    host, outer = simulated.part.links[0]
    for atom in (int(host), int(outer), int(simulated.part.atoms[1]), PEPTIDE):
        for axis in range(3):
            ends = []
            for sign in (1.0, -1.0):
                moved = positions.copy()
                moved[atom, axis] += sign * 1e-6
                ends.append(potential.evaluate(model, moved, None).energy)
            slope = (ends[0] - ends[1]) / 2e-6
            assert -slope == pytest.approx(forces[atom, axis], abs=2e-3 + 1e-6 * abs(forces[atom, axis]))
    # Without the chain rule of the link atom the host is wrong by what acts on the cap.
    bare = (
        potential.evaluate(model, positions, None).forces[host]
        - simulated.part.spread(
            np.eye(len(simulated.part.outer), 1, -(len(simulated.part.outer) - 1)) * np.ones(3), positions
        )[host]
    )
    assert np.abs(bare - forces[host]).max() > 0.1


@pytest.mark.parametrize("step", [7, 20])
def test_resumed_equals_uninterrupted(small, drop: Path, run: RunDirectory, tmp_path: Path, step: int) -> None:
    out = tmp_path / "run"
    start(mixture(small, drop), config_dir=ROOT, out=out, progress=small.StopAt(step))
    # The input files are not needed any more.
    assert read_simulated(mixture(small, Path("gone.pdb")), out).molecules.size == PEPTIDE + 3 * WATERS
    resume(out, progress=Silent())
    assert small.everything(RunDirectory(out)) == small.everything(run)


def test_a_force_field_that_was_touched_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    copy = RunDirectory(shutil.copytree(run.root, tmp_path / "run"))
    xml = copy.root / "field.xml"
    text = xml.read_text()
    xml.write_text(text.replace('eps="', 'eps="1', 1))
    with pytest.raises(RunDirectoryError, match="not the force field"):
        audit(copy)
    xml.unlink()
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        read_archive(copy.root)


def test_an_auditor_with_another_force_field_sees_it(run: RunDirectory, tmp_path: Path) -> None:
    """The field weighs: with one charge moved by 0.01 e, its hash mended, the stored forces are not those."""
    copy = RunDirectory(shutil.copytree(run.root, tmp_path / "run"))
    xml, system = copy.root / "field.xml", copy.root / "system.json"
    text = xml.read_text()
    particle = re.search(r'<Particle eps="[^"]*" q="(-?[\d.]+)"', text)
    assert particle is not None
    start_, end = particle.span(1)
    other = text[:start_] + str(float(particle.group(1)) + 0.01) + text[end:]
    xml.write_text(other)
    plain = json.loads(system.read_text())
    plain["field_sha256"] = hashlib.sha256(other.encode()).hexdigest()
    system.write_text(json.dumps(plain))
    found = {check.name: check.status for check in audit(copy).checks}
    assert found["replay"] is Status.FAIL
