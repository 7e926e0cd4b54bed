"""Moving the region books no energy: it is where labels are taken from, and no force depends on it.

The same run is made twice, once with a region that moves at every step and once without any. Nothing is labelled. All
that the atoms do must be equal to the bit: the region does not stand in the equations of motion at all, so there is no
tolerance to derive.
"""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.config import Config
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.engine.run import Run
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.region.policy import ThresholdPolicy

ROOT = Path(__file__).resolve().parents[2]
STEPS, FEW = 1000, 40
#: One atom of each of the two fragments of ethanol: the bond between them is cut now from one side, now from the other.
ENDS = (5, 8)


def configuration(steps: int, **region: object) -> Config:
    """Ethanol on the tiny ensemble, without a thermostat, looked at after every step."""
    return Config.model_validate(
        {
            "system": {"structure": str(ROOT / "examples" / "ethanol_nve" / "ethanol.pdb")},
            "ensemble": {
                "weights": str(ROOT / "tests" / "data" / "ani_mini.safetensors"),
                "threads": 1,
                "platform": "Reference",
            },
            "dynamics": {"integrator": "verlet", "timestep_fs": 0.25, "steps": steps, "equilibration_steps": 20},
            "region": {
                "check_every_steps": 1,
                "adapt_interval": False,
                "unit": "fragments",
                "buffer_A": 0.0,
                "max_qm_atoms": 7,
                **region,
            },
            "reference": {"method": "hf", "basis": "sto-3g", "max_labels": 0},
            "output": {"frame_every_steps": 1, "commit_every_steps": 200},
        }
    )


def carried_out(folder: Path, config: Config) -> tuple[dict[str, bytes], int, int]:
    """What the atoms did, the number of entries in the ledger, and the number of moves of the region."""
    start(config, config_dir=ROOT, out=folder, progress=Silent())
    run = RunDirectory(folder)
    database = run.open_database()
    try:
        entries, moves = len(database.entries()), len(database.regions())
        frames = read_trajectory(run).frames
    finally:
        database.close()
    names = ("step", "positions", "velocities", "forces_used", "potential_used", "kinetic", "conserved", "box")
    return {name: getattr(frames, name).tobytes() for name in names}, entries, moves


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubt that the policy is told of jumps from one end of the molecule to the other at every look."""
    look, calls = ThresholdPolicy.look, []

    def jumping(policy, disagreement, *rest, **more):
        calls.append(0)
        sigma = np.zeros_like(disagreement)
        sigma[ENDS[len(calls) % 2]] = 1e3
        return look(policy, sigma, *rest, **more)

    monkeypatch.setattr(ThresholdPolicy, "look", jumping)


@pytest.mark.slow
def test_a_region_that_moves_at_every_step_changes_no_bit_and_books_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    still, entries, moves = carried_out(tmp_path / "still", configuration(STEPS, enter_eV_per_A=1e3, stay_eV_per_A=1e3))
    assert (entries, moves) == (0, 0)
    request.getfixturevalue("restless")
    moving, entries, moves = carried_out(tmp_path / "moving", configuration(STEPS))
    assert (entries, moves) == (0, STEPS + 1)
    assert moving == still


def test_a_move_that_touches_a_velocity_is_caught(
    tmp_path: Path, restless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: each move of the region changes the velocities by one part in 10¹²."""
    sound, entries, _ = carried_out(tmp_path / "sound", configuration(FEW))
    assert entries == 0
    look = Run._look

    def pushing(run, now):
        epoch = run.state.region.epoch
        sigma = look(run, now)
        if run.state.region.epoch != epoch:
            simulation = run._parts.simulation
            simulation.set_velocities(simulation.instant().velocities * (1.0 + 1e-12))
        return sigma

    monkeypatch.setattr(Run, "_look", pushing)
    pushed, entries, moves = carried_out(tmp_path / "pushed", configuration(FEW))
    # Nothing was booked either: only the bits can tell.
    assert (entries, moves) == (0, FEW + 1)
    assert pushed["velocities"] != sound["velocities"]
    assert pushed["conserved"] != sound["conserved"]
