"""Structures, force fields and trajectories that are wrong, each in one way that is known."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from bad_configs import ETHANOL, MINI, ROOT, Plain, plain
from probe import Case

ETHANE = ROOT / "tests" / "data" / "force_field"
#: What a message about a structure names: the file, an atom, or a key of the configuration.
THING = r"\(index \d+\)|\b(system|reference|region|dynamics|ensemble)\.[a-z]\w+"

FIELDS: dict[str, Plain] = {
    "amber": {"structure": "ethane.inpcrd", "topology": "ethane.prmtop"},
    "gromacs": {"structure": "ethane.gro", "topology": "ethane.top"},
    "charmm": {"structure": "ethane.pdb", "topology": "ethane.psf", "parameters": ["ethane.prm"]},
    "openmm": {"structure": "ethane.pdb", "force_field": ["ethane.xml"]},
}


def dry(name: str, content: str | bytes, change: Plain | None = None) -> Callable[[Path], list[str]]:
    """Writes a structure file and a configuration beside it, and asks for a dry run."""

    def build(folder: Path) -> list[str]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        config = plain(Path(name))
        for section, keys in (change or {}).items():
            config.setdefault(section, {}).update(keys)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return ["validate", str(folder / "config.yaml"), "--dry-run"]

    return build


def with_field(kind: str, spoil: dict[str, str | bytes | None]) -> Callable[[Path], list[str]]:
    """Ethane in a force field, with some of its files replaced (None: removed)."""

    def build(folder: Path) -> list[str]:
        for path in ETHANE.glob("ethane.*"):
            shutil.copyfile(path, folder / path.name)
        for name, content in spoil.items():
            (folder / name).unlink(missing_ok=True)
            if content is not None:
                (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        config = plain()
        config["system"] = {
            **FIELDS[kind], "ml_atoms": "resname ETH", "periodic": False, "nonbonded": "none"
        }  # fmt: skip
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return ["validate", str(folder / "config.yaml"), "--dry-run"]

    return build


def judged(name: str, content: str | bytes, *options: str) -> Callable[[Path], list[str]]:
    """Another program's trajectory, to be audited."""

    def build(folder: Path) -> list[str]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["audit", "--trajectory", str(folder / name), "--weights", str(MINI), *options]

    return build


def curated() -> list[Case]:
    """All of them."""
    return [*_pdb_atoms(), *_pdb_files(), *_cif(), *_xyz(), *_fields(), *_trajectories()]


def pdb_lines() -> list[str]:
    """Ethanol."""
    return ETHANOL.read_text().splitlines()


def is_atom(line: str) -> bool:
    """Whether a line of a PDB file is an atom."""
    return line.startswith(("ATOM", "HETATM"))


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _pdb_atoms() -> Iterator[Case]:
    lines = pdb_lines()
    atoms = [k for k, line in enumerate(lines) if is_atom(line)]

    def put(k: int, line: str | None) -> str:
        return _joined([*lines[:k], *([] if line is None else [line]), *lines[k + 1 :]])

    for number, k in enumerate(atoms):
        line, other = lines[k], lines[atoms[number - 1]]
        changes: dict[str, str | None] = {
            "not a number": f"{line[:30]}     nan     nan     nan{line[54:]}",
            "infinite": f"{line[:30]}     inf     inf     inf{line[54:]}",
            "words": f"{line[:30]}     one     two     six{line[54:]}",
            "cut short": line[:40],
            "at the place of another": f"{line[:30]}{other[30:54]}{line[54:]}",
            "far away": f"{line[:30]}  99.000  99.000  99.000{line[54:]}",
            "iron": f"{line[:12]}FE  {line[16:76]}FE{line[78:]}",
            "no element": f"{line[:12]} Q{number:<2}{line[16:76]}  {line[78:]}",
            "element Xx": f"{line[:12]} X{number:<2}{line[16:76]}Xx{line[78:]}",
            "left out": None,
            "charged": f"{line[:78]}5+{line[80:]}",
            "written twice": line + "\n" + line,
        }
        for what, changed in changes.items():
            yield Case(name=f"PDB atom {number}: {what}", build=dry("x.pdb", put(k, changed)), names=rf"x\.pdb|{THING}")


def _pdb_files() -> Iterator[Case]:
    text, lines = ETHANOL.read_text(), pdb_lines()
    atoms = [line for line in lines if is_atom(line)]
    bare = [line for line in lines if not line.startswith("CRYST1")]
    cell = "CRYST1{:9.3f}{:9.3f}{:9.3f}{:7.2f}{:7.2f}{:7.2f} P 1           1"
    contents: dict[str, str | bytes] = {
        "empty": "",
        "no atoms": "HEADER\nEND\n",
        "binary": bytes(range(256)) * 64,
        "NULs": b"\0" * 100_000,
        "compressed": b"\x1f\x8b\x08\x00" + bytes(range(200)),
        "an extended XYZ": "1\n\nH 0 0 0\n",
        "a pickle": b"\x80\x04\x95" + bytes(40),
        "first half": text[: len(text) // 3],
        "one endless line": "ATOM  " + "x" * 1_000_000,
        "no bonds": _joined([line for line in lines if not line.startswith("CONECT")]),
        "bonded to all": _joined([*atoms, *(f"CONECT{a:5d}{b:5d}" for a in range(1, 10) for b in range(a + 1, 10))]),
        "box too small": _joined([cell.format(8, 8, 8, 90, 90, 90), *bare]),
        "box flat": _joined([cell.format(30, 30, 0.01, 90, 90, 90), *bare]),
        "box without volume": _joined([cell.format(30, 30, 30, 30, 30, 170), *bare]),
        "box of zero": _joined([cell.format(0, 0, 0, 90, 90, 90), *bare]),
        "box negative": _joined([cell.format(-30, 30, 30, 90, 90, 90), *bare]),
        "box NaN": _joined([cell.format(float("nan"), 30, 30, 90, 90, 90), *bare]),
        "box of words": _joined(["CRYST1    large    large    large  90.00  90.00  90.00 P 1           1", *bare]),
        "a crystal": _joined([cell.format(30, 30, 30, 90, 90, 90).replace("P 1 ", "P 21"), *bare]),
        "doubled": _joined([*atoms, *atoms]),
        "hydrogens only": _joined([line for line in atoms if line[76:78].strip() == "H"]),
        "no hydrogens": _joined([line for line in atoms if line[76:78].strip() != "H"]),
        "UTF-16": text.encode("utf-16"),
        "wide numbers": _joined([f"{a[:30]}99999999{a[38:]}" for a in atoms]),
        "many models": "".join(f"MODEL {k}\n{_joined(atoms[:k])}ENDMDL\n" for k in range(1, 9)),
        "too many atoms": _joined(
            f"HETATM{k:5d}  O   HOH A{k:4d}    {k % 97:8.3f}{k % 89:8.3f}{k % 83:8.3f}  1.00  0.00           O"
            for k in range(300)
        ),
    }
    for what, content in contents.items():
        yield Case(name=f"PDB: {what}", build=dry("x.pdb", content), names=rf"x\.pdb|{THING}|the box is")
    for suffix in (".cif", ".xyz", ".pdbx", ".mmcif", ".extxyz"):
        name = f"x{suffix}"
        yield Case(name=f"PDB called {suffix}", build=dry(name, text), names=rf"x\{suffix}")
    for suffix in (".gro", ".inpcrd", ".rst7", ".mol2", ".sdf", ".pkl", ".npz", ".h5", ".traj", ".db", ".pdb.gz", ""):
        name = f"x{suffix}"
        yield Case(name=f"kind {suffix or 'none'}", build=dry(name, text), names=name)


def _cif() -> Iterator[Case]:
    text = (ETHANE / "ethane.cif").read_text()
    contents: dict[str, str | bytes] = {
        "empty": "",
        "binary": bytes(range(256)) * 16,
        "head only": text[:200],
        "half": text[: len(text) // 2],
        "no loop": text.replace("loop_", "", 1),
        "loop cut": text[: text.rfind("ATOM") + 12],
        "open quote": text.replace("_atom_site", "'_atom_site", 1),
        "coordinates of words": text.replace("Cartn_x", "Cartn_q"),
        "endless": "data_x\nloop_\n" + "_atom_site.id\n" * 20_000,
    }
    for what, content in contents.items():
        yield Case(name=f"mmCIF: {what}", build=dry("x.cif", content), names=rf"x\.cif|{THING}")


def _xyz() -> Iterator[Case]:
    atoms = [(line[76:78].strip(), *line[30:54].split()) for line in pdb_lines() if is_atom(line)]
    rows = [" ".join(a) for a in atoms]

    def frame(comment: str = "", head: str = str(len(rows)), body: Sequence[str] = rows) -> str:
        return _joined([head, comment, *body])

    contents: dict[str, str] = {
        "empty": "",
        "no comment": f"{len(rows)}\n",
        "count in words": frame(head="nine"),
        "count negative": frame(head="-9"),
        "count zero": frame(head="0"),
        "count too large": frame(head="10"),
        "a billion atoms": frame(head="1000000000"),
        "count of many digits": frame(head="9" * 5000),
        "count in other digits": frame(head="²"),
        "count in Arabic digits, cut": frame(head="٩٩"),
        "lattice of words": frame('Lattice="a b c d e f g h i"'),
        "lattice of eight": frame('Lattice="9 0 0 0 9 0 0 0"'),
        "lattice zero": frame('Lattice="0 0 0 0 0 0 0 0 0"'),
        "lattice NaN": frame('Lattice="nan 0 0 0 30 0 0 0 30"'),
        "lattice infinite": frame('Lattice="inf 0 0 0 30 0 0 0 30"'),
        "lattice flat": frame('Lattice="30 0 0 0 30 0 30 30 0"'),
        "lattice small": frame('Lattice="5 0 0 0 5 0 0 0 5"'),
        "two directions": frame('Lattice="30 0 0 0 30 0 0 0 30" pbc="T T F"'),
        "pbc of words": frame('Lattice="30 0 0 0 30 0 0 0 30" pbc="x y z"'),
        "no positions": frame("Properties=species:S:1"),
        "columns beyond": frame("Properties=species:S:1:pos:R:300000"),
        "columns negative": frame("Properties=species:S:-5:pos:R:3"),
        "columns of many digits": frame("Properties=species:S:" + "9" * 5000 + ":pos:R:3"),
        "coordinates missing": frame(body=[" ".join(a[:3]) for a in atoms]),
        "coordinates NaN": frame(body=[f"{a[0]} nan nan nan" for a in atoms]),
        "coordinates infinite": frame(body=[f"{a[0]} 1e999 0 0" for a in atoms]),
        "coordinates huge": frame(body=[f"{a[0]} {k}e300 0 0" for k, a in enumerate(atoms)]),
        "all at one place": frame(body=[f"{a[0]} 0 0 0" for a in atoms]),
        "unknown symbols": frame(body=[f"Q{k} {k} 0 0" for k in range(len(atoms))]),
        "symbols of digits": frame(body=[f"{k} {k} 0 0" for k in range(len(atoms))]),
        "gold": frame(body=[f"Au {3 * k} 0 0" for k in range(len(atoms))]),
        "a radical": frame(head="8", body=rows[:8]),
    }  # fmt: skip
    for what, content in contents.items():
        yield Case(name=f"XYZ: {what}", build=dry("x.xyz", content), names=rf"x\.xyz|{THING}|the box is")
        if what.startswith(("empty", "no comment", "count", "a billion", "no positions", "columns", "coordinates mis")):
            yield Case(name=f"trajectory XYZ: {what}", build=judged("t.xyz", content), names=r"t\.xyz")


def _fields() -> Iterator[Case]:
    files = {
        "amber": ("ethane.prmtop", "ethane.inpcrd"),
        "gromacs": ("ethane.top", "ethane.gro"),
        "charmm": ("ethane.psf", "ethane.prm", "ethane.pdb"),
        "openmm": ("ethane.xml", "ethane.pdb"),
    }
    for kind, names in files.items():
        for name in names:
            content = (ETHANE / name).read_bytes()
            spoiled: dict[str, bytes | None] = {
                "missing": None,
                "empty": b"",
                "binary": bytes(range(256)) * 8,
                "a third": content[: len(content) // 3],
                "of NULs": b"\0" * 5000,
                "of words": b"lorem ipsum dolor\n" * 50,
            }
            for what, spoil in spoiled.items():
                yield Case(
                    name=f"{kind}, {name} {what}", build=with_field(kind, {name: spoil}),
                    names=rf"{name}|{THING}|template for residue|charge|force field",
                )  # fmt: skip
    xml, top, prmtop = ((ETHANE / f"ethane.{end}").read_text() for end in ("xml", "top", "prmtop"))
    deeper: dict[str, tuple[str, dict[str, str | bytes | None]]] = {
        "script": ("openmm", {"ethane.xml": xml.replace("</ForceField>", "<Script>1/0</Script></ForceField>")}),
        "include in XML": ("openmm", {"ethane.xml": xml.replace("<AtomTypes>", '<Include file="x.xml"/><AtomTypes>')}),
        "no templates": ("openmm", {"ethane.xml": "<ForceField/>"}),
        "another root": ("openmm", {"ethane.xml": "<html><body/></html>"}),
        "an unclosed tag": ("openmm", {"ethane.xml": xml.replace("</ForceField>", "")}),
        "include of nothing": ("gromacs", {"ethane.top": '#include "nowhere.itp"\n' + top}),
        "include of itself": ("gromacs", {"ethane.top": '#include "ethane.top"\n' + top}),
        "include circle": ("gromacs", {"ethane.top": '#include "a.itp"\n' + top, "a.itp": '#include "b.itp"\n',
                                       "b.itp": '#include "a.itp"\n'}),
        "unclosed if": ("gromacs", {"ethane.top": "#ifdef X\n" + top}),
        "define loop": ("gromacs", {"ethane.top": "#define A A\n" + top.replace("ETH", "A", 1) + "\n[ x ]\n1 2\n"}),
        "negative pointers": ("amber", {"ethane.prmtop": prmtop.replace("%FLAG POINTERS", "%FLAG POINTERZ", 1)}),
        "other atoms": ("amber", {"ethane.inpcrd": "x\n 3\n" + "  0.0000000" * 9 + "\n"}),
    }  # fmt: skip
    for what, (kind, spoil) in deeper.items():
        yield Case(
            name=f"{kind}: {what}", build=with_field(kind, spoil),
            names=rf"ethane\.|{THING}|a\.itp|nowhere|template for residue",
        )  # fmt: skip


def _trajectories() -> Iterator[Case]:
    for suffix, kinds in {".h5": ("text", "empty", "cut"), ".dcd": ("text", "empty", "cut"), ".pkl": ("text",)}.items():
        whole = b"\x89HDF\r\n\x1a\n" if suffix == ".h5" else b"T\0\0\0CORD"
        contents = {"text": b"hello\n" * 100, "empty": b"", "cut": whole + bytes(200)}
        for what in kinds:
            build: Any = judged(f"t{suffix}", contents[what], "--topology", str(ETHANOL))
            yield Case(name=f"trajectory {suffix}: {what}", build=build, names=rf"t\{suffix}")
    yield Case(
        name="trajectory: none",
        build=lambda f: ["audit", "--trajectory", str(f / "t.xyz"), "--weights", str(MINI)], names=r"t\.xyz",
    )  # fmt: skip
    yield Case(
        name="trajectory: a folder",
        build=lambda f: ["audit", "--trajectory", str(f), "--weights", str(MINI)], names="qmml-input",
    )  # fmt: skip
    good = "1\n\nH 0 0 0\n"
    for what, options, names in (
        ("unit without sign", ["--unit", "forces"], "forces"),
        ("unit of nothing", ["--unit", "forces=parsec"], "parsec"),
        ("spacing NaN", ["--spacing-fs", "nan"], "spacing"),
        ("spacing negative", ["--spacing-fs", "-1"], "spacing"),
        ("topology missing", ["--topology", "nowhere.pdb"], "nowhere"),
        ("weights", ["--weights", "nowhere.safetensors"], "nowhere"),
    ):
        yield Case(name=f"trajectory: {what}", build=judged("t.xyz", good, *options), names=names)
