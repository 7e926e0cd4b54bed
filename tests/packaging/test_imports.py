"""Imports point one way, and every heavy library has one seam."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Rooms from the foundation up; a room may import itself and those before it, as far as MAY allows.
RANK = {
    "units": 0, "errors": 0, "": 0,
    "config": 1, "config_file": 1, "template": 1,
    "records": 2,
    "system": 3,
    "ensemble": 4,
    "region": 5,
    "reference": 6,
    "learning": 7,
    "integrators": 8, "analysis": 8,
    "engine": 9,
    "console": 10, "doctor": 10, "commands": 10, "cli": 11,
}  # fmt: skip

#: Rooms that may import less than what lies below them.
MAY = {
    "integrators": {"integrators", "units", "errors", "records", ""},
    "analysis": {"analysis", "units", "errors", "config", "config_file", "records", "system", "ensemble", "region", ""},
}
#: Single modules that may be imported although their room may not.
MODULES = {"analysis": {"qmml_md.reference.label"}}
MAY_NOT = {
    "engine": {"analysis"},
    "ensemble": {"region"},
    "commands": {"learning", "integrators"},
}

#: Where each heavy library may be imported, by the start of the module's name. ``doctor`` examines them all.
SEAMS = {
    "torch": ("qmml_md.ensemble", "qmml_md.learning", "qmml_md.doctor"),
    "torchani": ("qmml_md.ensemble", "qmml_md.learning"),
    "openmm": (
        "qmml_md.system.build", "qmml_md.system.field", "qmml_md.system.force_field_files",
        "qmml_md.system.forcefield", "qmml_md.system.parameter_files", "qmml_md.ensemble.force",
        "qmml_md.ensemble.openmmml_impl", "qmml_md.integrators", "qmml_md.engine", "qmml_md.doctor",
    ),
    "openmmml": ("qmml_md.system.forcefield", "qmml_md.ensemble.openmmml_impl"),
    "openmmtorch": ("qmml_md.ensemble.force", "qmml_md.doctor"),
    "pyscf": ("qmml_md.reference.pyscf", "qmml_md.doctor"),
    "ase": ("qmml_md.reference.ase", "qmml_md.reference.store"),
    "physical_validation": ("qmml_md.analysis.probes.kinetic",),
    "mdtraj": ("qmml_md.system", "qmml_md.analysis", "qmml_md.doctor"),
}  # fmt: skip


def imports(name: str, source: str, *, package: bool) -> Iterator[str]:
    """Absolute names of everything a module imports, at its top or inside a function."""
    base = name.split(".") if package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield str(node.module)
                continue
            start = ".".join([*base[: len(base) - node.level + 1], *([node.module] if node.module else [])])
            yield from ([start] if node.module else [f"{start}.{alias.name}" for alias in node.names])


def room(name: str) -> str:
    """`qmml_md.engine.loop` lies in `engine`; names of the package itself, such as its version, in ``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in RANK else ""


def violations(name: str, source: str, *, package: bool = False) -> list[str]:
    """What a module imports although the house forbids it."""
    here, found = room(name), []
    for target in imports(name, source, package=package):
        library = target.split(".")[0]
        if library in SEAMS and not name.startswith(SEAMS[library]):
            found.append(f"{name} imports {library} outside its seam")
        if library != "qmml_md":
            continue
        there = room(target)
        if target in MODULES.get(here, ()):
            continue
        allowed = there in MAY[here] if here in MAY else RANK[there] <= RANK[here]
        if not allowed or there in MAY_NOT.get(here, ()):
            found.append(f"{name} imports {target}")
    return found


def test_every_room_is_known(modules: dict[str, Path]) -> None:
    assert {name for name in modules if name != "qmml_md" and room(name) == ""} == set()


def test_imports_point_one_way_and_heavy_libraries_stay_in_their_seams(modules: dict[str, Path]) -> None:
    found = [
        line
        for name, path in modules.items()
        for line in violations(name, path.read_text(encoding="utf-8"), package=path.name == "__init__.py")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("qmml_md.records.bad", "from ..engine.loop import start"),
        ("qmml_md.ensemble.bad", "from .. import learning"),
        ("qmml_md.analysis.bad", "def f():\n    from ..engine import loop"),
        ("qmml_md.analysis.bad", "import qmml_md.cli"),
        ("qmml_md.integrators.bad", "from ..ensemble.model import evaluate"),
        ("qmml_md.region.bad", "import torch.nn as nn"),
        ("qmml_md.learning.bad", "from pyscf import gto"),
        ("qmml_md.analysis.bad", "def f():\n    import openmm"),
        ("qmml_md.engine.bad", "from ..analysis.audit import audit"),
    ],
)
def test_sabotaged_module_is_caught(name: str, source: str) -> None:
    assert len(violations(name, source)) == 1


def test_clean_module_is_not_blamed() -> None:
    source = "import torch\nfrom ..errors import QmmlError\nfrom . import card\nfrom ..system import molecules\n"
    assert violations("qmml_md.ensemble.good", source) == []
