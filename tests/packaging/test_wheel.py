"""The wheel holds the whole package under one name, and nothing else."""

import email
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def read(wheel: Path, suffix: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(suffix)]
        return archive.read(name).decode()


def test_every_module_is_in_the_wheel(names: set[str], root: Path) -> None:
    expected = {str(p.relative_to(root)) for p in (root / "qmml_md").rglob("*.py")}
    for folder in ("integrators", "analysis"):
        expected |= {f"qmml_md/{p.relative_to(root)}" for p in (root / folder).rglob("*.py")}
    assert {n for n in names if n.endswith(".py")} == expected


def test_data_files_are_in_the_wheel(names: set[str]) -> None:
    assert {"qmml_md/py.typed", "qmml_md/analysis/report/report.html.j2"} <= names
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"qmml_md"}
    assert not [n for n in names if "test" in Path(n).parts[-1] or n.endswith((".pyc", ".pkl", ".pt"))]


def test_entry_point_and_metadata(wheel: Path, root: Path) -> None:
    parser = ConfigParser()
    parser.read_string(read(wheel, ".dist-info/entry_points.txt"))
    assert dict(parser["console_scripts"]) == {"qmml": "qmml_md.cli:main"}
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    metadata = email.message_from_string(read(wheel, ".dist-info/METADATA"))
    assert metadata["Version"] == declared["version"]
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra")) == {"test", "dev", "cuda"}
    required = " ".join(metadata.get_all("Requires-Dist"))
    assert "torch<2.10,>=2.9" in required
    assert "openmmtorch==1.5" in required


def test_version_stands_once(root: Path) -> None:
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert f'__version__ = "{declared}"' in (root / "qmml_md" / "__init__.py").read_text()


def test_bare_folders_refuse_to_be_imported(root: Path, tmp_path: Path) -> None:
    """On PyPI `integrators` and `analysis` are other people's: ours must never answer to those names."""
    for folder in ("integrators", "analysis"):
        shutil.copytree(root / folder, tmp_path / folder)
        command = [sys.executable, "-c", f"import {folder}"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.returncode != 0
        assert f"qmml_md.{folder}" in result.stderr
