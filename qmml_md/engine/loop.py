"""The run: start or resume it, and go on until the last step or until somebody asks it to stop.

At every step where something is due the order is: look (instant, disagreement, region), store the frame, label and
learn, commit. A commit at step s therefore holds everything up to s, and resuming goes on with step s + 1.
"""

from pathlib import Path

from ..config import Config
from ..config_file import load_config
from ..errors import RunDirectoryError
from ..records.database import RunDatabase
from ..records.run_directory import RunDirectory
from .origin import Origin
from .progress import Progress
from .run import Run
from .setup import begin, go_on
from .signals import StopWish, listening


def start(
    config: Config, *, config_dir: Path, out: Path, progress: Progress, origin: Origin | None = None
) -> RunDirectory:
    """Run a configuration from step 0.

    Everything that can be known to be wrong is found before the run directory is made.

    Args:
        config: as validated.
        config_dir: where relative paths of the configuration start.
        out: run directory to make; must not exist, or be empty.
        progress: told where the run stands.
        origin: the frame of another run to begin from, instead of the structure.

    Returns:
        The run directory; the run ended early if its last event is `stop`.

    Raises:
        QmmlError: bad input, or dynamics that cannot go on; the last commit is whole.
    """
    with listening() as wish:
        directory = RunDirectory(out)
        run = begin(config, config_dir, directory, progress, wish, origin)
        try:
            _go(run, config.dynamics.steps, wish)
        finally:
            run.close()
    return directory


def resume(out: Path, *, progress: Progress) -> RunDirectory:
    """Go on from the last commit.

    Args:
        out: run directory of a run that was interrupted.
        progress: told where the run stands.

    Raises:
        RunDirectoryError: there is no run, or it is finished, or nothing was committed.
        QmmlError: as for ``start``.
    """
    directory = RunDirectory(out)
    _refuse_finished(directory.open_database(), out)
    config = load_config(directory.config)
    with listening() as wish:
        run = go_on(config, directory, progress)
        try:
            _go(run, config.dynamics.steps, wish)
        finally:
            run.close()
    return directory


def _refuse_finished(database: RunDatabase, out: Path) -> None:
    try:
        if any(event.kind == "finish" for event in database.events()):
            raise RunDirectoryError(f"the run in {out} is finished", cure="`qmml audit` and `qmml report` look at it")
        if database.last_checkpoint() is None:
            raise RunDirectoryError(
                f"the run in {out} ended before its first commit", cure="delete the folder and start it again"
            )
    finally:
        database.close()


def _go(run: Run, steps: int, wish: StopWish) -> None:
    """Step until the end or until asked to stop."""
    while run.state.step < steps and not wish:
        run.advance()
        if run.due():
            run.attend()
    if run.state.step >= steps:
        run.finish("finish", f"all {steps} steps are done")
    else:
        run.finish("stop", f"stopped by {wish.name}; everything is committed")
