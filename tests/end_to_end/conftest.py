"""A small learning run in a fraction of the time of a real one: tiny ensemble, Hartree-Fock in a minimal basis."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qmml_md.config import Config
from qmml_md.engine.progress import Silent, Status
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]
#: Events that say how a run learns and looks; none of them depends on who watched or interrupted it.
RHYTHM = ("calibration", "interval", "sleep", "wake", "trust_window", "rewind")


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
        # One label at each look, and looks at an even pace, unless a test asks for more.
        "region": {
            "check_every_steps": 20,
            "enter_eV_per_A": 0.02,
            "stay_eV_per_A": 0.01,
            "labels_per_trigger": 1,
            "adapt_interval": False,
        },
        # A process for labels starts in seconds; the tests of it ask for one.
        "reference": {"method": "hf", "basis": "sto-3g", "density_fit": False, "max_labels": 1, "isolate": False},
        # A random network cannot reach ANI's tolerance on another level of theory; these let it learn something.
        "learning": {
            "max_epochs": 200,
            "learning_rate": 3e-3,
            "force_rmse_eV_per_A": 0.3,
            "force_maxresid_eV_per_A": 2.0,
            "max_anchor_shift_eV_per_A": 5.0,
            "anchor_weight": 0.01,
            "energy_weight": 0.01,
            "bootstrap": False,
            "require_tolerance": True,
            # A random network has nothing to forget and no repulsive wall, and moves far to learn anything.
            "keep_known": False,
            "max_worsening": 100.0,
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
            "scores": [(x.step, {k: v for k, v in x.data.items() if k != "wall_time_s"}) for x in database.labels()],
            "rhythm": [(e.step, e.kind, e.data) for e in database.events() if e.kind in RHYTHM],
            "regions": [(r.epoch, r.step, r.atoms) for r in database.regions()],
        }
    finally:
        database.close()


def looks(run: RunDirectory) -> list[int]:
    """Steps at which the run looked: those of the frames that have a disagreement."""
    frames = read_trajectory(run).frames
    return frames.step[np.isfinite(frames.disagreement).all(axis=1)].tolist()


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """What the tests of small runs share: ``configuration``, ``everything``, ``StopAt``, ``looks``."""
    return SimpleNamespace(configuration=configuration, everything=everything, StopAt=StopAt, looks=looks)


@pytest.fixture(scope="session")
def two_waters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two water molecules 6 Å apart, in vacuum: labels of one of them take a tenth of a second."""
    path = tmp_path_factory.mktemp("waters") / "waters.xyz"
    one = [("O", 0.0, 0.0, 0.0), ("H", 0.957, 0.0, 0.0), ("H", -0.24, 0.927, 0.0)]
    atoms = [f"{name} {x + away} {y} {z}" for away in (0.0, 6.0) for name, x, y, z in one]
    path.write_text("\n".join(["6", 'Properties=species:S:1:pos:R:3 pbc="F F F"', *atoms, ""]))
    return str(path)


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell of every step, so that a signal arrives at the step that the test names."""
    monkeypatch.setattr("qmml_md.engine.teller.TELL_EVERY_S", 0.0)
