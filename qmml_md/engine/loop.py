"""The run: start or resume it, and go on until the last step or until somebody asks it to stop.

At every step where something is due the order is: look (instant, disagreement, region), store the frame, label and
learn, commit. A commit at step s therefore holds everything up to s, and resuming goes on with step s + 1. Step 0 is
committed once before anything is due at it, so that a label that it asks for cannot be lost.
"""

from contextlib import ExitStack
from pathlib import Path

from ..config import Config
from ..config_file import load_config
from ..errors import LabelAbandoned, RunDirectoryError
from ..records.database import RunDatabase
from ..records.lock import locked
from ..records.run_directory import RunDirectory
from ..records.seal import break_seal, seal
from .origin import Origin
from .progress import Progress
from .resumption import go_on
from .run import Run
from .setup import begin
from .signals import StopWish, listening


def start(
    config: Config,
    *,
    config_dir: Path,
    out: Path,
    progress: Progress,
    origin: Origin | None = None,
    max_wall_s: float | None = None,
) -> RunDirectory:
    """Run a configuration from step 0.

    Everything that can be known to be wrong is found before the run directory is made.

    Args:
        config: as validated.
        config_dir: where relative paths of the configuration start.
        out: run directory to make; must not exist, or be empty, or hold a run that ended before its first commit.
        progress: told where the run stands.
        origin: the frame of another run to begin from, instead of the structure.
        max_wall_s: time within which to stop resumably, s.

    Returns:
        The run directory; the run ended early if its last event is not `finish`.

    Raises:
        QmmlError: bad input, or dynamics that cannot go on; the last commit is whole.
    """
    directory = RunDirectory(out)
    with listening(max_wall_s) as wish, ExitStack() as held:
        run = begin(config, config_dir, directory, progress, wish, held, origin)
        _carry_out(run, directory, config.dynamics.steps, wish)
    return directory


def resume(
    out: Path, *, progress: Progress, max_wall_s: float | None = None, platform: str | None = None
) -> RunDirectory:
    """Go on from the last commit.

    Args:
        out: run directory of a run that was interrupted.
        progress: told where the run stands.
        max_wall_s: time within which to stop resumably, s.
        platform: OpenMM platform to go on with, if not the one of the configuration.

    Raises:
        RunDirectoryError: there is no run, or it is finished, in use or damaged, or nothing was committed.
        QmmlError: as for ``start``.
    """
    directory = RunDirectory(out)
    _refuse_finished(directory.open_database(), out)
    config = load_config(directory.config)
    if platform is not None:
        config = config.model_copy(update={"ensemble": config.ensemble.model_copy(update={"platform": platform})})
    with listening(max_wall_s) as wish, locked(directory.lock):
        run = go_on(config, directory, progress, wish)
        # Not before everything was read: what is refused stays as it is.
        break_seal(directory)
        _carry_out(run, directory, config.dynamics.steps, wish)
    return directory


def _refuse_finished(database: RunDatabase, out: Path) -> None:
    try:
        if any(event.kind == "finish" for event in database.events()):
            raise RunDirectoryError(f"the run in {out} is finished", cure="`qmml audit` and `qmml report` look at it")
        if database.last_checkpoint() is None:
            raise RunDirectoryError(
                f"the run in {out} ended before its first commit", cure="start it again with `qmml run`"
            )
    finally:
        database.close()


def _carry_out(run: Run, directory: RunDirectory, steps: int, wish: StopWish) -> None:
    """Go on to the end, and seal what has come to rest."""
    try:
        _go(run, steps, wish)
    finally:
        run.close()
    seal(directory)


def _go(run: Run, steps: int, wish: StopWish) -> None:
    """Step until the end or until asked to stop."""
    try:
        while run.state.step < steps and not wish:
            run.onward()
            if wish.take_commit():
                run.commit(scheduled=False)
    except LabelAbandoned:
        # Within a look nothing can be committed; the last commit stands, and the label is begun again.
        return
    if run.state.step >= steps:
        run.finish("finish", f"all {steps} steps are done")
    else:
        run.finish("stop", f"stopped by {wish.why}; everything is committed")
