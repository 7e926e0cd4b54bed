"""The main job at a small size, through the command line, with real ANI-1x weights and real ωB97X labels."""

import json
import subprocess
import sys
from pathlib import Path

import ase.io
import mdtraj
import numpy as np
import pytest
import yaml

from qmml_md.ensemble import weights
from qmml_md.ensemble.model import evaluate
from qmml_md.records.books import Account, Books
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.reference.store import LabelStore

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "import sys; from qmml_md.cli import main; sys.exit(main())"


def qmml(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-P", "-c", ENTRY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The ethanol example, shortened, with thresholds that call for labels at once."""
    folder = tmp_path_factory.mktemp("ethanol")
    example = ROOT / "examples" / "ethanol_nve"
    config = yaml.safe_load((example / "config.yaml").read_text())
    config["system"]["structure"] = str(example / "ethanol.pdb")
    config["dynamics"] |= {"steps": 80, "equilibration_steps": 100}
    config["region"] |= {"check_every_steps": 40, "enter_eV_per_A": 0.05, "stay_eV_per_A": 0.02}
    config["reference"] |= {"max_labels": 2}
    # The scheme of 2018: the whole step, and nothing that misses a tolerance.
    config["learning"] = {"require_tolerance": True}
    config["output"] |= {"frame_every_steps": 5, "commit_every_steps": 40}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = qmml("run", str(folder / "config.yaml"), "--out", str(folder / "run"))
    assert done.returncode == 0, done.stderr
    return RunDirectory(folder / "run")


@pytest.fixture(scope="module")
def database(run: RunDirectory):
    """The run's database."""
    opened = run.open_database()
    yield opened
    opened.close()


def test_labels_were_computed_and_scored_before_training(run: RunDirectory, database) -> None:
    rows = database.labels()
    stored = LabelStore(run.labels)
    assert len(rows) == len(stored) == 2
    for row in rows:
        label = stored.get(row.key)
        # The prequential score is the error of the model that moved the atoms, on the isolated cluster.
        model = weights.load(str(run.model(row.model)))
        out = evaluate(model, label.cluster.numbers, label.cluster.positions * 0.1, None)
        wrong = out.forces / 964.853321233 - label.forces
        assert row.data["force_rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-5)
        assert row.data["force_rmse"] > 0.01


def test_updates_within_tolerance_moved_the_atoms(run: RunDirectory, database) -> None:
    kinds = [event.kind for event in database.events()]
    assert kinds.count("update_accepted") + kinds.count("update_refused") == 2
    models = database.models()
    assert len(models) == 1 + kinds.count("update_accepted")
    for row in models[1:]:
        assert row.data["force_rmse"] <= 0.005
        assert row.data["force_maxresid"] <= 0.05
        assert run.model(row.id).exists()
    used = set(read_trajectory(run).frames.model_id)
    assert used <= {row.id for row in models}


def test_books_hold_every_change_of_model(run: RunDirectory, database) -> None:
    entries = database.entries()
    models = database.models()
    booked = [entry for entry in entries if entry.account == Account.MODEL]
    assert [entry.amount for entry in booked] == [row.data["delta_u_kj_per_mol"] for row in models[1:]]
    frames = read_trajectory(run).frames
    for i in range(len(frames)):
        books = Books(tuple(entries[: frames.entries[i]]))
        h = books.conserved(kinetic=float(frames.kinetic[i]), potential=float(frames.potential_used[i]))
        assert abs(h - frames.conserved[i]) < 1e-9
    # Velocity Verlet at 0.5 fs on a molecule of 9 atoms: H̃ wanders by less than 1 kJ/mol; K and U by more than 10.
    assert np.ptp(frames.conserved) < 1.0
    assert np.ptp(frames.kinetic) > 5.0


def test_audit_closes_the_identity(run: RunDirectory) -> None:
    audit = json.loads((run.audit / "audit.json").read_text())
    checks = {check["name"]: check["status"] for check in audit["checks"]}
    for name in ("files", "order", "models", "kinetic", "ledger", "identity", "replay", "model_updates"):
        assert checks[name] == "pass", name
    residuals = np.array([row["identity_residual"] for row in audit["frames"]], dtype=float)
    assert np.abs(residuals).max() <= 1e-6
    assert audit["verdict"] in ("pass", "fail", "undecided")


def test_report_stands_alone(run: RunDirectory) -> None:
    page = (run.audit / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page or "data:image/png" in page
    assert "<script" not in page
    assert 'src="http' not in page


def test_segments_and_exports_open_elsewhere(run: RunDirectory, tmp_path: Path) -> None:
    segment = mdtraj.load(str(run.segment(0)))
    assert segment.n_atoms == 9
    for name in ("traj.xtc", "traj.pdb", "traj.extxyz"):
        done = qmml("export", str(run.root), str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    frames = ase.io.read(tmp_path / "traj.extxyz", ":")
    assert len(frames) == len(read_trajectory(run).frames)
    assert frames[0].get_forces().shape == (9, 3)


def test_status_and_repeated_run(run: RunDirectory) -> None:
    assert "finished" in qmml("status", str(run.root)).stdout
    again = qmml("resume", str(run.root))
    assert again.returncode == 2
    assert "is finished" in again.stderr
