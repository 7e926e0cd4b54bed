"""Rounds: the same run again on the model that the last one ended with, its labels replayed, until nothing is to learn.

A series of runs lies in one folder. Each is a run directory of its own; what is done is read from there, so that a
series that was interrupted goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ..config import Config
from ..config_file import load_config
from ..ensemble.weights import load
from ..records.rows import Event
from ..records.run_directory import RunDirectory
from ..records.scores import pooled
from ..reference.label import Label
from .checkpoint import read_checkpoint
from .loop import resume, start
from .offline import Score, label_keys, score, stored_labels
from .origin import Origin, read_origin
from .progress import Progress


class Standing(StrEnum):
    """How far a run of a series is."""

    TO_DO = "to do"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSummary:
    """What one run of a series came to.

    Attributes:
        labels: labels scored in it that were not known before.
        held_out: of them, never trained on.
        replayed: labels of earlier runs that it learned from.
        paid: of the scored ones, computed and not taken from the store.
        paid_s: their wall time, s.
        accepted, refused: model updates.
        force_rmse, force_rmse_start: prequential force RMSE of the model in use and of the model that the run began
            with, pooled over the labels scored, eV/Å; NaN without any.
        first_model, final_model: identities.
    """

    labels: int
    held_out: int
    replayed: int
    paid: int
    paid_s: float
    accepted: int
    refused: int
    force_rmse: float
    force_rmse_start: float
    first_model: str
    final_model: str

    @property
    def idle(self) -> bool:
        """Whether it neither computed a label nor changed its model: the same run again would be the same."""
        return not self.paid and self.first_model == self.final_model


def standing(folder: Path) -> Standing:
    """How far the run in a folder is.

    Raises:
        RunDirectoryError: the folder holds a database that is no run's.
    """
    run = RunDirectory(folder)
    if not run.database.exists():
        return Standing.TO_DO
    database = run.open_database()
    try:
        events, last = database.events(), database.last_checkpoint()
    finally:
        database.close()
    if last is None:
        return Standing.TO_DO
    return Standing.FINISHED if any(event.kind == "finish" for event in events) else Standing.INTERRUPTED


def carry_out(
    config: Config, config_dir: Path, folder: Path, *, progress: Progress, origin: Origin | None = None
) -> RunDirectory:
    """Start the run in a folder, resume it, or leave it as it is if it is finished.

    Args:
        config: of the run.
        config_dir: where its relative paths start.
        folder: of the run.
        progress: told where the run stands.
        origin: where it begins, instead of the structure.

    Returns:
        The run; it ended early if its last event is `stop`.

    Raises:
        QmmlError: as for ``loop.start``.
    """
    found = standing(folder)
    if found is Standing.FINISHED:
        return RunDirectory(folder)
    if found is Standing.INTERRUPTED:
        return resume(folder, progress=progress)
    return start(config, config_dir=config_dir, out=folder, progress=progress, origin=origin)


def again(folder: Path, max_labels: int) -> tuple[Config, Path, Origin]:
    """The same run once more, on the model that it ended with.

    It begins where the run stood at step 0, with the same velocities, and knows all labels that the run knew. It may
    compute as many labels on top of these as a run that knows none.

    Args:
        folder: of a finished run.
        max_labels: most labels that each run may compute.

    Returns:
        Configuration, the folder that its relative paths start from, and the origin.

    Raises:
        RunDirectoryError: the run has no commit, or something of it is missing.
    """
    origin = read_origin(folder, 0)
    trained, held_out = labels_of(folder)
    config = with_budget(load_config(origin.run.config), max_labels + len(trained) + len(held_out))
    return config, folder, replace(origin, labels=tuple(trained), held_out=tuple(held_out))


def with_budget(config: Config, max_labels: int) -> Config:
    """The same run with another number of labels that it may know."""
    return config.model_copy(update={"reference": config.reference.model_copy(update={"max_labels": max_labels})})


def summarise(folder: Path, known: Sequence[str] = ()) -> RoundSummary:
    """What the run in a folder came to.

    Args:
        folder: of the run.
        known: keys of the labels that it began with.

    Raises:
        RunDirectoryError: there is no run, or it has no commit.
    """
    database = RunDirectory(folder).open_database()
    try:
        rows, events, models = database.labels(), database.events(), database.models()
    finally:
        database.close()
    # A label that the first model was trained on already says nothing about its error elsewhere.
    rows = [row for row in rows if row.key not in set(known)]
    paid = [row for row in rows if not row.data["reused"]]
    return RoundSummary(
        labels=len(rows),
        held_out=sum(1 for row in rows if row.data.get("held_out")),
        replayed=len(known),
        paid=len(paid),
        paid_s=float(sum(row.data["wall_time_s"] for row in paid)),
        accepted=_count(events, "update_accepted"),
        refused=_count(events, "update_refused"),
        force_rmse=pooled(rows, "force_rmse"),
        force_rmse_start=pooled(rows, "force_rmse_start"),
        first_model=models[0].id,
        final_model=models[-1].id,
    )


def labels_of(folder: Path) -> tuple[list[str], list[str]]:
    """Keys of the labels that a run learned from, those of earlier runs included, and of those that it held out.

    Raises:
        RunDirectoryError: there is no run.
    """
    run = RunDirectory(folder)
    database = run.open_database()
    try:
        rows, last = database.labels(), database.last_checkpoint()
    finally:
        database.close()
    return ([], []) if last is None else label_keys(read_checkpoint(run.checkpoint(last.id), last.sha256), rows)


def unseen_scores(folder: Path, others: Sequence[Path], *, apart: Sequence[str]) -> tuple[Score, Score, int]:
    """How a run does on labels of other runs.

    Args:
        folder: of the run.
        others: folders of runs whose labels are taken.
        apart: keys of labels that are left out: those that the run was trained on.

    Returns:
        Scores of its final model and of its first one, and the number of labels.

    Raises:
        RunDirectoryError: something of a run is missing.
    """
    run, found = RunDirectory(folder), dict[str, Label]()
    for other in others:
        database = RunDirectory(other).open_database()
        try:
            keys = [row.key for row in database.labels() if row.key not in {*apart, *found}]
        finally:
            database.close()
        found |= {label.key: label for label in stored_labels(RunDirectory(other), keys)}
    summary, precision = summarise(folder), load_config(run.config).ensemble.precision
    new, start = (
        score(load(str(run.whole_model(each)), precision), list(found.values()))
        for each in (summary.final_model, summary.first_model)
    )
    return new, start, len(found)


def _count(events: list[Event], kind: str) -> int:
    return sum(1 for event in events if event.kind == kind)
