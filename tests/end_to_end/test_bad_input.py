"""Bad input: one screen with cause and cure, no traceback, nothing half-written."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from qmml_md.cli import main
from qmml_md.config import Config
from qmml_md.engine.loop import resume, start
from qmml_md.engine.progress import Silent
from qmml_md.errors import RunDirectoryError
from qmml_md.records.run_directory import RunDirectory, read_trajectory

ROOT = Path(__file__).resolve().parents[2]
ETHANOL = ROOT / "examples" / "ethanol_nve" / "ethanol.pdb"
NMA = ROOT / "examples" / "nma_in_water" / "nma_in_water.pdb"
MINI = ROOT / "tests" / "data" / "ani_mini.safetensors"

Plain = dict[str, dict[str, object]]


def plain(structure: Path = ETHANOL) -> Plain:
    """A configuration that would run."""
    return {
        "system": {"structure": str(structure)},
        "ensemble": {"weights": str(MINI), "threads": 1, "platform": "Reference"},
        "dynamics": {"integrator": "verlet", "steps": 20, "minimise": False},
        "reference": {"method": "hf", "basis": "sto-3g", "max_labels": 0},
        "output": {"frame_every_steps": 5, "commit_every_steps": 10},
    }


def edited(folder: Path, source: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """A copy of a PDB file with its lines changed."""
    path = folder / "edited.pdb"
    path.write_text("\n".join(change(source.read_text().splitlines())) + "\n")
    return path


def is_atom(line: str) -> bool:
    return line.startswith(("ATOM", "HETATM"))


def moved(lines: list[str], which: int, x: str, y: str, z: str) -> list[str]:
    """One atom at other coordinates."""
    seen = -1
    out = []
    for line in lines:
        seen += is_atom(line)
        here = is_atom(line) and seen == which
        out.append(f"{line[:30]}{x:>8}{y:>8}{z:>8}{line[54:]}" if here else line)
    return out


def chlorine(folder: Path) -> Plain:
    def change(lines: list[str]) -> list[str]:
        first = next(i for i, line in enumerate(lines) if is_atom(line) and line[76:78].strip() == "O")
        lines[first] = f"{lines[first][:12]} CL1{lines[first][16:76]}CL{lines[first][78:]}"
        return lines

    return plain(edited(folder, ETHANOL, change))


def small_box(folder: Path) -> Plain:
    cell = "CRYST1    8.000    8.000    8.000  90.00  90.00  90.00 P 1           1"
    return plain(edited(folder, ETHANOL, lambda lines: [cell, *(x for x in lines if not x.startswith("CRYST1"))]))


def no_hydrogens(folder: Path) -> Plain:
    def change(lines: list[str]) -> list[str]:
        return [x for x in lines if not (is_atom(x) and x[76:78].strip() == "H") and not x.startswith("CONECT")]

    return plain(edited(folder, ETHANOL, change))


def far_atom(folder: Path) -> Plain:
    return plain(edited(folder, ETHANOL, lambda lines: moved(lines, 8, "9.000", "9.000", "9.000")))


def not_a_number(folder: Path) -> Plain:
    return plain(edited(folder, ETHANOL, lambda lines: moved(lines, 2, "nan", "nan", "nan")))


def overlapping(folder: Path) -> Plain:
    def change(lines: list[str]) -> list[str]:
        first = next(x for x in lines if is_atom(x))
        return moved(lines, 1, first[30:38].strip(), first[38:46].strip(), first[46:54].strip())

    return plain(edited(folder, ETHANOL, change))


def odd_electrons(folder: Path) -> Plain:
    config = plain()
    config["system"]["formal_charges"] = {residue_of(ETHANOL): 1}
    return config


def residue_of(path: Path) -> str:
    return next(line[17:20].strip() for line in path.read_text().splitlines() if is_atom(line))


def misspelt(folder: Path) -> Plain:
    config = plain()
    config["dynamics"]["timestep"] = 0.5
    return config


def no_file(folder: Path) -> Plain:
    return plain(folder / "missing.pdb")


def large_molecule(folder: Path) -> Plain:
    config = plain()
    # Ethanol may be cut between its carbons, but not into less than a methyl group and a link atom.
    config["region"] = {"max_qm_atoms": 4}
    return config


def unknown_method(folder: Path) -> Plain:
    config = plain()
    config["reference"]["method"] = "wb97xx"
    return config


def endless_configuration(folder: Path) -> Plain:
    config = plain()
    config["title"] = ["x"] * 5000
    return config


def unwritable_title(folder: Path) -> Plain:
    config = plain()
    config["title"] = "a\0b"
    return config


def no_volume(folder: Path) -> Plain:
    cell = "CRYST1   30.000   30.000    0.010  90.00  90.00  90.00 P 1           1"
    return plain(edited(folder, ETHANOL, lambda lines: [cell, *(x for x in lines if not x.startswith("CRYST1"))]))


def one_place(folder: Path) -> Plain:
    # All pairs of 3000 atoms at one place would fill 100 MB, those of 100 000 the machine.
    path = folder / "edited.xyz"
    path.write_text("\n".join(["3000", "", *["H 0 0 0"] * 3000, ""]))
    return plain(path)


def wide_positions(folder: Path) -> Plain:
    path = folder / "edited.xyz"
    path.write_text("1\nProperties=species:S:1:pos:R:300000\nH 0 0 0\n")
    return plain(path)


def many_digits(folder: Path) -> Plain:
    path = folder / "edited.xyz"
    path.write_text("9" * 5000 + "\n\nH 0 0 0\n")
    return plain(path)


def deep_selection(folder: Path) -> Plain:
    config = plain()
    config["region"] = {"seed": "(" * 900 + "all" + ")" * 900}
    return config


def charge_beyond_protons(folder: Path) -> Plain:
    config = plain()
    config["reference"]["charge"] = 60
    return config


def spin_that_no_molecule_has(folder: Path) -> Plain:
    config = plain()
    config["reference"]["multiplicity"] = 2
    return config


def blank_basis(folder: Path) -> Plain:
    config = plain()
    config["reference"]["basis"] = ""
    return config


CASES = {
    charge_beyond_protons: r"reference\.charge is \+60",
    spin_that_no_molecule_has: r"reference\.multiplicity 2 fits no molecule",
    blank_basis: r"reference\.basis",
    endless_configuration: r"more than 4000 keys",
    unwritable_title: r"title: holds the character",
    no_volume: r"edited\.pdb: no box has edges",
    one_place: r"edited\.xyz: more than 400 atoms lie within",
    wide_positions: r"edited\.xyz.*3 for `pos`",
    many_digits: r"edited\.xyz.*number of atoms",
    deep_selection: r"region\.seed",
    chlorine: r"Cl.*(weights|elements)",
    small_box: r"(?i)box|cell",
    no_hydrogens: r"(?i)hydrogen|bond",
    far_atom: r"(?i)bond",
    not_a_number: r"(?i)coordinate|position|number|finite",
    overlapping: r"(?i)overlap|apart|same place|closer",
    odd_electrons: r"(?i)odd number",
    misspelt: r"timestep_fs",
    no_file: r"missing\.pdb",
    large_molecule: r"max_qm_atoms",
    unknown_method: r"wb97xx",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input_is_one_screen(case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(case(tmp_path)))
    before = {path.name for path in tmp_path.iterdir()}
    code = main(["run", str(config), "--out", str(tmp_path / "run")])
    text = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in text
    assert "Cure:" in text
    assert len(text.splitlines()) < 24
    joined = " ".join(text.split())
    assert re.search(CASES[case], joined), joined
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_long_list_of_mistakes_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(plain()) + "".join(f"k{k}: 1\n" for k in range(1000)))
    assert main(["validate", str(config)]) == 2
    text = capsys.readouterr().err
    assert "1000 mistakes" in text
    assert "and 960 more" in text


def test_a_pipe_is_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    assert main(["validate", str(tmp_path / "config.yaml")]) == 2
    assert "it is no file" in capsys.readouterr().err


def test_units_and_spacing_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.xyz"
    path.write_text("1\n\nH 0 0 0\n")
    before = ["audit", "--trajectory", str(path), "--weights", str(MINI)]
    for options, named in ((["--unit", "forces=parsec"], "parsec"), (["--spacing-fs", "nan"], "spacing")):
        assert main([*before, *options]) == 2
        assert named in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["t.xyz"]


def test_good_input_runs(tmp_path: Path) -> None:
    # The twin of every case above: what they change, unchanged, is accepted.
    run = start(Config.model_validate(plain()), config_dir=tmp_path, out=tmp_path / "run", progress=Silent())
    assert len(read_trajectory(run).frames) == 5


def test_existing_run_directory_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(plain()))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("keep")
    assert main(["run", str(config), "--out", str(tmp_path / "run")]) == 2
    assert "not empty" in " ".join(capsys.readouterr().err.split())
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious.txt"]


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from qmml_md.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_loses_nothing_committed(tmp_path: Path) -> None:
    # A real write failure: no file may grow beyond a limit that the first segments respect and a later one does not.
    config = plain()
    config["dynamics"]["steps"] = 400
    config["output"] = {"frame_every_steps": 1, "commit_every_steps": 20}
    config["dynamics"]["equilibration_steps"] = 0
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    out = tmp_path / "run"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    whole = start(Config.model_validate(config), config_dir=tmp_path, out=tmp_path / "whole", progress=Silent())
    # The weights (164 kB) fit; the write-ahead log of run.db passes this size after some of the 20 commits.
    limit = 300_000
    command = [sys.executable, "-P", "-c", LIMITED.format(limit=limit), "run", str(path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 0:
        pytest.fail("the limit was never met: the test must be given a smaller one")
    assert done.returncode == 75, done.stderr
    assert "Traceback" not in done.stderr
    assert "Cure:" in done.stderr
    resume(out, progress=Silent())
    a, b = read_trajectory(RunDirectory(out)).frames, read_trajectory(whole).frames
    assert a.positions.tobytes() == b.positions.tobytes()


def test_resume_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="does not exist"):
        resume(tmp_path, progress=Silent())
