"""A small learning run in a fraction of the time of a real one: tiny ensemble, Hartree-Fock in a minimal basis."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from qmml_md.config import Config
from qmml_md.engine.progress import Silent, Status
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]


def configuration(**changes: dict) -> Config:
    """Ethanol on the tiny ensemble, one label of Hartree-Fock in a minimal basis, one thread."""
    plain = {
        "system": {"structure": str(ROOT / "examples" / "ethanol_nve" / "ethanol.pdb")},
        "ensemble": {
            "weights": str(ROOT / "tests" / "data" / "ani_mini.safetensors"),
            "threads": 1,
            "platform": "Reference",
        },
        "dynamics": {"integrator": "langevin", "timestep_fs": 0.25, "steps": 60, "equilibration_steps": 20},
        "region": {"check_every_steps": 20, "enter_eV_per_A": 0.02, "stay_eV_per_A": 0.01},
        "reference": {"method": "hf", "basis": "sto-3g", "density_fit": False, "max_labels": 1},
        # A random network cannot reach ANI's tolerance on another level of theory; these let it learn something.
        "learning": {
            "max_epochs": 200,
            "learning_rate": 3e-3,
            "force_rmse_eV_per_A": 0.3,
            "force_maxresid_eV_per_A": 2.0,
            "max_anchor_shift_eV_per_A": 5.0,
            "anchor_weight": 0.01,
            "energy_weight": 0.01,
        },
        "output": {"frame_every_steps": 5, "commit_every_steps": 20},
    }
    for section, values in changes.items():
        plain[section] = {**plain[section], **values}
    return Config.model_validate(plain)


class StopAt(Silent):
    """Sends a signal to its own process when a step is reached."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number, self.sent = step, number, False

    def status(self, status: Status) -> None:
        if status.stage == "md" and status.step >= self.step and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


def everything(run: RunDirectory) -> dict[str, object]:
    """What two equal runs have in common."""
    database = run.open_database()
    try:
        frames = read_trajectory(run).frames
        return {
            "positions": frames.positions.tobytes(),
            "velocities": frames.velocities.tobytes(),
            "forces": frames.forces_used.tobytes(),
            "conserved": frames.conserved.tobytes(),
            "steps": frames.step.tolist(),
            "blend": frames.blend.tolist(),
            "boxes": frames.box.tobytes(),
            "ledger": [(e.step, str(e.account), e.before, e.after) for e in database.entries()],
            "voided": [(e.step, str(e.account), e.before, e.after) for e in database.entries(void=True)],
            "models": [(m.id, m.step) for m in database.models()],
            "labels": [x.key for x in database.labels()],
            "regions": [(r.epoch, r.step, r.atoms) for r in database.regions()],
        }
    finally:
        database.close()


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """What the tests of small runs share: ``configuration``, ``everything``, ``StopAt``."""
    return SimpleNamespace(configuration=configuration, everything=everything, StopAt=StopAt)


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell of every step, so that a signal arrives at the step that the test names."""
    monkeypatch.setattr("qmml_md.engine.teller.TELL_EVERY_S", 0.0)
