"""Benchmarks run in their quick form and write figures in the one form."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_main_job_quick(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "main_job.py"), "--quick", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert set(document) == {"figures", "machine", "versions"}
    figures = {figure["id"]: figure for figure in document["figures"]}
    assert set(figures["M1"]) == {"id", "what", "value", "unit", "goal", "met"}
    assert figures["M2"]["value"] == 2
    assert figures["M7"]["met"] is True
    parts = {name: f["value"] for name, f in figures.items() if name.startswith("W-")}
    assert set(parts) >= {"W-md", "W-disagreement", "W-qm", "W-training", "W-swap", "W-io", "W-audit"}
    assert all(parts[name] > 0 for name in ("W-md", "W-disagreement", "W-qm", "W-training", "W-io", "W-audit"))
