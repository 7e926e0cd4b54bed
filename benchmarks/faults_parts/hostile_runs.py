"""Run directories that are meant to harm whoever looks at them; every hash in them is made to fit."""

import hashlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bad_runs import COMMANDS, good_run, statement
from hostile_files import SECRET, Build, Payload, Trap, evil_system, object_array

from qmml_md.system.archive import read_archive

Change = Callable[[Path, Path], None]


def traps() -> list[Trap]:
    """All of them."""
    return [*_databases(), *_labels(), *_arrays(), *_json(), *_escapes(), *_systems()]


def forged(command: str, change: Change) -> Build:
    """A copy of the good run with a change, its hashes made to fit, and a command that is to read it."""

    def build(folder: Path, canary: Path) -> Sequence[str]:
        run = folder / "run"
        shutil.copytree(good_run(), run)
        (folder / "secret").write_text(SECRET)
        change(run, canary)
        fit(run)
        return COMMANDS[command](run, folder)

    return build


def fit(run: Path) -> None:
    """Make every hash that a run keeps fit its files, as whoever forges one would."""
    (run / "seal.json").unlink(missing_ok=True)
    connection = sqlite3.connect(run / "run.db")
    try:
        for manifest in run.glob("checkpoints/*/manifest.json"):
            files = [path for path in manifest.parent.iterdir() if path.is_file() and path != manifest]
            manifest.write_text(json.dumps({path.name: _sha(path) for path in files}))
            numbers = (_sha(manifest), int(manifest.parent.name))
            connection.execute("UPDATE checkpoints SET sha256=? WHERE id=?", numbers)
        row = connection.execute("SELECT value FROM meta WHERE key='files'").fetchone()
        if row is not None:
            found = {name: _sha(run / name) for name in json.loads(row[0]) if (run / name).is_file()}
            connection.execute("UPDATE meta SET value=? WHERE key='files'", (json.dumps(found),))
        for path in run.glob("segments/*.h5"):
            digest = _sha(path) if path.is_file() else ""
            connection.execute("UPDATE segments SET sha256=? WHERE file=?", (digest, f"segments/{path.name}"))
        connection.commit()
    except sqlite3.Error:
        connection.rollback()  # a forged schema refuses even its forger
    finally:
        connection.close()


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _databases() -> Iterator[Trap]:
    trigger = "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM ledger; END"
    view = ("ALTER TABLE events RENAME TO e2", "CREATE VIEW events AS SELECT * FROM e2")
    virtual = ("DROP TABLE timings", "CREATE VIRTUAL TABLE timings USING fts5(part, seconds, calls)")
    generated = ("DROP TABLE timings", "CREATE TABLE timings (part TEXT, seconds REAL GENERATED ALWAYS AS (1), calls)")
    endless = "CREATE VIEW w AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x FROM c"

    def fires(folder: Path, canary: Path) -> None:
        connection = sqlite3.connect(folder / "run" / "run.db")
        connection.execute("INSERT INTO events(step, time_ps, kind, message, data) VALUES (0, 0, 'x', 'x', '{}')")
        if connection.execute("SELECT COUNT(*) FROM ledger").fetchone()[0] == 0:
            canary.touch()
        connection.close()

    changes: dict[str, tuple[str, ...]] = {
        "trigger": ("INSERT INTO ledger VALUES (999, 0, 0, 'heat', 0, 0, 'x', 0)", trigger),
        "view": view, "virtual table": virtual, "generated column": generated, "endless view": (endless,),
    }  # fmt: skip
    for name, lines in changes.items():
        for command in ("status", "resume", "audit"):
            change = statement(*lines)
            yield Trap(
                kind="SQLite that computes", name=f"{command}, {name}",
                build=forged(command, lambda run, canary, change=change: change(run)), names=r"run\.db",
                unsafe=fires if name == "trigger" and command == "status" else None,
            )  # fmt: skip
    huge = statement("UPDATE events SET data = zeroblob(300000000)")
    yield Trap(kind="SQLite bombs", name="blob", build=forged("status", lambda r, c: huge(r)), names=r"run\.db")


def _labels() -> Iterator[Trap]:
    array = json.dumps({"label_key": {"__ndarray__": [[4000, 1000, 1000], "float64", 0.0]}})
    built = json.dumps({"label_key": {"__ase_objtype__": "atoms", "numbers": [1] * 9}})

    def table(*lines: str) -> Change:
        def change(run: Path, canary: Path) -> None:
            connection = sqlite3.connect(run / "labels.db")
            for line in lines:
                connection.execute(line)
            connection.commit()
            connection.close()

        return change

    changes = {
        "array of 32 GB": table("UPDATE systems SET key_value_pairs='" + array + "'"),  # noqa: S608 - text from above
        "objects": table("UPDATE systems SET key_value_pairs='" + built + "'"),  # noqa: S608 - text from above
        "trigger": table("CREATE TRIGGER t AFTER INSERT ON systems BEGIN DELETE FROM systems; END"),
        "view": table("ALTER TABLE keys RENAME TO k2", "CREATE VIEW keys AS SELECT * FROM k2"),
        "numbers cut": table("UPDATE systems SET positions=x'00'"),
        "data is no ASE": table("UPDATE systems SET data='{'"),
        "data points beyond": table("UPDATE systems SET data=x'ffffffffffffff7f00'"),
    }
    for name, change in changes.items():
        for command in ("resume", "train"):
            yield Trap(kind="label stores", name=f"{command}, {name}", build=forged(command, change),
                       names=r"labels\.db")  # fmt: skip


def _arrays() -> Iterator[Trap]:
    def unsafe(folder: Path, canary: Path) -> None:
        np.load(io.BytesIO(object_array(canary)), allow_pickle=True)[0].close()

    head = b"\x93NUMPY\x01\x00"
    about = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 9, 3), }"
    lying = head + (118).to_bytes(2, "little") + about.ljust(117) + b"\n"

    def put(content: Callable[[Path], bytes]) -> Change:
        def change(run: Path, canary: Path) -> None:
            for path in run.glob("checkpoints/*/snapshots.npy"):
                path.write_bytes(content(canary))

        return change

    def zipped(canary: Path) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, a=np.array([Payload(canary)], dtype=object), allow_pickle=True)
        return buffer.getvalue()

    for name, content in {"objects": object_array, "lying shape": lambda c: lying, "npz": zipped}.items():
        for command in ("resume", "train"):
            yield Trap(
                kind="arrays of objects", name=f"{command}, {name}", build=forged(command, put(content)),
                names="checkpoint", unsafe=unsafe if name == "objects" else None,
            )  # fmt: skip


def _json() -> Iterator[Trap]:
    contents = {"depth": "[" * 200_000, "digits": '{"step": ' + "9" * 1_000_000 + "}", "a list": "[1]", "NaN": "NaN"}
    for name, text in contents.items():
        for file in ("state.json", "clusters.json"):

            def change(run: Path, canary: Path, text: str = text, file: str = file) -> None:
                for path in run.glob(f"checkpoints/*/{file}"):
                    path.write_text(text)

            yield Trap(kind="JSON bombs", name=f"{file}, {name}", build=forged("resume", change), names="checkpoint")


def _escapes() -> Iterator[Trap]:
    def config(old: str, new: str) -> Change:
        def change(run: Path, canary: Path) -> None:
            path = run / "config.yaml"
            path.write_text(path.read_text().replace(old, new))

        return change

    def link(pattern: str) -> Change:
        def change(run: Path, canary: Path) -> None:
            for k, path in enumerate(sorted(run.glob(pattern))):
                outside = run.parent / f"outside{k}"
                shutil.move(path, outside)
                path.symlink_to(outside)

        return change

    traps: dict[str, tuple[str, Change, str]] = {
        "segment up": ("export", lambda r, c: statement("UPDATE segments SET file='../secret'")(r), "secret"),
        "segment absolute": ("export", lambda r, c: statement("UPDATE segments SET file='/etc/passwd'")(r), "passwd"),
        "segment link": ("export", link("segments/*.h5"), r"\.h5"),
        "model link": ("resume", link("models/*.safetensors"), "model"),
        "checkpoint link": ("resume", link("checkpoints/*"), "checkpoint"),
        "model up": ("train", lambda r, c: statement("UPDATE models SET id='../../secret'")(r), "secret"),
        "structure up": ("resume", config("structure: structure.pdb", "structure: ../secret.pdb"), "secret|structure"),
        "structure absolute": ("resume", config("structure: structure.pdb", "structure: /etc/passwd"), "passwd|struct"),
        "YAML tags": ("audit", config("title: ''", "title: !!python/object/apply:os.getcwd []"), "config.yaml"),
    }  # fmt: skip
    for name, (command, change, names) in traps.items():
        kind = "YAML tags" if name == "YAML tags" else "paths that escape"
        yield Trap(kind=kind, name=f"{command}, {name}", build=forged(command, change), names=names)


def _systems() -> Iterator[Trap]:
    """A force field that came with a run."""

    def build(folder: Path, canary: Path) -> Callable[[], Any]:
        xml = evil_system(canary)
        told = {"topology": {"chains": [], "bonds": []}, "numbers": [], "masses": [], "positions": [], "box": None,
                "bonds": [], "formal_charge": [], "atoms": [], "links": [], "distances_nm": []}  # fmt: skip
        (folder / "field.xml").write_text(xml)
        (folder / "system.json").write_text(
            json.dumps({**told, "field_sha256": hashlib.sha256(xml.encode()).hexdigest()})
        )
        return lambda: read_archive(folder)

    yield Trap(kind="System XML", name="of a run", build=build, names="field|system")

    def state(run: Path, canary: Path) -> None:
        for path in run.glob("checkpoints/*/openmm.xml"):
            path.write_text(evil_system(canary))
        for path in run.glob("checkpoints/*/openmm.chk"):
            path.write_bytes(b"no checkpoint")

    yield Trap(kind="System XML", name="as a state", build=forged("resume", state), names="state|checkpoint")
