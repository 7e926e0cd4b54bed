"""Template, schema and reference are made from the models, so they cannot say anything else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qmml_md import template
from qmml_md.config import Config
from qmml_md.config_file import parse_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", template.KINDS)
def test_template_loads_to_the_defaults(kind: str) -> None:
    assert parse_config(template.template(kind)) == Config(system={"structure": template.STRUCTURE})


def test_full_template_has_every_key_and_its_description() -> None:
    text = template.template("full")
    for _, section in template.sections():
        for key, info in section.model_fields.items():
            assert f"  {key}: " in text
            assert f"  # {info.description}" in text


def test_unknown_template_is_refused() -> None:
    with pytest.raises(ValueError, match="minimal and full"):
        template.template("medium")


def test_schema_knows_every_section_and_refuses_other_keys() -> None:
    schema = json.loads(template.json_schema())
    assert set(schema["properties"]) == set(Config.model_fields)
    assert all(part["additionalProperties"] is False for part in schema["$defs"].values())


def test_committed_reference_is_up_to_date() -> None:
    """`python -m qmml_md.template --docs > docs/config.md` mends it."""
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == template.markdown()


def test_reference_states_ranges_defaults_and_units() -> None:
    text = template.markdown()
    assert "| `timestep_fs` | number > 0 and ≤ 2 | `0.5` | Time step, in fs. |" in text
    assert "| `structure` | path | required |" in text
    assert "| `charge` | whole number or `null` | `null` |" in text


def test_module_prints_the_reference() -> None:
    command = [sys.executable, "-m", "qmml_md.template", "--docs"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT.parent, timeout=60, check=True)
    assert result.stdout == template.markdown()
