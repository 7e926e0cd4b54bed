"""Benchmarks run in their quick form and write figures in the one form."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def quick(name: str, folder: Path, timeout_s: float = 900) -> dict:
    """What a benchmark writes in its quick form."""
    out = folder / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def by_id(document: dict) -> dict[str, dict]:
    """Its figures."""
    return {figure["id"]: figure for figure in document["figures"]}


def test_main_job_quick(tmp_path: Path) -> None:
    document = quick("main_job", tmp_path, 600)
    assert set(document) == {"figures", "machine", "versions"}
    figures = by_id(document)
    assert set(figures["M1"]) == {"id", "what", "value", "unit", "goal", "met"}
    assert figures["M2"]["value"] == 2
    assert figures["M7"]["met"] is True
    parts = {name: f["value"] for name, f in figures.items() if name.startswith("W-")}
    assert set(parts) >= {"W-md", "W-disagreement", "W-qm", "W-training", "W-swap", "W-io", "W-audit"}
    assert all(parts[name] > 0 for name in ("W-md", "W-disagreement", "W-qm", "W-training", "W-io", "W-audit"))


def test_books_quick(tmp_path: Path) -> None:
    figures = by_id(quick("books", tmp_path))
    assert {name.partition(".")[0] for name in figures} == {"B1", "B3", "B4", "B5", "B6", "B7", "B8"}
    # What does not depend on how long one looks must hold in the quick form too.
    for name in (
        "B4.verlet.event", "B4.verlet.identity", "B4.verlet.unbooked", "B5.max_rel", "B5.loop", "B5.sabotage",
        "B6.energy_double", "B6.force_median_rel_double", "B6.attributed", "B6.failed", "B7.caught", "B7.cause",
        "B7.false_alarms",
    ):  # fmt: skip
        assert figures[name]["met"] is True, figures[name]


def test_learning_quick(tmp_path: Path) -> None:
    figures = by_id(quick("learning", tmp_path))
    assert {name.partition(".")[0] for name in figures} == {f"L{k}" for k in range(1, 9)}
    # What needs few labels is the same in the quick form.
    # 0.0509 eV/Å untrained; half a step on one label leaves 0.81 of it.
    assert figures["L1.16-30"]["value"] < 0.9 * 0.0509, figures["L1.16-30"]
    assert figures["L1.after-150"]["met"] is True, figures["L1.after-150"]
    # 0.0656 eV/Å untrained; plain training to tolerance on one label more than doubles the error.
    assert figures["L3.5"]["value"] < 0.0656, figures["L3.5"]
    assert 0.5 < figures["L7.ethanol.coverage"]["value"] <= 1.0


def test_regions_quick(tmp_path: Path) -> None:
    figures = by_id(quick("regions", tmp_path))
    assert {name.partition(".")[0] for name in figures} == {f"R{k}" for k in range(1, 7)}
    # What does not depend on how many are looked at must hold in the quick form too.
    for name in ("cut", "valence", "charge", "electrons", "clash", "size", "same"):
        assert figures[f"R1.{name}"]["met"] is True, figures[f"R1.{name}"]
    assert figures["R1.linked"]["value"] > 0.0
    assert figures["R2.converged"]["met"] is True, figures["R2.converged"]


def test_faults_quick(tmp_path: Path) -> None:
    figures = by_id(quick("faults", tmp_path))
    assert {name.partition(".")[0] for name in figures} == {f"F{k}" for k in range(1, 9)}
    # What is counted per fault must hold however few there are.
    for name in (
        "F1.resumed", "F1.corrupt", "F1.paid_twice", "F1.lost", "F1.orphans", "F1.sabotage", "F2.equal", "F3.named",
        "F3.whole", "F3.equal", "F3.flips_found", "F4.silent", "F4.hangs", "F4.ledger", "F5.tracebacks", "F5.partial",
        "F6.executed", "F8.CPU.pythonforce.resumed", "F8.CPU.pythonforce.equal",
    ):  # fmt: skip
        assert figures[name]["met"] is True, figures[name]
    assert figures["F1.points"]["value"] >= 20
    assert figures["F3.injected"]["value"] >= 12
    assert figures["F7.updates"]["value"] >= 1
    assert figures["F8.CPU.pythonforce.deterministic"]["value"] == 1.0
