"""The program as a person calls it, without the audit that follows a run; and what is watched while it works."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scene
import yaml

from qmml_md import cli
from qmml_md.commands import runs
from qmml_md.engine import learner
from qmml_md.engine.journal import Journal
from qmml_md.engine.run import Run
from qmml_md.ensemble.weights import serialise
from qmml_md.reference.label import label_key
from qmml_md.reference.store import LabelStore

try:
    from qmml_md.reference.stored import StoredReference
except ImportError:
    from qmml_md.reference.store import StoredReference  # type: ignore[attr-defined,no-redef]

#: Checkpoints whose place among the steps is remembered.
MOST_CHECKPOINTS = 1000


def write_config(variant: str, files: Path, **changes: dict[str, Any]) -> Path:
    """The configuration of a variant as a file beside its files."""
    config = scene.configuration(variant, files, **changes)
    path = files / f"{variant}-{os.getpid()}.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)))
    return path


def start(config: Path, out: Path) -> int:
    """``qmml run``."""
    return _command("run", str(config), "--out", str(out))


def resume(out: Path) -> int:
    """``qmml resume``."""
    return _command("resume", str(out))


def check(out: Path) -> int:
    """``qmml check``."""
    return cli.main(["check", str(out)])


def _command(*arguments: str) -> int:
    # An audit takes longer than all the rest, and writes nothing that the run goes on from.
    runs.audit_and_report = lambda run, out: 0  # type: ignore[assignment]
    return cli.main(list(arguments))


def remember_base_anchors() -> None:
    """Compute once what every run computes anew from its weights alone: half of the time of a run."""
    compute, known = learner.base_anchors, dict[str, Any]()

    def recall(base: Any) -> Any:
        digest = serialise(base)[1]
        if digest not in known:
            known[digest] = compute(base)
        return known[digest]

    learner.base_anchors = recall


class Watch:
    """What a benchmark remembers of a process that is about to be killed.

    ``numbers[0]`` counts steps of dynamics; ``numbers[1 + k]`` is that count when checkpoint k began to be written.
    """

    def __init__(self, numbers: np.ndarray, paid: Path) -> None:
        """Watch.

        Args:
            numbers: shared with the process, shape (1 + MOST_CHECKPOINTS,).
            paid: file, outside the run, for the labels that are computed.
        """
        self.numbers, self._paid = numbers, paid

    def begin(self) -> None:
        """In the process that is watched."""
        _before(Journal, "commit", self._commits)
        after(Run, "advance", self._steps)
        _before(StoredReference, "compute", self._computes)
        _before(LabelStore, "put", self._keeps)

    def lost(self, checkpoint: int | None) -> int:
        """Steps that were done and are not in a checkpoint; all of them without one."""
        return int(self.numbers[0] - (0 if checkpoint is None else self.numbers[1 + checkpoint]))

    def _steps(self, run: Run) -> None:
        self.numbers[0] += 1

    def _commits(self, journal: Journal, *args: Any, **options: Any) -> None:
        self.numbers[1 + journal.next_checkpoint] = self.numbers[0]

    def _computes(self, reference: Any, cluster: Any, *args: Any, **options: Any) -> None:
        self._tell("begun", label_key(cluster, reference.level))

    def _keeps(self, store: LabelStore, label: Any, *args: Any, **options: Any) -> None:
        self._tell("computed", label.key)

    def _tell(self, what: str, key: str) -> None:
        line = os.open(self._paid, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(line, f"{what} {key}\n".encode())
        os.close(line)


def begun(paid: Path) -> list[str]:
    """Keys of the labels that were begun, in order."""
    lines = paid.read_text().splitlines() if paid.exists() else []
    return [line.split()[1] for line in lines if line.startswith("begun")]


def computed(paid: Path) -> list[str]:
    """Keys of the labels whose computation came to an end, in order."""
    lines = paid.read_text().splitlines() if paid.exists() else []
    return [line.split()[1] for line in lines if line.startswith("computed")]


def _before(owner: type, name: str, tell: Callable[..., None]) -> None:
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        tell(self, *args, **options)
        return real(self, *args, **options)

    setattr(owner, name, call)


def after(owner: type, name: str, tell: Callable[..., None]) -> None:
    """From now on, tell of every call of a method when it is done."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        result = real(self, *args, **options)
        tell(self)
        return result

    setattr(owner, name, call)
