"""``qmml train``: training on the labels of a run, outside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..console import duration
from ..errors import ConfigError
from ..records.run_directory import RunDirectory
from .files import write_json
from .runs import refuse_used

if TYPE_CHECKING:
    from ..engine.offline import Material, Offline, Score

FILE = "trained.safetensors"
SUMMARY = "training.json"
#: Models in the order of the table, and what they are called there.
NAMES = {"start": "the run began with", "final": "the run ended on", "new": "trained now"}
MEV_PER_EV = 1000.0


def train_run(path: Path, *, out: Path | None, epochs: int | None, from_final: bool, even_if_refused: bool) -> int:
    """Train on the labels of a run and write the weights that came of it.

    Args:
        path: run directory; only read.
        out: new folder for weights, card and summary; by default ``RUN-trained`` beside the run.
        epochs: most optimiser steps; by default as the run's configuration says.
        from_final: begin from the run's final model instead of its first.
        even_if_refused: write the weights although the gate refuses them.

    Returns:
        0 when the gate accepts the weights, 1 when it refuses them.

    Raises:
        ConfigError: a number of epochs that makes no sense, or a folder inside the run.
        RunDirectoryError: there is no such run, nothing to train on, or the folder is taken.
    """
    if epochs is not None and epochs < 1:
        raise ConfigError("--epochs takes a positive number", cure="leave the option out")
    folder = out or path.resolve().with_name(f"{path.resolve().name}-trained")
    if folder.resolve().is_relative_to(path.resolve()):
        raise ConfigError(f"{folder} lies inside the run {path}", cure="give a folder elsewhere with --out")
    RunDirectory(path).open_database().close()
    refuse_used(folder)
    from ..engine.offline import read_material, train_offline
    from ..ensemble.weights import save

    show = Console()
    with staged("reading the run") as stage:
        material = read_material(path)
        result = train_offline(material, from_final=from_final, epochs=epochs, stage=stage)
    accepted = result.verdict.accepted
    _show(material, result, show)
    folder.mkdir(parents=True, exist_ok=True)
    written = accepted or even_if_refused
    if written:
        save(result.fit.ensemble, folder / FILE)
    write_json(folder / SUMMARY, _summary(material, result, from_final=from_final, written=written))
    what = f"weights: {folder / FILE}" if written else f"no weights were written; why: {folder / SUMMARY}"
    show.print(what, highlight=False, markup=False, soft_wrap=True)
    return 0 if accepted else 1


@contextmanager
def staged(first: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is being done; plain lines without a terminal."""
    news = Console(stderr=True)
    with news.status(first) as live:

        def tell(what: str) -> None:
            live.update(what)
            if not news.is_terminal:
                news.print(what, highlight=False, markup=False)

        yield tell


def _show(material: "Material", result: "Offline", show: Console) -> None:
    fit, verdict = result.fit, result.verdict
    show.print(_table(result, len(material.labels), len(material.held_out)))
    outcome = Text("accepted", style="bold green") if verdict.accepted else Text("refused", style="bold red")
    show.print(Text("the gate: ").append(outcome))
    for line in (*verdict.reasons, *(f"note: {each}" for each in verdict.notes)):
        show.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    met = "both tolerances met" if fit.converged else "tolerances not met"
    show.print(f"{fit.epochs} epochs in {duration(result.wall_time)}, {met}", highlight=False)


def _table(result: "Offline", trained: int, held_out: int) -> Table:
    table = Table(title="Before and after", title_justify="left")
    for column in ("labels", "model"):
        table.add_column(column)
    for column in ("force RMSE, eV/Å", "largest residual, eV/Å", "energy MAE, meV/atom"):
        table.add_column(column, justify="right")
    counts = {"trained": f"{trained} trained on", "held out": f"{held_out} held out"}
    for group, scores in result.scores.items():
        if group == "held out" and not held_out:
            table.add_row("no label was held out", "", "", "", "")
            continue
        for name, called in NAMES.items():
            table.add_row(counts[group] if name == "start" else "", called, *_numbers(scores[name]))
    return table


def _numbers(score: "Score") -> tuple[str, str, str]:
    energy = MEV_PER_EV * score.energy_mae
    return f"{score.force_rmse:.4f}", f"{score.force_maxresid:.3f}", f"{energy:.2f}"


def _summary(material: "Material", result: "Offline", *, from_final: bool, written: bool) -> dict[str, Any]:
    fit, verdict = result.fit, result.verdict
    return {
        "run": str(material.run.root.resolve()),
        "began_with": "final" if from_final else "start",
        "model": result.model_id,
        "written": written,
        "accepted": verdict.accepted,
        "reasons": list(verdict.reasons),
        "verdict": asdict(verdict),
        "epochs": fit.epochs,
        "converged": fit.converged,
        "learning_curve": [list(row) for row in fit.curve],
        "labels": [label.key for label in material.labels],
        "held_out": [label.key for label in material.held_out],
        "units": {"force_rmse": "eV/Å", "force_maxresid": "eV/Å", "energy_mae": "eV/atom"},
        "scores": {group: {name: asdict(each) for name, each in row.items()} for group, row in result.scores.items()},
        "wall_time_s": result.wall_time,
    }
