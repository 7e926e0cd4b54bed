"""Run directories that are wrong: files missing, cut, exchanged or of another kind, and tables that say odd things."""

import functools
import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bad_configs import ETHANOL, MINI
from probe import Case

from qmml_md.config import Config
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.records.rows import Event

STEPS = 60
#: Commands that read a run, with what they need beside it; each is given the run and an empty folder.
COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "status": lambda run, out: ["status", str(run)],
    "resume": lambda run, out: ["resume", str(run)],
    "audit": lambda run, out: ["audit", str(run)],
    "report": lambda run, out: ["report", str(run)],
    "export": lambda run, out: ["export", str(run), str(out / "t.xtc")],
    "train": lambda run, out: ["train", str(run), "--out", str(out / "trained")],
    "check": lambda run, out: ["check", str(run)],
    "run": lambda run, out: ["run", "--from", f"{run}@0", "--out", str(out / "next")],
}


class _StopAfterTraining(Silent):
    """Asks for a stop when the model has been trained, whatever the gate says of it."""

    def event(self, event: Event) -> None:
        if event.kind in ("update_accepted", "update_refused"):
            os.kill(os.getpid(), signal.SIGTERM)


@functools.cache
def good_run() -> Path:
    """A run that learned from one label and was stopped, from which copies are made; it goes with the process."""
    folder = Path(_keep(tempfile.TemporaryDirectory(prefix="qmml-good-")).name)
    plain = {
        "system": {"structure": str(ETHANOL)},
        "ensemble": {"weights": str(MINI), "threads": 1, "platform": "Reference"},
        "dynamics": {"integrator": "langevin", "timestep_fs": 0.25, "steps": STEPS, "minimise": False},
        "region": {"check_every_steps": 20, "enter_eV_per_A": 0.02, "stay_eV_per_A": 0.01, "labels_per_trigger": 1},
        "reference": {"method": "hf", "basis": "sto-3g", "density_fit": False, "max_labels": 1},
        "learning": {"max_epochs": 5, "keep_known": False, "max_worsening": 100.0, "bootstrap": False},
        "output": {"frame_every_steps": 5, "commit_every_steps": 20},
    }
    start(Config.model_validate(plain), config_dir=folder, out=folder / "run", progress=_StopAfterTraining())
    return folder / "run"


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _keep(folder: "tempfile.TemporaryDirectory[str]") -> "tempfile.TemporaryDirectory[str]":
    _KEPT.append(folder)
    return folder


def spoiled(command: str, change: Callable[[Path], None]) -> Callable[[Path], Sequence[str]]:
    """A copy of the good run with a change, and a command that is to read it."""

    def build(folder: Path) -> list[str]:
        run = folder / "run"
        shutil.copytree(good_run(), run)
        change(run)
        return COMMANDS[command](run, folder)

    return build


def statement(*lines: str) -> Callable[[Path], None]:
    """Changes tables of ``run.db``."""

    def change(run: Path) -> None:
        connection = sqlite3.connect(run / "run.db")
        for line in lines:
            connection.execute(line)
        connection.commit()
        connection.close()

    return change


def case(name: str, command: str, change: Callable[[Path], None], names: str, *, surely: bool = True) -> Case:
    """One change of a run, seen by one command."""
    checks = command == "check"
    return Case(
        name=f"{command}: {name}",
        build=spoiled(command, change),
        names=names,
        surely=surely,
        codes=(1, 2) if checks else (2,),
        spoken=checks,
    )


def curated() -> list[Case]:
    """All of them."""
    return [*_no_runs(), *_files(), *_tables()]


def _no_runs() -> Iterator[Case]:
    def nothing(folder: Path) -> None:
        shutil.rmtree(folder)

    def empty(folder: Path) -> None:
        nothing(folder)
        folder.mkdir()

    def a_file(folder: Path) -> None:
        nothing(folder)
        folder.write_text("run")

    def other(folder: Path) -> None:
        empty(folder)
        (folder / "notes.txt").write_text("mine")

    def a_link(folder: Path) -> None:
        nothing(folder)
        folder.symlink_to(folder.parent / "elsewhere")

    changes = (("no folder", nothing), ("empty", empty), ("a file", a_file), ("other", other), ("dangling", a_link))
    for command in COMMANDS:
        for what, change in changes:
            yield case(what, command, change, r"/run\b")


#: Files of a run, and the commands that need each.
NEEDED: dict[str, tuple[str, ...]] = {
    "run.db": tuple(COMMANDS),
    "config.yaml": ("resume", "audit", "train", "check"),
    "segments/*": ("export", "audit", "check", "run"),
    "models/*.safetensors": ("resume", "check", "train"),
    "checkpoints/*/manifest.json": ("resume", "check", "train"),
    "checkpoints/*/state.json": ("resume", "check", "train"),
    "checkpoints/*/clusters.json": ("resume", "check", "train"),
    "checkpoints/*/snapshots.npy": ("resume", "check", "train"),
    "checkpoints/*/openmm.chk": ("resume", "check", "train"),
    "labels.db": ("resume", "check", "train"),
    "structure.pdb": ("resume", "check"),
}


#: Commands that are given pipes in place of files; a hang would take as long as the probe is patient.
PIPED = ("resume", "check")


def _files() -> Iterator[Case]:
    def missing(path: Path) -> None:
        path.unlink()

    def empty(path: Path) -> None:
        path.write_bytes(b"")

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def garbage(path: Path) -> None:
        path.write_bytes(bytes(range(256)) * 40)

    def words(path: Path) -> None:
        path.write_text("lorem ipsum\n" * 100)

    def folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    def dangling(path: Path) -> None:
        path.unlink()
        path.symlink_to("nowhere")

    def pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    ways = (missing, empty, cut, garbage, words, folder, dangling, pipe)
    for pattern, commands in NEEDED.items():
        name = Path(pattern).name.replace("*.", r"\w+\.").replace("*", r"\d+\.h5")
        names = rf"{name}|checkpoint|models" if "/" in pattern else name
        for command in commands:
            for way in ways:
                if way is pipe and command not in PIPED:
                    continue
                if way is cut and pattern == "config.yaml" and command != "resume":
                    continue  # half of a configuration is one

                def change(run: Path, pattern: str = pattern, way: Callable[[Path], None] = way) -> None:
                    for path in sorted(run.glob(pattern)):
                        way(path)

                yield case(f"{pattern} {way.__name__}", command, change, names)


def _tables() -> Iterator[Case]:
    yield from _odd_rows()
    for table in ("meta", "segments", "ledger", "events", "regions", "models", "labels", "timings", "checkpoints"):
        for command in ("status", "resume", "audit", "check"):
            yield case(f"no table {table}", command, statement(f"DROP TABLE {table}"), rf"{table}|run\.db")
    for command in COMMANDS:
        version = statement("UPDATE meta SET value='99' WHERE key='schema_version'")
        yield case("a later version", command, version, "version 99")
        text = statement("UPDATE meta SET value='soon' WHERE key='schema_version'")
        yield case("version in words", command, text, r"run\.db")


def _odd_rows() -> Iterator[Case]:
    rows = {
        "segment is elsewhere": ("UPDATE segments SET file='../../../etc/passwd'", ("export", "audit", "check")),
        "segment is absolute": ("UPDATE segments SET file='/etc/passwd'", ("export", "audit", "check")),
        "segment is a number": ("UPDATE segments SET file=17", ("export", "audit", "check")),
        "segment is a blob": ("UPDATE segments SET file=x'00ff'", ("export", "audit", "check")),
        "model is elsewhere": ("UPDATE models SET id='../../x'", ("resume", "check", "train")),
        "model is a number": ("UPDATE models SET id=3", ("resume", "check", "train")),
        "model data is no JSON": ("UPDATE models SET data='{'", ("status", "resume", "audit", "check", "train")),
        "model data is a list": ("UPDATE models SET data='[1]'", ("check",)),
        "event data is no JSON": ("UPDATE events SET data='{'", ("status", "resume", "audit", "check")),
        "event step is text": ("UPDATE events SET step='now'", ("check",)),
        "account is unknown": ("UPDATE ledger SET account='bribe'", ("audit", "check", "resume", "status")),
        "region is no JSON": ("UPDATE regions SET atoms='x'", ("status", "audit", "check")),
        "region is a number": ("UPDATE regions SET atoms='7'", ("audit", "check")),
        "region is beyond": ("UPDATE regions SET atoms='[100000]'", ("audit", "check")),
        "label data is no JSON": ("UPDATE labels SET data='{'", ("status", "resume", "audit", "check", "train")),
        "label key is unknown": ("UPDATE labels SET key='0'", ("check", "train")),
        "label key is a number": ("UPDATE labels SET key=0", ("check", "train")),
        "checkpoint is another": ("UPDATE checkpoints SET id=id+7", ("resume", "check", "train")),
        "checkpoint is negative": ("UPDATE checkpoints SET id=-id-1", ("resume", "check")),
        "checkpoint is text": ("UPDATE checkpoints SET step='x'", ("check",)),
        "no checkpoint": ("DELETE FROM checkpoints", ("resume", "train")),
        "no segment": ("DELETE FROM segments", ("export", "audit", "run")),
        "no model": ("DELETE FROM models", ("resume", "audit", "train")),
        "frames without end": ("UPDATE segments SET frames=1000000000", ("check",)),
        "steps backwards": ("UPDATE segments SET first_step=9, last_step=1", ("check",)),
    }  # fmt: skip
    for name, (line, commands) in rows.items():
        for command in commands:
            yield case(name, command, statement(line), r"run\.db|segment|model|checkpoint|label|region|/run\b")


def edited_json(run: Path, pattern: str, change: Callable[[dict[str, object]], None]) -> None:
    """Changes JSON files of a run."""
    for path in run.glob(pattern):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
