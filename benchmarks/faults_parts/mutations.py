"""Fuzzing: valid files with a few bytes, lines or words changed at random, from one seed."""

from collections.abc import Callable, Iterator

import numpy as np
import yaml
from bad_configs import ETHANOL, plain, validating
from bad_files import ETHANE, FIELDS, THING, dry, judged, with_field
from probe import Case

#: What takes the place of a word: numbers at the ends of their range, and text that a parser may trip over.
EXTREMES = (
    b"nan", b"inf", b"-inf", b"1e308", b"-1e308", b"1e-320", b"0", b"-1", b"99999999999999999999", b"0x7f", b"~",
    b"null", b"true", b"[]", b"{}", b"'", b'"', b"%", b"\0", b"\xff\xfe", b"\xe2\x80\xae", b"!!python/object:os.system",
    b"&a", b"*a", b"../../etc/passwd", b"1e5", b"1_000", b"010", b"-0", b"", b"\t", b"#", b"|", b">", b"@", b"`",
    b"2001-01-01", b"1:2:3",
)  # fmt: skip
#: Inputs of each kind in the full form.
COUNT = 90


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four changes."""
    for _ in range(int(rng.integers(1, 5))):
        content = WAYS[int(rng.integers(len(WAYS)))](content, rng)
    return content


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(content)
    for place in rng.integers(0, max(len(found), 1), int(rng.integers(1, 9))):
        if len(found):
            found[int(place)] ^= 1 << int(rng.integers(8))
    return bytes(found)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content) + 1))]


def _lines(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return content
    i, j, way = (*rng.integers(0, len(lines), 2).tolist(), int(rng.integers(4)))
    if way == 0:
        del lines[i]
    elif way == 1:
        lines.insert(j, lines[i])
    elif way == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = lines[i].rstrip(b"\n")
    return b"".join(lines)


def _word(content: bytes, rng: np.random.Generator) -> bytes:
    words = content.split(b" ")
    places = [k for k, word in enumerate(words) if word.strip()]
    if not places:
        return content
    k = places[int(rng.integers(len(places)))]
    end = b"\n" if words[k].endswith(b"\n") else b""
    words[k] = EXTREMES[int(rng.integers(len(EXTREMES)))] + end
    return b" ".join(words)


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    place, size = int(rng.integers(0, len(content) + 1)), int(rng.integers(1, 40))
    return content[:place] + rng.integers(0, 256, size, dtype=np.uint8).tobytes() + content[place:]


WAYS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (_flip, _cut, _lines, _word, _word, _insert)


def fuzzed(seed: int = 6) -> list[Case]:
    """Inputs of all kinds in turn."""
    streams = [_configs, _pdb, _cif, _xyz, _trajectories, *(_field(kind) for kind in FIELDS)]
    children = np.random.SeedSequence(seed).spawn(len(streams))
    kinds = [stream(np.random.default_rng(child)) for stream, child in zip(streams, children, strict=True)]
    return [next(kind) for _ in range(COUNT) for kind in kinds]


def _configs(rng: np.random.Generator) -> Iterator[Case]:
    config = plain()
    config["region"] = {"enter_eV_per_A": 0.6, "stay_eV_per_A": 0.4, "seed": "index 0", "max_qm_atoms": 24}
    config["learning"] = {"learning_rate": 3e-4, "bootstrap": True, "update_policy": "abrupt"}
    config["system"]["formal_charges"] = {"ETH": 0}
    good = yaml.safe_dump(config, sort_keys=False).encode()
    number = 0
    while True:
        build = validating(mutated(good, rng))
        yield Case(name=f"fuzzed config {number}", build=build, names=r"config\.yaml", surely=False)
        number += 1


def _pdb(rng: np.random.Generator) -> Iterator[Case]:
    return _structures("x.pdb", ETHANOL.read_bytes(), rng)


def _cif(rng: np.random.Generator) -> Iterator[Case]:
    return _structures("x.cif", (ETHANE / "ethane.cif").read_bytes(), rng)


def xyz() -> bytes:
    """Ethanol as extended XYZ in a box, with an energy."""
    rows = [line for line in ETHANOL.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    lines = [f"{row[76:78].strip()} {row[30:38]} {row[38:46]} {row[46:54]}" for row in rows]
    head = 'Lattice="30 0 0 0 30 0 0 0 30" Properties=species:S:1:pos:R:3 energy=-154.0 pbc="T T T"'
    return "\n".join([str(len(rows)), head, *lines, ""]).encode()


def _xyz(rng: np.random.Generator) -> Iterator[Case]:
    return _structures("x.xyz", xyz(), rng)


def _structures(name: str, good: bytes, rng: np.random.Generator) -> Iterator[Case]:
    number = 0
    while True:
        pattern = rf"{name.replace('.', '[.]')}|{THING}|the box is"
        yield Case(name=f"fuzzed {name} {number}", build=dry(name, mutated(good, rng)), names=pattern, surely=False)
        number += 1


def _trajectories(rng: np.random.Generator) -> Iterator[Case]:
    number = 0
    while True:
        build = judged("t.xyz", mutated(xyz() * 3, rng))
        yield Case(name=f"fuzzed trajectory {number}", build=build, names=r"t\.xyz|atom", surely=False)
        number += 1


def _field(kind: str) -> Callable[[np.random.Generator], Iterator[Case]]:
    names = [str(each) for value in FIELDS[kind].values() for each in (value if isinstance(value, list) else [value])]

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        number = 0
        while True:
            name = names[int(rng.integers(len(names)))]
            build = with_field(kind, {name: mutated((ETHANE / name).read_bytes(), rng)})
            yield Case(
                name=f"fuzzed {kind} {number}, {name}", build=build, surely=False,
                names=rf"ethane\.|{THING}|template for residue|charge|force field|the box is",
            )  # fmt: skip
            number += 1

    return cases
