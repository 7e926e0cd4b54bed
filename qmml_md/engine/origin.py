"""Beginning where another run stood: positions, velocities and box of a frame of it, its final model, its labels."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..config import Config
from ..config_file import load_config
from ..errors import RunDirectoryError
from ..records.frames import Floats
from ..records.run_directory import RunDirectory
from ..records.segment import read_segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a run begins.

    Attributes:
        run: the other run.
        step: of its frame.
        positions, velocities: nm and nm/ps, shape (n, 3).
        box: nm, shape (3, 3).
        weights: file of its final model.
        labels: keys of its labels in order, those of ``held_out`` left out.
        held_out: keys of its labels that were never trained on.
        checkpoint: its last one, for the unlabelled clusters; None if there is none.
    """

    run: RunDirectory
    step: int
    positions: Floats
    velocities: Floats
    box: Floats
    weights: Path
    labels: tuple[str, ...]
    held_out: tuple[str, ...]
    checkpoint: Path | None

    def name(self) -> str:
        """In the form that the command line takes."""
        return f"{self.run.root}@{self.step}"


def read_origin(root: Path, step: int) -> Origin:
    """The stored frame of a step of another run.

    Raises:
        RunDirectoryError: this is no run directory, it has no frame at that step, or its final model is missing.
    """
    run = RunDirectory(root)
    database = run.open_database()
    try:
        segments, models, labels = database.segments(), database.models(), database.labels()
        last = database.last_checkpoint()
    finally:
        database.close()
    if not segments or not models:
        raise RunDirectoryError(f"the run in {root} ended before its first commit", cure="start it again")
    weights = run.model(models[-1].id)
    if not weights.exists():
        raise RunDirectoryError(f"the final model {weights} is missing", cure="restore it from a copy of the run")
    for row in segments:
        if row.first_step <= step <= row.last_step:
            frames = read_segment(run.root / row.file)
            where = {int(s): i for i, s in enumerate(frames.step)}
            if step in where:
                i = where[step]
                return Origin(
                    run=run,
                    step=step,
                    positions=frames.positions[i],
                    velocities=frames.velocities[i],
                    box=frames.box[i],
                    weights=weights.resolve(),
                    labels=tuple(dict.fromkeys(x.key for x in labels if not x.data.get("held_out"))),
                    held_out=tuple(dict.fromkeys(x.key for x in labels if x.data.get("held_out"))),
                    checkpoint=None if last is None else run.checkpoint(last.id),
                )
    raise RunDirectoryError(
        f"the run in {root} stores no frame at step {step}",
        cure=f"name the step of a stored frame, from {segments[0].first_step} to {segments[-1].last_step}; "
        "`qmml audit` names the one to begin from",
    )


def remaining(origin: Origin) -> Config:
    """The configuration of the other run for the steps that it had left, on its final model.

    Raises:
        RunDirectoryError: no step was left.
    """
    config = load_config(origin.run.config)
    left = config.dynamics.steps - origin.step
    if left < 1:
        raise RunDirectoryError(
            f"the run in {origin.run.root} has {config.dynamics.steps} steps, none is left after step {origin.step}",
            cure="name an earlier step, or give a configuration beside --from",
        )
    return config.model_copy(update={"dynamics": config.dynamics.model_copy(update={"steps": left})})


def continued(config: Config, origin: Origin) -> Config:
    """A configuration that begins at an origin: nothing is minimised or equilibrated, the weights are the last."""
    still = {"minimise": False, "equilibration_steps": 0}
    return config.model_copy(
        update={
            "dynamics": config.dynamics.model_copy(update=still),
            "ensemble": config.ensemble.model_copy(update={"weights": str(origin.weights)}),
        }
    )


def copy_labels(origin: Origin, run: RunDirectory) -> None:
    """Labels are paid for once: the new run begins with those of the other one."""
    if origin.run.labels.exists():
        shutil.copyfile(origin.run.labels, run.labels)
