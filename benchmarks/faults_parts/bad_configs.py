"""Configurations that are wrong: each key of the models in turn, and what is wrong with a file as a whole."""

import copy
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from annotated_types import Ge, Gt, Le, Lt
from probe import Case
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qmml_md.config import Config

Plain = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
ETHANOL = ROOT / "examples" / "ethanol_nve" / "ethanol.pdb"
MINI = ROOT / "tests" / "data" / "ani_mini.safetensors"
NUMBERS: tuple[Any, ...] = ("fast", [1], {"a": 1}, True, float("nan"), float("inf"), "1e400")


def plain(structure: Path = ETHANOL) -> Plain:
    """A configuration that would run."""
    return {
        "system": {"structure": str(structure)},
        "ensemble": {"weights": str(MINI), "threads": 1, "platform": "Reference"},
        "dynamics": {"integrator": "verlet", "steps": 20, "minimise": False},
        "reference": {"method": "hf", "basis": "sto-3g", "max_labels": 0},
        "output": {"frame_every_steps": 5, "commit_every_steps": 10},
    }


def validating(text: str | bytes, *options: str) -> Callable[[Path], list[str]]:
    """Writes a configuration and asks for it to be checked."""

    def build(folder: Path) -> list[str]:
        path = folder / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["validate", str(path), *options]

    return build


def edited(change: Callable[[Plain], None]) -> str:
    """The text of the configuration with a change."""
    config = copy.deepcopy(plain())
    change(config)
    return yaml.safe_dump(config, sort_keys=False)


def curated() -> list[Case]:
    """Every key in every wrong way, and what is wrong with whole files."""
    return [*_keys(), *_contradictions(), *_files(), *_beyond()]


def leaves(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of the configuration with its field."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from leaves(info.annotation, (*path, name))
        else:
            yield (*path, name), info


def _keys() -> Iterator[Case]:
    sections = [name for name, info in Config.model_fields.items() if name != "title"]
    for path, info in leaves():
        dotted = ".".join(path)
        for number, value in enumerate(_wrong(info)):
            text = edited(lambda config, value=value, path=path: _put(config, path, value))
            yield Case(
                name=f"{dotted}, wrong value {number}", build=validating(text), names=rf"{dotted}\b|\b{path[0]}: \w+_"
            )
        yield Case(
            name=f"{dotted}, misspelt",
            build=validating(edited(lambda c, path=path: _put(c, (*path[:-1], path[-1] + "x"), 1))),
            names=rf"{dotted}x: unknown key",
        )
        if len(path) == 2:
            other = sections[(sections.index(path[0]) + 1) % len(sections)]
            clash = path[1] in Config.model_fields[other].annotation.model_fields  # type: ignore[union-attr]
            if not clash:
                yield Case(
                    name=f"{dotted}, under {other}",
                    build=validating(edited(lambda c, path=path, other=other: _put(c, (other, path[1]), 1))),
                    names=rf"{other}\.{path[1]}: unknown key",
                )
            yield Case(
                name=f"{dotted}, twice",
                build=validating(yaml.safe_dump(plain()) + f"region2: {{{path[1]}: 1, {path[1]}: 1}}\n"),
                names=rf"{path[1]}: given twice",
            )


def _put(config: Plain, path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        config = config.setdefault(part, {})
    config[path[-1]] = value


def _wrong(info: FieldInfo) -> list[Any]:
    """Values that the type of a field, or its bounds, exclude."""
    kinds = _kinds(info.annotation)
    if Literal in kinds:
        return ["nonsense", 3, [1], {"a": 1}, True]
    if bool in kinds:
        return ["maybe", 7, [1], {"a": 1}]
    if float in kinds or int in kinds:
        return [*NUMBERS, *_outside(info), *([0.5] if int in kinds else [])]
    if dict in kinds:
        return ["ETH", 3, [1], {"ETH": "plus"}, {"ETH": 0.5}]
    if tuple in kinds:
        return [3, {"a": 1}, [[1]], [{"a": 1}]]
    return [3, [1], {"a": 1}, True]


def _outside(info: FieldInfo) -> list[float]:
    bounds = list(info.metadata)
    for each in typing.get_args(info.annotation):
        bounds += list(getattr(each, "__metadata__", ()))
    flat = [inner for each in bounds for inner in getattr(each, "metadata", [each])]
    found: list[float] = []
    for bound in flat:
        if isinstance(bound, Gt):
            found += [float(bound.gt), float(bound.gt) - 1]
        elif isinstance(bound, Ge):
            found += [int(bound.ge) - 1]
        elif isinstance(bound, Lt):
            found += [int(bound.lt)]
        elif isinstance(bound, Le):
            found += [int(bound.le) + 1]
    return found


def _kinds(annotation: Any) -> set[Any]:
    """The types within an annotation."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_kinds(each) for each in typing.get_args(annotation)))
    if origin is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    return {annotation if origin is None else origin}


def _contradictions() -> Iterator[Case]:
    rules: list[tuple[str, Plain, str]] = [
        ("stay above enter", {"region": {"enter_eV_per_A": 0.1, "stay_eV_per_A": 0.2}}, "stay_eV_per_A"),
        ("stop below enter", {"region": {"stop_eV_per_A": 0.1}}, "stop_eV_per_A"),
        ("seed is exclude", {"region": {"seed": "all", "exclude": "all"}}, "seed and exclude"),
        ("solvent fills all", {"region": {"solvent_molecules": 24}}, "solvent_molecules"),
        ("looks too rare", {"region": {"check_every_steps": 5, "longest_check_steps": 2}}, "check_every_steps"),
        ("blank selection", {"region": {"seed": "  "}}, r"region\.seed"),
        ("pressure without thermostat", {"dynamics": {"pressure_bar": 1.0}}, r"dynamics\.pressure_bar"),
        ("charges without field", {"reference": {"embedding": "electrostatic"}}, r"reference\.embedding"),
        ("force field without atoms", {"system": {"force_field": ["a.xml"]}}, "force_field"),
        ("atoms without force field", {"system": {"ml_atoms": "protein"}}, "ml_atoms"),
        ("two parameter sets", {"system": {"force_field": ["a.xml"], "topology": "a.prmtop"}}, "and topology"),
        ("unknown topology", {"system": {"topology": "a.exe"}}, "topology"),
        ("psf alone", {"system": {"topology": "a.psf"}}, "parameters"),
        ("parameters alone", {"system": {"parameters": ["a.prm"]}}, "parameters"),
        ("include alone", {"system": {"gromacs_include": "."}}, "gromacs_include"),
        ("switch beyond cutoff", {"system": {"nonbonded_switch_A": 9.0}}, "nonbonded_switch_A"),
    ]  # fmt: skip
    for name, change, names in rules:

        def apply(config: Plain, change: Plain = change) -> None:
            for section, keys in change.items():
                config.setdefault(section, {}).update(keys)

        yield Case(name=name, build=validating(edited(apply)), names=names)


def _files() -> Iterator[Case]:
    good = yaml.safe_dump(plain())
    texts: dict[str, tuple[str | bytes, str]] = {
        "empty": ("", "empty"),
        "comment only": ("# nothing\n", "empty"),
        "a list": ("- 1\n- 2\n", "sections"),
        "a number": ("42\n", "sections"),
        "null": ("null\n", "sections"),
        "no structure": ("system: {}\n", r"system\.structure: missing"),
        "section is a list": ("system: [1]\n", "system: must be a section"),
        "section is empty": ("system:\n", "system: must be a section"),
        "tab": ("system:\n\tstructure: a.pdb\n", "line 2"),
        "open bracket": ("system: {structure: [a.pdb\n", r"line \d"),
        "open quote": ('system: {structure: "a.pdb\n', r"line \d"),
        "two documents": (good + "---\n" + good, "config.yaml"),
        "binary": (bytes(range(256)), "config.yaml"),
        "Latin-1": ("title: caf\xe9\n".encode("latin-1"), "config.yaml"),
        "UTF-16": (good.encode("utf-16"), "config.yaml"),
        "NUL": (good + "\0", "config.yaml"),
        "control character": (good + "title: a\x07b\n", "config.yaml"),
        "surrogate": (good.encode() + b'title: "\xed\xa0\x80"\n', "config.yaml"),
        "escaped surrogate": (good + 'title: "\\ud800"\n', r"title|line \d"),
        "NUL in a path": ('system: {structure: "a\\0.pdb"}\n', r"system\.structure"),
        "huge": (good + "# " + "x" * 2_000_000, "bytes"),
        "many keys": (good + "".join(f"k{k}: 1\n" for k in range(60_000)), "more than .* keys"),
        "many items": (good + "title: [" + "1," * 40_000 + "]\n", "more than .* keys"),
        "many mistakes": (good + "".join(f"k{k}: 1\n" for k in range(1500)), "and 1460 more"),
        "long number": (good + "title: 1" + "0" * 20_000 + "\n", r"title|bytes"),
        "long key": (good + "? " + "k" * 5000 + "\n: 1\n", "unknown key"),
        "deep flow": (good + "title: " + "[" * 5000 + "]" * 5000 + "\n", "nested deeper"),
        "deep block": (good + "title:\n" + "".join(" " * k + "a:\n" for k in range(1, 300)), "nested deeper"),
        "key is a list": ("? [a, b]\n: 1\n", "single word"),
        "key is a map": ("? {a: b}\n: 1\n", "single word"),
        "impossible date": (good + "title: 2020-13-45\n", "title"),
        "date as text": (good + "title: 2020-01-01\n", "title"),
        "bad escape": (good + 'title: "\\q"\n', r"line \d"),
        "directive": ("%YAML 3.0\n---\n" + good, "config.yaml"),
        "section twice": (good + good, "given twice"),
        "pem": ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "config.yaml"),
        "XML": ("<config><system/></config>", "sections"),
        "JSON list": ('[{"system": 1}]', "sections"),
    }
    for name, (text, names) in texts.items():
        yield Case(name=f"file: {name}", build=validating(text), names=names)
    yield Case(name="file: missing", build=lambda f: ["validate", str(f / "none.yaml")], names="none.yaml")
    yield Case(name="file: a folder", build=lambda f: ["validate", str(f)], names="qmml-input")
    yield Case(name="file: a long name", build=lambda f: ["validate", str(f / ("x" * 300))], names="xxx")
    yield Case(name="file: run missing", build=lambda f: ["run", str(f / "none.yaml")], names="none.yaml")
    for command in ("learn", "controls"):
        extra = ["--rounds", "2"] if command == "learn" else []
        yield Case(
            name=f"file: {command} missing",
            build=lambda f, c=command, e=extra: [c, str(f / "none.yaml"), "--out", str(f / "out"), *e],
            names="none.yaml",
        )
        yield Case(
            name=f"file: {command} wrong",
            build=lambda f, c=command, e=extra: [
                c, validating("system: {}\n")(f)[1], "--out", str(f / "out"), *e
            ],
            names=r"system\.structure",
        )  # fmt: skip


def _beyond() -> Iterator[Case]:
    """What the file itself cannot tell: seen when everything is read."""
    changes: list[tuple[str, tuple[str, ...], Any, str]] = [
        ("no structure file", ("system", "structure"), "missing.pdb", "missing.pdb"),
        ("structure is a folder", ("system", "structure"), ".", r"system\.structure|structure"),
        ("unknown kind", ("system", "structure"), "a.docx", "docx"),
        ("no weights", ("ensemble", "weights"), "missing.safetensors", "missing.safetensors"),
        ("unknown weights", ("ensemble", "weights"), "ani9", "ani9"),
        ("weights with a slash", ("ensemble", "weights"), "../ani1x", "ani1x"),
        ("unknown method", ("reference", "method"), "wb97xx", "wb97xx"),
        ("blank method", ("reference", "method"), "", r"reference\.method|method"),
        ("unknown basis", ("reference", "basis"), "sto-99g", "sto-99g"),
        ("blank basis", ("reference", "basis"), "", r"reference\.basis|basis"),
        ("charge beyond electrons", ("reference", "charge"), 60, r"reference\.charge|charge"),
        ("multiplicity of no spin", ("reference", "multiplicity"), 2, r"multiplicity"),
        ("bad selection", ("region", "seed"), "resname ((", r"region\.seed"),
        ("selection of nothing", ("region", "seed"), "resname XYZ", r"region\.seed"),
        ("selection that runs", ("region", "seed"), "__import__('os').system('true')", r"region\.seed"),
        ("region too small", ("region", "max_qm_atoms"), 3, "max_qm_atoms"),
        ("formal charge of nothing", ("system", "formal_charges"), {"XYZ": 1}, "formal_charges"),
        ("formal charge wrong", ("system", "formal_charges"), {"UNL": 1, "ETH": 1}, "formal_charges"),
        ("box that is not there", ("system", "periodic"), True, r"box"),
        ("RESPA member", ("dynamics", "respa_inner"), "member:99", "respa_inner"),
        ("RESPA nonsense", ("dynamics", "respa_inner"), "nobody", "respa_inner"),
        ("RESPA file", ("dynamics", "respa_inner"), "inner.safetensors", "inner.safetensors"),
        ("steps beyond the disk", ("dynamics", "steps"), 10**15, "GB"),
        ("ml atoms of nothing", ("system", "ml_atoms"), "resname XYZ", r"system\.ml_atoms"),
    ]
    for name, path, value, names in changes:

        def apply(config: Plain, path: tuple[str, ...] = path, value: Any = value) -> None:
            _put(config, path, value)
            if path[-1] == "respa_inner":
                config["dynamics"]["integrator"] = "respa"
            if path[-1] == "ml_atoms":
                config["system"]["force_field"] = ["amber14-all.xml"]
            if path[-1] in ("method", "basis", "charge", "multiplicity"):
                config["reference"]["max_labels"] = 5

        text = edited(apply)
        yield Case(name=f"dry run: {name}", build=validating(text, "--dry-run"), names=names)
        yield Case(
            name=f"run: {name}",
            build=lambda f, t=text: ["run", validating(t)(f)[1], "--out", str(f / "run")],
            names=names,
        )
