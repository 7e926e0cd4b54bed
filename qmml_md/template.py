"""Template, JSON schema and reference of the configuration, all made from the pydantic models.

``python -m qmml_md.template --docs`` prints the reference that stands in ``docs/config.md``.
"""

import json
import sys
from typing import Any

import yaml
from pydantic import BaseModel

from .config import Config

STRUCTURE = "structure.pdb"

#: What most users set; everything else has a default that stands in the full template.
MINIMAL = {
    "system": ("structure",),
    "dynamics": ("integrator", "timestep_fs", "steps", "temperature_K"),
    "region": ("check_every_steps", "enter_eV_per_A", "stay_eV_per_A", "max_qm_atoms"),
    "reference": ("max_labels",),
}
KINDS = ("minimal", "full")


def template(kind: str = "full") -> str:
    """A configuration with a comment for every key, which loads as it stands.

    Args:
        kind: `minimal` (the keys that most users set) or `full` (every key with its default).

    Raises:
        ValueError: there is no such template.
    """
    if kind not in KINDS:
        raise ValueError(f"no template {kind!r}; there are {' and '.join(KINDS)}")
    lines = [
        "# Configuration of qmml-md. Units stand in the key names; unknown keys are refused.",
        "# `qmml validate` checks this file, `qmml validate --dry-run` also its structure and the cost of a label.",
    ]
    for name, section in sections():
        keys = [k for k in section.model_fields if kind == "full" or k in MINIMAL.get(name, ())]
        if not keys:
            continue
        lines += ["", f"# {section.__doc__}", f"{name}:"]
        for key in keys:
            lines += [f"  # {line}" for line in _comment(section, key)]
            lines.append(f"  {key}: {_yaml(_default(section, key))}")
    if kind == "full":
        lines[2:2] = ["", f"# {Config.model_fields['title'].description}", 'title: ""']
    return "\n".join(lines) + "\n"


def json_schema() -> str:
    """JSON schema of the configuration, for editors that check YAML while it is written."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def markdown() -> str:
    """The configuration reference."""
    lines = [
        "# Configuration reference",
        "",
        "<!-- Made from the pydantic models by `python -m qmml_md.template --docs`; do not edit by hand. -->",
        "",
        "One YAML file. Units stand in the key names, unknown keys are refused, every mistake is named with its line.",
        "`qmml template` prints a commented file, `qmml template --schema` the JSON schema, and `qmml validate FILE`",
        "checks one. Relative paths start from the folder of the file.",
        "",
        f"`title` (text, default empty): {Config.model_fields['title'].description}",
    ]
    for name, section in sections():
        lines += ["", f"## `{name}`", "", str(section.__doc__), ""]
        lines += ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
        for key, info in section.model_fields.items():
            default = "required" if info.is_required() else f"`{_yaml(_default(section, key))}`"
            values = _values(_schema(section, key)).replace("|", "\\|")
            lines.append(f"| `{key}` | {values} | {default} | {info.description} |")
    return "\n".join(lines) + "\n"


def sections() -> list[tuple[str, type[BaseModel]]]:
    """Name and model of every section, in the order of the file."""
    models = ((name, info.annotation) for name, info in Config.model_fields.items())
    return [(name, model) for name, model in models if isinstance(model, type) and issubclass(model, BaseModel)]


def _comment(section: type[BaseModel], key: str) -> list[str]:
    return [str(section.model_fields[key].description), f"Values: {_values(_schema(section, key))}."]


def _default(section: type[BaseModel], key: str) -> Any:
    info = section.model_fields[key]
    return STRUCTURE if info.is_required() else info.get_default(call_default_factory=True)


def _schema(section: type[BaseModel], key: str) -> dict[str, Any]:
    schema: dict[str, Any] = section.model_json_schema()["properties"][key]
    return schema


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _values(schema: dict[str, Any]) -> str:
    """Type and range of a key in words."""
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "object":
        return f"names with {_values(schema['additionalProperties'])}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "null": "`null`"}
    bounds = [
        f"{sign} {_number(schema[bound])}"
        for bound, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
        if bound in schema
    ]
    kind = "path" if schema.get("format") == "path" else words.get(schema["type"], "text")
    return " ".join([kind, " and ".join(bounds)]).strip()


if __name__ == "__main__":
    if sys.argv[1:] != ["--docs"]:
        raise SystemExit("usage: python -m qmml_md.template --docs")
    sys.stdout.write(markdown())
