"""A real run through the command line: run, audit, export, status, a signal, resume. Tiny ensemble, tiny basis."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import mdtraj
import pytest

from qmml_md.cli import main
from qmml_md.commands.runs import STOPPED
from qmml_md.commands.status import is_finished
from qmml_md.config_file import load_config
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "import sys; from qmml_md.cli import main; sys.exit(main())"

#: Labels are off where the machinery of the command line is looked at, not the learning.
CONFIG = """\
title: through the command line
system: {{structure: {structure}}}
ensemble: {{weights: {weights}, threads: 1, platform: Reference}}
dynamics: {{integrator: verlet, timestep_fs: 0.25, steps: {steps}}}
region: {{enter_eV_per_A: 0.05, stay_eV_per_A: 0.03}}
reference: {{method: hf, basis: sto-3g, max_labels: 0}}
output: {{frame_every_steps: 5, commit_every_steps: 20}}
"""


def configure(folder: Path, steps: int) -> Path:
    path = folder / "config.yaml"
    structure = ROOT / "examples" / "ethanol_nve" / "ethanol.pdb"
    weights = ROOT / "tests" / "data" / "ani_mini.safetensors"
    path.write_text(CONFIG.format(structure=structure, weights=weights, steps=steps))
    return path


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, audited run of 40 steps."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(["run", str(configure(folder, 40))]) == 0
    return folder / "run"


def test_run_leaves_a_finished_audited_run(finished: Path) -> None:
    run = RunDirectory(finished)
    assert is_finished(run)
    assert list(read_trajectory(run).frames.step) == list(range(0, 41, 5))
    assert load_config(run.config).title == "through the command line"
    assert "[finish] step 40" in run.log.read_text(encoding="utf-8")
    assert (run.audit / "report.html").stat().st_size > 10_000


def test_audit_prints_every_check_and_returns_its_verdict(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["audit", str(finished)])
    text = capsys.readouterr().out
    document = json.loads((finished / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert code == {"pass": 0, "fail": 1, "undecided": 2}[document["verdict"]]
    assert document["verdict"] in text
    for check in document["checks"]:
        assert f"{check['name']}: " in text
    assert "kT/ns/dof" in text
    assert str(finished / "audit" / "report.html") in text


def test_a_tampered_run_fails_its_audit_with_one(finished: Path, tmp_path: Path) -> None:
    """The exit code of a fail is not the exit code of an error."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    segment = max((copy / "segments").glob("*.h5"))
    with h5py.File(segment, "r+") as file:
        file["velocities"][...] *= 1.01
    assert main(["audit", str(copy)]) == 1


def test_report_and_status(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(finished)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert main(["status", str(finished)]) == 0
    text = capsys.readouterr().out
    assert "finished" in text
    assert "40 of 40 (0.0100 ps)" in text


def test_export_writes_what_other_programs_read(finished: Path, tmp_path: Path) -> None:
    for suffix in ("xtc", "pdb", "extxyz"):
        assert main(["export", str(finished), str(tmp_path / f"a.{suffix}")]) == 0
    assert mdtraj.load(str(tmp_path / "a.pdb")).n_frames == 9
    assert main(["export", str(finished), str(tmp_path / "a.xtc")]) == 2  # never overwritten
    assert main(["export", str(finished), str(tmp_path / "a.unknown")]) == 2


def test_a_finished_run_is_not_resumed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(finished)]) == 2
    assert "qmml audit" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_resume_continues(stop: signal.Signals, tmp_path: Path) -> None:
    path = configure(tmp_path, 1_000)
    process = subprocess.Popen([sys.executable, "-c", ENTRY, "run", str(path)], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "segments" / "000002.h5").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED, errors.decode()
    assert b"Traceback" not in errors
    before = read_trajectory(RunDirectory(tmp_path / "run")).frames.step
    assert before[-1] < 1_000
    assert main(["resume", str(tmp_path / "run")]) == 0
    after = read_trajectory(RunDirectory(tmp_path / "run")).frames.step
    assert list(after[: len(before)]) == list(before)
    assert (after[1:] > after[:-1]).all()
    assert is_finished(RunDirectory(tmp_path / "run"))


def test_a_run_begins_at_a_frame_of_another(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert main(["run", "--from", f"{finished}@30", "--out", str(out)]) == 0
    frames = read_trajectory(RunDirectory(out)).frames
    assert frames.step.tolist() == [0, 5, 10]
    before = read_trajectory(RunDirectory(finished)).frames
    assert (frames.positions[0] == before.positions[before.step == 30][0]).all()


def test_a_run_begins_elsewhere_with_another_configuration(finished: Path, tmp_path: Path) -> None:
    config, out = configure(tmp_path, 10), tmp_path / "again"
    assert main(["run", str(config), "--from", f"{finished}@30", "--out", str(out)]) == 0
    assert read_trajectory(RunDirectory(out)).frames.step.tolist() == [0, 5, 10]


@pytest.mark.parametrize(
    ("place", "message"),
    [("nowhere@3", "does not exist"), ("30", "not of the form RUN@STEP"), ("{run}@31", "no frame at step 31")],
)
def test_a_frame_that_does_not_exist_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, message: str
) -> None:
    assert main(["run", "--from", place.format(run=finished), "--out", str(tmp_path / "again")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_run_needs_something_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "--from RUN@STEP" in capsys.readouterr().err


def test_audit_takes_more_on_request(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(finished), "--thorough", "--timestep-scan", "--spot-checks", "2"]) in (0, 1, 2)
    document = json.loads((finished / "audit" / "audit.json").read_text())
    checks = {check["name"]: check for check in document["checks"]}
    assert {"gradient", "closed_loop", "timestep", "spot_checks"} <= set(checks)
    assert checks["gradient"]["status"] == checks["closed_loop"]["status"] == "pass"
    # Two checks give no interval, and say so.
    assert checks["spot_checks"]["status"] == "undecided"
    assert "too few" in capsys.readouterr().out
    found = {finding["name"] for finding in document["findings"]}
    assert any(name.startswith("spot_check") for name in found)


def test_audit_evaluates_forces_on_some_frames(finished: Path) -> None:
    assert main(["audit", str(finished), "--forces-every", "3"]) in (0, 1, 2)
    document = json.loads((finished / "audit" / "audit.json").read_text())
    evaluated = [row["forces_evaluated"] for row in document["frames"]]
    assert evaluated == [i % 3 == 0 for i in range(len(evaluated))]


def test_audit_of_another_programs_trajectory(finished: Path, tmp_path: Path) -> None:
    file, weights = tmp_path / "run.extxyz", ROOT / "tests" / "data" / "ani_mini.safetensors"
    assert main(["export", str(finished), str(file)]) == 0
    arguments = [
        "audit",
        "--trajectory",
        str(file),
        "--weights",
        str(weights),
        "--spacing-fs",
        "1.25",
        "--out",
        str(tmp_path),
    ]
    assert main(arguments) in (0, 1, 2)
    document = json.loads((tmp_path / "audit.json").read_text())
    assert {check["name"]: check["status"] for check in document["checks"]}["forces"] == "pass"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a run directory, or --trajectory FILE"),
        (["--trajectory", "x.h5"], "give --weights, and no RUN"),
        (["RUN", "--spot-checks", "-1"], "take positive numbers"),
        (["RUN", "--forces-every", "0"], "take positive numbers"),
    ],
)
def test_audit_that_makes_no_sense_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["audit", *(str(finished) if a == "RUN" else a for a in arguments)]) == 2
    assert message in capsys.readouterr().err
