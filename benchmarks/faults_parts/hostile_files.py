"""Files that are meant to run something, to read something, or to fill the memory; and proof that the bait is live.

Every trap that carries a program would leave a file, the canary. ``unsafe`` reads the same bytes as a careless program
would, and then the canary is there: what is counted as "not executed" could have been.
"""

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import yaml
from bad_configs import MINI, plain
from bad_files import ETHANE, with_field
from openmm import app

from qmml_md.system.field import load_field

#: A secret that no message may show.
SECRET = "canary-in-a-coal-mine"  # noqa: S105 - one for tests

Build = Callable[[Path, Path], Sequence[str] | Callable[[], Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """A hostile file.

    Attributes:
        kind: what it abuses; several traps may be of one kind.
        name: for a person.
        build: writes it into a folder, given where the canary would appear, and returns the arguments of ``qmml`` that
            read it, or a function of the package that does.
        names: pattern of what the refusal must name.
        unsafe: reads it carelessly, so that the canary appears; None where nothing could run.
        codes: exit codes that refuse.
    """

    kind: str
    name: str
    build: Build
    names: str
    unsafe: Callable[[Path, Path], None] | None = None
    codes: tuple[int, ...] = (2,)


class Payload:
    """What a pickle of this makes when it is read: an empty file."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __call__(self, state: Any) -> tuple[float, None]:
        """As a force of OpenMM would be called."""
        return 0.0, None

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.canary, "w")


def traps() -> list[Trap]:
    """Configurations, pickles and XML."""
    return [*_yaml(), *_pickles(), *_xml()]


def _config(text: Callable[[Path], str]) -> Build:
    def build(folder: Path, canary: Path) -> list[str]:
        (folder / "config.yaml").write_text(text(canary))
        return ["validate", str(folder / "config.yaml")]

    return build


def _yaml() -> Iterator[Trap]:
    def unsafe(folder: Path, canary: Path) -> None:
        yaml.unsafe_load((folder / "config.yaml").read_text())

    tags = {
        "apply": lambda c: f"title: !!python/object/apply:builtins.open ['{c}', 'w']\n",
        "new": lambda c: f"title: !!python/object/new:builtins.open ['{c}', 'w']\n",
        "in a key": lambda c: f"? !!python/object/apply:builtins.open ['{c}', 'w']\n: 1\n",
    }
    for name, text in tags.items():
        careless = unsafe if name == "apply" else None
        yield Trap(kind="YAML tags", name=name, build=_config(text), names="config.yaml", unsafe=careless)
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(12)
    )
    yield Trap(kind="YAML bombs", name="aliases", build=_config(lambda c: bomb), names="config.yaml")
    deep = "title: " + "[" * 100_000
    yield Trap(kind="YAML bombs", name="depth", build=_config(lambda c: deep), names="config.yaml")


def _pickles() -> Iterator[Trap]:
    def unsafe(folder: Path, canary: Path) -> None:
        for path in folder.glob("x.*"):
            pickle.loads(path.read_bytes()).close()  # noqa: S301 - the careless reading that the package must not do

    def build(suffix: str) -> Build:
        def write(folder: Path, canary: Path) -> list[str]:
            (folder / f"x{suffix}").write_bytes(pickle.dumps(Payload(canary)))
            config, place = plain(Path(f"x{suffix}")), str(folder / f"x{suffix}")
            if suffix == ".safetensors":
                config = plain()
                config["ensemble"]["weights"] = place
            if suffix in (".h5", ".h5md", ".dcd", ".extxyz"):
                return [
                    "audit",
                    "--trajectory",
                    place,
                    "--weights",
                    str(MINI),
                    "--topology",
                    str(ETHANE / "ethane.pdb"),
                ]
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            return ["validate", str(folder / "config.yaml"), "--dry-run"]

        return write

    for suffix in (
        ".pdb", ".cif", ".xyz", ".extxyz", ".pkl", ".npy", ".npz", ".pt", ".traj", ".safetensors", ".h5", ".h5md",
        ".dcd",
    ):  # fmt: skip
        yield Trap(kind="pickles", name=suffix, build=build(suffix), names=rf"x\{suffix}", unsafe=unsafe)
    for kind, name in (("amber", "ethane.prmtop"), ("gromacs", "ethane.top"), ("charmm", "ethane.psf"),
                       ("openmm", "ethane.xml"), ("amber", "ethane.inpcrd"), ("gromacs", "ethane.gro")):  # fmt: skip

        def with_parameters(folder: Path, canary: Path, kind: str = kind, name: str = name) -> Sequence[str]:
            return with_field(kind, {name: pickle.dumps(Payload(canary))})(folder)

        yield Trap(kind="pickles", name=name, build=with_parameters, names=name)


def evil_system(canary: Path) -> str:
    """An OpenMM System in XML whose force is a pickle."""
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(openmm.PythonForce(Payload(canary)))
    return str(openmm.XmlSerializer.serialize(system))


def _xml() -> Iterator[Trap]:
    def unsafe_system(folder: Path, canary: Path) -> None:
        openmm.XmlSerializer.deserialize(evil_system(canary))

    def field(change: Callable[[str], str]) -> Build:
        return lambda folder, canary: lambda: load_field(change(evil_system(canary)))

    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(12)
    ) + "]>"  # fmt: skip
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    changes: dict[str, tuple[str, Callable[[str], str]]] = {
        "a pickle": ("System XML", lambda x: x),
        "a pickle by another tag": (
            "System XML",
            lambda x: x.replace("<Force ", "<Bond ").replace("</Force>", "</Bond>"),
        ),
        "a pickle for a root": ("System XML", lambda x: x[x.index("<Force ") : x.index("</Forces>")]),
        "TorchScript": ("System XML", lambda x: x.replace('type="PythonForce"', 'type="TorchForce" file="/x.pt"')),
        "a comment within": ("System XML", lambda x: x.replace("<Forces>", "<!-- --><Forces>")),
        "entities": ("XML entities", lambda x: bomb + x[x.index("<System") :].replace("<Particles>", "<Particles>&m;")),
        "an external entity": ("XML entities", lambda x: outside + x[x.index("<System") :]),
    }
    for name, (kind, change) in changes.items():
        unsafe = unsafe_system if name == "a pickle" else None
        yield Trap(kind=kind, name=f"field, {name}", build=field(change), names="the field", unsafe=unsafe)
    good = (ETHANE / "ethane.xml").read_text()
    root = good[good.index("<ForceField") :]
    scripted = "<Script>open({canary!r}, 'w').close()</Script></ForceField>"
    first = scripted.replace("Script", "InitializationScript")
    within = '<Include file="/etc/passwd"/><AtomTypes>'

    def run_script(folder: Path, canary: Path) -> None:
        app.ForceField(str(folder / "ethane.xml"))

    files: dict[str, tuple[str, str, Any]] = {
        "script": ("force field scripts", root.replace("</ForceField>", scripted), None),
        "first script": ("force field scripts", root.replace("</ForceField>", first), run_script),
        "include": ("force field scripts", root.replace("<AtomTypes>", within), None),
        "entities": ("XML entities", bomb + root.replace("<AtomTypes>", "<Info>&m;</Info><AtomTypes>"), None),
        "external entity": ("XML entities", outside + root.replace("<AtomTypes>", "<Info>&a;</Info><AtomTypes>"), None),
    }  # fmt: skip
    for name, (kind, text, unsafe) in files.items():

        def build(folder: Path, canary: Path, text: str = text) -> Sequence[str]:
            return with_field("openmm", {"ethane.xml": text.replace("{canary!r}", repr(str(canary)))})(folder)

        yield Trap(kind=kind, name=f"ForceField, {name}", build=build, names=r"ethane\.xml", unsafe=unsafe)


def object_array(canary: Path) -> bytes:
    """An array of objects as numpy writes it: a pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()
