"""The doctor finds nothing wrong where all is well, and names each thing that is made wrong, with its cure."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from qmml_md import doctor
from qmml_md.doctor import Check, compare


def test_this_installation_is_healthy() -> None:
    """The tests run where qmml-md is installed: whatever fails here is a defect of the doctor or of the machine."""
    console = Console(file=io.StringIO(), width=200)
    assert doctor.show_diagnosis(console) == 0
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for name in (
        "python",
        "torch",
        "openmmtorch",
        "TorchForce",
        "OpenMM platforms",
        "GPU",
        "weights",
        "PySCF",
        "MDTraj",
        "disk",
    ):
        assert name in text
    assert "ready to run" in text


def test_every_requirement_is_compared_with_its_declared_bounds() -> None:
    checks = {check.name: check for check in doctor.check_packages()}
    assert "2.10" in checks["torch"].detail
    assert "==1.5" in checks["openmmtorch"].detail
    assert "pytest" not in checks  # an extra, not needed for a run
    assert {check.status for check in checks.values()} == {"ok"}


@pytest.mark.parametrize(
    ("found", "bounds", "status"),
    [
        ("2.9.1+cu128", ">=2.9,<2.10", "ok"),
        ("2.9.1+cpu", ">=2.9,<2.10", "ok"),  # the probe, not the number, tells the builds apart
        ("2.8.0", ">=2.9,<2.10", "fail"),
        ("2.10.0", ">=2.9,<2.10", "fail"),
        ("1.5", "==1.5", "ok"),
        ("1.6", "==1.5", "fail"),
        ("3.0.0rc1", ">=2", "ok"),
        ("1.0", "", "ok"),
    ],
)
def test_versions_against_bounds(found: str, bounds: str, status: str) -> None:
    check = compare("x", found, bounds, "install x")
    assert check.status == status
    assert check.cure == ("install x" if status == "fail" else "")


def test_missing_distribution_is_a_failure_with_a_cure() -> None:
    (check,) = doctor.check_packages("no-such-distribution-of-anybody")
    assert check.status == "fail"
    assert "pip install" in check.cure


def test_torch_force_is_proved_by_energy_and_force() -> None:
    check = doctor.check_torch_force()
    assert check.status == "ok"
    assert "torch 2.9" in check.detail


@pytest.mark.parametrize(
    ("old", "new", "needle"),
    [
        ("import openmm, openmmtorch", "import openmm, openmmtorch_missing as openmmtorch", "openmmtorch_missing"),
        ("positions**2", "3 * positions", "x**2 at 0.25"),
        ("import sys\n", "import os\nos.abort()\n", "died with code -6"),
    ],
)
def test_sabotaged_torch_force_is_reported_with_the_cure(
    old: str, new: str, needle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that does not load, a force that is wrong, and an interpreter that dies."""
    assert old in doctor.PROBE_TORCH
    monkeypatch.setattr(doctor, "PROBE_TORCH", doctor.PROBE_TORCH.replace(old, new))
    check = doctor.check_torch_force()
    assert check.status == "fail"
    assert needle in check.detail
    assert "torch>=2.9,<2.10" in check.cure


def test_wrong_energy_of_pyscf_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_pyscf().status == "ok"
    monkeypatch.setattr(doctor, "H2_HARTREE", doctor.H2_HARTREE + 2 * doctor.H2_TOLERANCE_HARTREE)
    assert doctor.check_pyscf().status == "fail"


def test_empty_cache_is_a_warning_that_says_how_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QMML_CACHE", str(tmp_path))
    check = doctor.check_weights()
    assert check.status == "warn"
    assert "qmml weights fetch ani1x" in check.cure


def test_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path).status in ("ok", "warn")
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize / 1e9
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", 2 * free + 1)
    check = doctor.check_disk(tmp_path)
    assert check.status == "warn"
    assert "--out" in check.cure


def test_a_check_that_breaks_is_a_failure_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise RuntimeError("library is broken\nsecond line")

    monkeypatch.setattr(doctor, "check_mdtraj", broken)
    monkeypatch.setattr(doctor, "check_torch_force", lambda: Check(name="TorchForce", status="ok", detail="fine"))
    console = Console(file=io.StringIO(), width=200)
    assert doctor.show_diagnosis(console) == 1
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "RuntimeError: library is broken" in text
    assert "1 of" in text
    assert "checks failed: MDTraj" in text
    assert "GB free" in text
