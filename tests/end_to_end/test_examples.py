"""The example in water at a small size: a periodic box, a cluster cut out of it, a label that cannot be learned."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from qmml_md.analysis.audit import audit
from qmml_md.config import Config
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.reference.store import LabelStore

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nma_in_water"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Twenty steps of the example. The label is of Hartree-Fock in a minimal basis: fast, and far from ANI's level."""
    plain = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    plain["dynamics"] |= {"steps": 20, "equilibration_steps": 10}
    plain["region"] |= {"check_every_steps": 10}
    plain["reference"] |= {"max_labels": 1, "method": "hf", "basis": "sto-3g"}
    # Energies of another level of theory than that of the weights may not be trained on.
    plain["learning"] = {"max_epochs": 20, "energy_weight": 0, "require_tolerance": True}
    plain["output"] = {"frame_every_steps": 5, "commit_every_steps": 10}
    out = tmp_path_factory.mktemp("nma") / "run"
    return start(Config.model_validate(plain), config_dir=EXAMPLE, out=out, progress=Silent())


def test_the_cluster_is_whole_and_within_limits(run: RunDirectory) -> None:
    (label,) = LabelStore(run.labels).all()
    assert 3 <= label.cluster.size <= 24
    distances = np.linalg.norm(label.cluster.positions[:, None] - label.cluster.positions[None], axis=2)
    nearest = (distances + 10.0 * np.eye(label.cluster.size)).min(axis=1)
    # Every atom keeps its bond: nothing is torn apart by the box.
    assert nearest.max() < 1.7
    assert distances.max() < 15.0


def test_what_cannot_be_learned_is_refused_and_said(run: RunDirectory) -> None:
    database = run.open_database()
    (refused,) = [event for event in database.events() if event.kind == "update_refused"]
    models, entries = database.models(), database.entries()
    database.close()
    assert "exceeds 0.005" in refused.message
    assert refused.data["learning_curve"][-1][0] == 20
    # A refused model moved no atom, is not kept, and costs the ledger nothing.
    assert len(models) == 1
    assert [p.stem for p in (run.root / "models").glob("*.safetensors")] == [models[0].id]
    assert {str(entry.account) for entry in entries} == {"heat"}


def test_the_audit_finds_the_record_true(run: RunDirectory) -> None:
    result = audit(run)
    status = {check.name: check.status.value for check in result.checks}
    for name in ("files", "order", "models", "kinetic", "ledger", "identity", "replay", "force_rmse"):
        assert status[name] == "pass", name
    # Twenty steps cannot decide on a drift.
    assert status["drift"] == "undecided"
    assert json.loads(result.path.read_text())["verdict"] == "undecided"
    assert len(read_trajectory(run).frames) == 5
