"""The command line: what it says, what it returns, and that a mistake never leaves a trace or a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qmml_md import __version__
from qmml_md.cli import main
from qmml_md.commands.runs import default_out
from qmml_md.config import Config
from qmml_md.config_file import dump_config, parse_config
from qmml_md.records.books import Account, Entry
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.rows import CheckpointRow, Event, LabelRow, ModelRow, RegionRow, SegmentRow
from qmml_md.records.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "tests" / "data" / "ani_mini.safetensors"
ETHANOL = ROOT / "examples" / "ethanol_nve" / "ethanol.pdb"
NMA = ROOT / "examples" / "nma_in_water" / "nma_in_water.pdb"

ENTRY = "import sys; from qmml_md.cli import main; sys.exit(main())"
COMMANDS = ("run", "resume", "status", "audit", "report", "export", "validate", "template", "doctor", "weights")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as they like, so that no path is folded."""
    monkeypatch.setenv("COLUMNS", "240")


def write(folder: Path, structure: Path, extra: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(f"system: {{structure: {structure}}}\nensemble: {{weights: {MINI}}}\n{extra}")
    return path


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"qmml {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qmml-md {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["frob"], ["run"], ["run", "a", "b"], ["template", "medium"], ["audit", "--x"]]
)
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_template_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["template"], ["template", "minimal"]):
        assert main(arguments) == 0
        assert parse_config(capsys.readouterr().out).system.structure == Path("structure.pdb")
    assert main(["template", "--schema"]) == 0
    assert "dynamics" in json.loads(capsys.readouterr().out)["properties"]


def test_validate_names_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ETHANOL, "dynamics: {timestep: 1, steps: -5}\n")
    assert main(["validate", str(path)]) == 2
    text = capsys.readouterr().err
    assert "line 3, dynamics.timestep: unknown key; did you mean `timestep_fs`?" in text
    assert "line 3, dynamics.steps: must be greater than or equal to 1, not -5" in text
    assert "Traceback" not in text


def test_validate_says_when_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(write(tmp_path, ETHANOL))]) == 0
    assert "no mistakes" in capsys.readouterr().out


def test_dry_run_counts_electrons_and_basis_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ethanol: 26 electrons; 6-31G* with Cartesian d has 15 functions on C and O, 2 on H: 3 · 15 + 6 · 2 = 57."""
    path = write(tmp_path, ETHANOL)
    assert main(["validate", str(path), "--dry-run"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "first solute molecule" in line]
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["9", "0", "1", "26", "57"]
    assert not (tmp_path / "run").exists()


def test_dry_run_fills_the_largest_cluster_with_whole_molecules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """N-methylacetamide has 12 atoms, water 3: 23 atoms hold three waters, 21 atoms in all."""
    path = write(tmp_path, NMA, "region: {max_qm_atoms: 23}\n")
    assert main(["validate", str(path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    (solute,) = [line for line in text.splitlines() if "first solute molecule" in line]
    (largest,) = [line for line in text.splitlines() if "largest cluster" in line]
    assert solute.split("│")[2].strip() == "12"
    assert [cell.strip() for cell in largest.split("│")[2:6]] == ["21", "0", "1", "70"]
    assert "651 atoms in 214 molecules, periodic" in text


def test_dry_run_costs_a_part_of_a_molecule_that_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ethanol, cut between its carbons: CH2OH, whose carbon is nearest to the middle, and a link atom."""
    assert main(["validate", str(write(tmp_path, ETHANOL, "region: {max_qm_atoms: 8}\n")), "--dry-run"]) == 0
    (part,) = [line for line in capsys.readouterr().out.splitlines() if "part of the first solute" in line]
    assert [cell.strip() for cell in part.split("│")[2:5]] == ["6", "0", "1"]


@pytest.mark.parametrize(
    ("extra", "needle"),
    [
        # CH2OH and a link atom.
        ("region: {max_qm_atoms: 5}\n", "has 6 atoms, 1 of them link atoms"),
        ("reference: {charge: 1}\n", "odd number"),
        ("reference: {multiplicity: 2}\n", "multiplicity 2"),
        ("reference: {basis: no-such-basis}\n", "no-such-basis"),
    ],
)
def test_dry_run_finds_what_a_run_would_stumble_over(
    extra: str, needle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(write(tmp_path, ETHANOL, extra)), "--dry-run"]) == 2
    text = capsys.readouterr().err
    assert needle in text
    assert "Cure:" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("command", [["validate", "--dry-run"], ["run"]])
def test_missing_structure_is_named(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, tmp_path / "missing.pdb")
    assert main([*command, str(path)]) == 2
    assert "missing.pdb" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml"]


def test_run_refuses_a_used_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ETHANOL)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("data")
    assert main(["run", str(path)]) == 2
    assert "qmml resume" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious"]


def test_run_refuses_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ETHANOL)
    assert main(["run", str(path), "--out", str(path / "run")]) == 2
    assert "--out" in capsys.readouterr().err


def test_default_run_directory_stands_beside_the_configuration(tmp_path: Path) -> None:
    assert default_out(tmp_path / "config.yaml") == tmp_path / "run"


@pytest.mark.parametrize("command", ["resume", "status", "audit", "report"])
def test_what_is_no_run_is_refused(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_damaged_database_has_a_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.db").write_bytes(b"this is no database" * 100)
    assert main(["status", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "run.db is no database" in told
    assert "restore it from a copy" in told


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", ENTRY, "status", str(tmp_path)]
    plain = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert "RunDirectoryError" in debug.stderr


def test_a_full_disk_behind_standard_output_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", ENTRY, "template"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert result.returncode == 2
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """As in `qmml template | head -1`: no complaint, whether the pipe breaks while writing or at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, "template"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=60) == 1


def test_a_defect_is_seventy_and_says_how_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Config:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("qmml_md.commands.validate.load_config", broken)
    assert main(["validate", str(write(tmp_path, ETHANOL))]) == 70
    text = capsys.readouterr().err
    assert "ZeroDivisionError" in text
    assert "--debug" in text


def test_status_shows_what_is_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.config.write_text(dump_config(Config(title="a run", system={"structure": "a.pdb"}, dynamics={"steps": 400})))
    database = RunDatabase(run.database, create=True)
    segment = SegmentRow(id=1, first_step=0, last_step=100, frames=11, model="m" * 64, file="segments/x.h5", sha256="0")
    database.commit(
        Commit(
            segment=segment,
            entries=[
                Entry(step=50, time=0.025, account=Account.MODEL, before=-1.0, after=0.25, cause="update"),
                Entry(step=60, time=0.03, account=Account.HEAT, before=0.0, after=-0.75, cause="bath"),
            ],
            events=[
                Event(step=0, time=0.0, kind="start", message="started"),
                Event(step=50, time=0.025, kind="update_accepted", message="accepted [one]"),
                Event(step=100, time=0.05, kind="stop", message="signal"),
            ],
            regions=[RegionRow(epoch=3, step=40, core=(1, 2), atoms=(0, 1, 2, 3, 4))],
            models=[ModelRow(id="m" * 64, step=0, parent="", data={})],
            labels=[LabelRow(key="k", step=50, model="m" * 64, region_epoch=3, data={})],
            timings={"md": (65.0, 100)},
            checkpoint=CheckpointRow(id=1, step=100, folder="000001", sha256="", model="m"),
        )
    )
    database.close()
    assert main(["status", str(run.root)]) == 0
    text = capsys.readouterr().out
    for part in ("a run", "stopped", "100 of 400 (0.0500 ps)", "11 frames in 1 segments", "2 core / 5 atoms, epoch 3",
                 "1 (0 failed)", "1 accepted, 0 refused", "+1.250000", "-0.750000", "+0.500000", "1 min 05 s",
                 "accepted [one]"):  # fmt: skip
        assert part in text


def test_weights_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("ani1x", "ani1ccx", "ani2x"))
    assert main(["weights", "show", str(MINI)]) == 0
    shown = capsys.readouterr().out
    assert "H C N O" in shown
    assert "SHA-256" in shown


@pytest.mark.parametrize("arguments", [["weights", "fetch", "ani9"], ["weights", "show", "ani9"]])
def test_unknown_weights_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "ani9" in capsys.readouterr().err
