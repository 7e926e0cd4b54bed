"""What the documents promise exists: files, links, commands, keys."""

import re
from pathlib import Path

import pytest
import yaml

from qmml_md.cli import main
from qmml_md.config import Config
from qmml_md.config_file import load_config

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
EXAMPLES = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir() and not p.name.startswith((".", "_")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http", "mailto"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_readme_has_the_two_commands_and_they_name_what_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install . && qmml run examples/nma_in_water/config.yaml" in text
    assert "pip install '.[test]' && pytest" in text
    assert (ROOT / "examples" / "nma_in_water" / "config.yaml").exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_a_document_names_exists(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = set(re.findall(r"(?:^|[`$ ])qmml ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    unknown = [command for command in sorted(named) if main([command, "--help"]) != 0]
    capsys.readouterr()
    assert unknown == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_key_that_a_document_names_exists(document: Path) -> None:
    keys = {f"{s}.{k}" for s, info in Config.model_fields.items() for k in getattr(info.annotation, "model_fields", ())}
    sections = "|".join(s for s in Config.model_fields if s != "title")
    named = re.findall(rf"`((?:{sections})\.[a-z]\w*)(?:: [^`]*)?`", document.read_text(encoding="utf-8"))
    suffixes = ("py", "md", "json", "xml")
    assert {name for name in named if name.rsplit(".", 1)[1] not in suffixes} - keys == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_every_example_is_valid_and_explained(example: Path) -> None:
    config = load_config(example / "config.yaml")
    assert (example / config.system.structure).exists()
    assert (example / "README.md").exists()


def test_citation_file_is_yaml_with_every_work() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    dois = {reference.get("doi") for reference in citation["references"]}
    assert {"10.1039/C6SC05720A", "10.1063/1.5023802", "10.1021/acs.jcim.0c00451", "10.1063/5.0006074"} <= dois
    assert citation["references"][0]["start"] == 241740


def test_a_broken_promise_would_be_seen(tmp_path: Path) -> None:
    """The patterns do find what they look for."""
    text = "See [this](missing.md) and run `qmml frobnicate`, after setting `region.no_such_key`."
    assert re.findall(r"\]\(([^)#]+)", text) == ["missing.md"]
    assert re.findall(r"(?:^|[`$ ])qmml ([a-z]+)", text) == ["frobnicate"]
    assert main(["frobnicate", "--help"]) != 0
