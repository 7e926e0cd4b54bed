"""``qmml check``: any flipped bit of a run at rest is found and named; and how a wall-clock limit is written."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from qmml_md.cli import main
from qmml_md.commands.runs import seconds
from qmml_md.errors import ConfigError
from qmml_md.records.run_directory import RunDirectory
from qmml_md.records.seal import read_seal, sealed_files

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
system: {{structure: {structure}}}
ensemble: {{weights: {weights}, threads: 1, platform: Reference}}
dynamics: {{integrator: verlet, timestep_fs: 0.25, steps: 20}}
region: {{enter_eV_per_A: 0.02, stay_eV_per_A: 0.01, check_every_steps: 10}}
reference: {{method: hf, basis: sto-3g, density_fit: false, max_labels: 1}}
learning: {{max_epochs: 5}}
output: {{frame_every_steps: 5, commit_every_steps: 10}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, audited run with a label."""
    folder = tmp_path_factory.mktemp("finished")
    structure, weights = (
        ROOT / place for place in ("examples/ethanol_nve/ethanol.pdb", "tests/data/ani_mini.safetensors")
    )
    (folder / "config.yaml").write_text(CONFIG.format(structure=structure, weights=weights))
    assert main(["run", str(folder / "config.yaml")]) == 0
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def files(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file() and path.name not in ("run.lock", "seal.json"))


def flip(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def test_what_is_whole_is_said_to_be(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run)]) == 0
    told = capsys.readouterr().out
    assert "everything is whole" in told
    assert "step 20" in told


def test_a_flipped_bit_of_any_file_is_found_and_named(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, names = np.random.default_rng(5), [path.relative_to(finished) for path in files(finished)]
    kinds = {name.suffix for name in names}
    assert {".h5", ".safetensors", ".db", ".yaml", ".json", ".html", ".chk", ".npy", ".log", ".pdb"} <= kinds
    for k, name in enumerate(names):
        copy = Path(shutil.copytree(finished, tmp_path / str(k)))
        flip(copy / name, rng)
        assert main(["check", str(copy)]) == 1, name
        told = capsys.readouterr().out
        assert name.name in told or "run.db" in told, (name, told)
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["config.yaml", "structure.pdb"])
def test_an_audit_refuses_another_input(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With another time step or structure it would judge another run."""
    seal = (run / "seal.json").read_bytes()
    (run / name).write_text((run / name).read_text() + "\n")
    assert main(["audit", str(run)]) == 2
    assert f"{name} is not what the run began with" in " ".join(capsys.readouterr().err.split())
    assert (run / "seal.json").read_bytes() == seal


def test_a_flipped_bit_of_the_seal_is_found(run: Path) -> None:
    flip(run / "seal.json", np.random.default_rng(6))
    assert main(["check", str(run)]) == 1


def test_a_missing_file_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "segments" / "000001.h5").unlink()
    (run / "labels.db").unlink()
    assert main(["check", str(run)]) == 1
    told = capsys.readouterr().out
    assert "segments/000001.h5 is missing" in told
    assert "labels.db is missing" in told


def test_without_a_seal_what_counts_is_still_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "seal.json").unlink()
    assert main(["check", str(run)]) == 0
    assert "ended without notice" in capsys.readouterr().out
    with sqlite3.connect(run / "run.db") as connection:
        connection.execute("UPDATE ledger SET after_kj_per_mol = after_kj_per_mol + 1e-9")
        connection.execute("UPDATE events SET message = 'all is well' WHERE id = 1")
    connection.close()
    assert main(["check", str(run)]) == 1
    assert "events: not what the last commit left" in capsys.readouterr().out


def test_a_changed_label_is_found_without_a_seal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "seal.json").unlink()
    with sqlite3.connect(run / "labels.db") as connection:
        connection.execute("UPDATE systems SET energy = energy + 1e-9")
    connection.close()
    assert main(["check", str(run)]) == 1
    assert "labels.db" in capsys.readouterr().out


def test_looking_at_a_run_leaves_its_seal(run: Path) -> None:
    for command in ("status", "check"):
        assert main([command, str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["check", str(run)]) == 0
    seal = read_seal(RunDirectory(run))
    assert seal is not None
    assert set(seal) == {name for name, _ in sealed_files(RunDirectory(run))}


def test_what_is_no_run_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "expected"),
    [("90", 90.0), ("1.5h", 5400.0), ("90m", 5400.0), ("2 d", 172800.0), ("23:50", 85800.0), ("00:10:30", 630.0),
     ("1-00:00:01", 86401.0), (None, None)],
)  # fmt: skip
def test_wall_clock_limits(written: str | None, expected: float | None) -> None:
    assert seconds(written) == expected


@pytest.mark.parametrize("written", ["", "soon", "0", "-5", "12:99:00:00", "1e3"])
def test_what_is_no_time(written: str) -> None:
    with pytest.raises(ConfigError, match="no time"):
        seconds(written)


@pytest.mark.parametrize("name", ["config.yaml", "structure.pdb", "audit/final_model.h5"])
def test_a_report_does_not_bless_damage(run: Path, name: str) -> None:
    flip(run / name, np.random.default_rng(7))
    assert main(["check", str(run)]) == 1
    main(["report", str(run)])
    assert main(["check", str(run)]) == 1


def test_a_failed_audit_leaves_the_seal(run: Path) -> None:
    before = (run / "seal.json").read_bytes()
    (run / "config.yaml").unlink()
    assert main(["audit", str(run)]) == 2
    assert (run / "seal.json").read_bytes() == before
