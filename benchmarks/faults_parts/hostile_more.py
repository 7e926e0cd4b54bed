"""More hostile files: archives, safetensors, pipes, counts that lie, includes, selections."""

import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from bad_configs import MINI, plain
from bad_files import ETHANE, with_field
from hostile_files import SECRET, Build, Payload, Trap

from qmml_md.ensemble.wheel import unpack


def traps() -> list[Trap]:
    """All of them."""
    return [*_archives(), *_safetensors(), *_endless(), *_includes(), *_selections()]


def _archives() -> Iterator[Trap]:
    def wheel(entries: Callable[[Path], dict[str, bytes]]) -> Build:
        def build(folder: Path, canary: Path) -> Callable[[], Any]:
            with zipfile.ZipFile(folder / "torchani.whl", "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in entries(canary).items():
                    archive.writestr(name, content)
            return lambda: unpack(folder / "torchani.whl", folder / "out")

        return build

    def careless(folder: Path, canary: Path) -> None:
        with zipfile.ZipFile(folder / "torchani.whl") as archive:
            for about in archive.infolist():
                target = folder / "out" / about.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(about))

    up = "torchani/resources/../../../../"
    yield Trap(
        kind="archives", name="steps up", build=wheel(lambda c: {f"{up}{c.name}": b"x", "torchani/resources/a": b""}),
        names="torchani.whl", unsafe=careless,
    )  # fmt: skip
    zeros = bytes(64 * 1024**2)
    many = {f"torchani/resources/{k}": zeros for k in range(10)}
    yield Trap(kind="archives", name="bomb", build=wheel(lambda c: many), names="torchani.whl")
    yield Trap(
        kind="archives", name="no archive", names="torchani.whl",
        build=lambda f, c: lambda: unpack(_written(f / "torchani.whl", pickle.dumps(Payload(c))), f / "out"),
    )  # fmt: skip


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _safetensors() -> Iterator[Trap]:
    good = MINI.read_bytes()
    size = struct.unpack("<Q", good[:8])[0]
    head, body = good[8 : 8 + size], good[8 + size :]

    def file(header: bytes, length: int | None = None, tail: bytes = body) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + tail

    contents = {
        "head of 2^63 bytes": file(b"{}", 2**63),
        "head of 1 TB": file(head, 10**12),
        "head of 90 MB": file(b"{" + b" " * 90_000_000 + b"}"),
        "tensor of 10^15": file(
            b'{"x":{"dtype":"F64","shape":[1000000000000000],"data_offsets":[0,8]}}', tail=bytes(8)
        ),
        "offsets beyond": file(b'{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8000000000]}}', tail=bytes(8)),
        "deep": file(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "card of many members": file(re.sub(rb"(?<=members)(\W+)\d", rb"\g<1>9", head)),
        "symbol that is a pattern": file(head.replace(b'\\"H\\"', b'\\"(a+)+$\\"', 1)),
        "no card": file(b'{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}', tail=bytes(8)),
    }
    for name, content in contents.items():

        def build(folder: Path, canary: Path, content: bytes = content) -> list[str]:
            (folder / "x.safetensors").write_bytes(content)
            return ["weights", "show", str(folder / "x.safetensors")]

        yield Trap(kind="safetensors", name=name, build=build, names=r"x\.safetensors|weights `")


def _endless() -> Iterator[Trap]:
    def pipe(folder: Path, canary: Path) -> list[str]:
        os.mkfifo(folder / "config.yaml")
        return ["validate", str(folder / "config.yaml")]

    yield Trap(kind="pipes and devices", name="config", build=pipe, names="config.yaml")
    zero = "/dev/zero"
    yield Trap(kind="pipes and devices", name="zero", build=lambda f, c: ["validate", zero], names=zero)

    def structure(suffix: str) -> Build:
        def build(folder: Path, canary: Path) -> list[str]:
            os.mkfifo(folder / f"x{suffix}")
            (folder / "config.yaml").write_text(yaml.safe_dump(plain(Path(f"x{suffix}"))))
            return ["validate", str(folder / "config.yaml"), "--dry-run"]

        return build

    for suffix in (".pdb", ".xyz", ".cif"):
        yield Trap(kind="pipes and devices", name=suffix, build=structure(suffix), names=rf"x\{suffix}")
    weights = ["weights", "show", zero]
    yield Trap(kind="pipes and devices", name="weights", build=lambda f, c: weights, names=zero)
    for name, text in {
        "XYZ": "1000000000\n\nH 0 0 0\n",
        "GRO": "x\n1000000000\n    1ETH     C1    1   0 0 0\n",
    }.items():
        suffix = f".{name.lower()}"

        def build(folder: Path, canary: Path, text: str = text, suffix: str = suffix) -> Sequence[str]:
            if suffix == ".gro":
                return with_field("gromacs", {"ethane.gro": text})(folder)
            (folder / "x.xyz").write_text(text)
            return ["audit", "--trajectory", str(folder / "x.xyz"), "--weights", str(MINI)]

        yield Trap(kind="counts that lie", name=name, build=build, names=r"x\.xyz|ethane\.gro")

    def dcd(folder: Path, canary: Path) -> list[str]:
        head = b"CORD" + struct.pack("<i", 10) + bytes(76)
        title = struct.pack("<i", 1) + bytes(80)
        content = b"".join(
            struct.pack("<i", len(part)) + part + struct.pack("<i", len(part))
            for part in (head, title, struct.pack("<i", 1_000_000_000))
        )
        (folder / "x.dcd").write_bytes(content + bytes(400))
        return ["audit", "--trajectory", str(folder / "x.dcd"), "--weights", str(MINI), "--topology",
                str(ETHANE / "ethane.pdb")]  # fmt: skip

    yield Trap(kind="counts that lie", name="DCD", build=dcd, names=r"x\.dcd|topology")


def _includes() -> Iterator[Trap]:
    top = (ETHANE / "ethane.top").read_text()

    def build(line: str) -> Build:
        def write(folder: Path, canary: Path) -> Sequence[str]:
            (folder.parent / "secret.itp").write_text(SECRET)
            return with_field("gromacs", {"ethane.top": line + top})(folder)

        return write

    for name, line in {
        "absolute": '#include "/etc/passwd"\n',
        "steps up": '#include "../secret.itp"\n',
        "in two lines": '#include \\\n "../secret.itp"\n',
    }.items():
        yield Trap(kind="includes", name=name, build=build(line), names="secret.itp|passwd")


def _selections() -> Iterator[Trap]:
    for name, text in {
        "import": "__import__('os').system('touch {canary}')",
        "call": "name == open('{canary}','w')",
        "lambda": "(lambda: open('{canary}','w'))()",
        "brackets": "(" * 900 + "all" + ")" * 900,
    }.items():

        def build(folder: Path, canary: Path, text: str = text) -> list[str]:
            config = plain()
            config["region"] = {"seed": text.replace("{canary}", str(canary))}
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            return ["validate", str(folder / "config.yaml"), "--dry-run"]

        yield Trap(kind="selections", name=name, build=build, names=r"region\.seed")
