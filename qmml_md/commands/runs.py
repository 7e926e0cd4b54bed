"""``qmml run``, ``resume``, ``report`` and ``export``."""

import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from ..config_file import load_config
from ..console import ConsoleProgress
from ..engine.progress import Progress
from ..errors import ConfigError, RunDirectoryError
from ..records.run_directory import RunDirectory
from .audit import audit_and_report
from .status import is_finished

#: A run that a signal ended before its last step: everything is committed, `qmml resume` continues (EX_TEMPFAIL).
STOPPED = 75


def default_out(config: Path) -> Path:
    """The run directory of a configuration if none is given."""
    return config.resolve().parent / "run"


def run_config(config_path: Path, out: Path | None) -> int:
    """Run a configuration; audit what came of it.

    Returns:
        0 when the run reached its last step, whatever the audit says of it; 75 when a signal ended it before.
    """
    config = load_config(config_path)
    folder = out or default_out(config_path)
    refuse_used(folder)
    from ..engine.loop import start

    return _carry_on(
        folder,
        lambda progress: start(config, config_dir=config_path.resolve().parent, out=folder, progress=progress),
    )


def run_from(place: str, config_path: Path | None, out: Path | None) -> int:
    """Begin at a frame of another run, on its final model; audit what came of it. Returns as ``run_config``.

    Args:
        place: ``RUN@STEP``.
        config_path: what to run from there; by default the steps that the other run had left.
        out: new run directory; by default ``RUN-from-STEP`` beside the other one.

    Raises:
        ConfigError: ``place`` is not of that form.
        RunDirectoryError: there is no such run or frame.
    """
    root, _, step = place.rpartition("@")
    if not root or not step.isdecimal():
        raise ConfigError(
            f"--from {place}: not of the form RUN@STEP", cure="`qmml audit RUN` names the step to begin from"
        )
    source = Path(root)
    folder = out or source.resolve().with_name(f"{source.resolve().name}-from-{step}")
    refuse_used(folder)
    from ..engine.loop import start
    from ..engine.origin import read_origin, remaining

    origin = read_origin(source, int(step))
    config = remaining(origin) if config_path is None else load_config(config_path)
    base = source if config_path is None else config_path.resolve().parent
    return _carry_on(
        folder, lambda progress: start(config, config_dir=base, out=folder, progress=progress, origin=origin)
    )


def resume_run(path: Path) -> int:
    """Continue a run from its last commit; audit what came of it. Returns as ``run_config``."""
    RunDirectory(path).open_database().close()
    from ..engine.loop import resume

    return _carry_on(path, lambda progress: resume(path, progress=progress))


def refuse_used(folder: Path) -> None:
    """Say at once that a folder is taken, before a library is loaded; the engine makes sure when it creates it.

    Raises:
        RunDirectoryError: the folder exists and is not empty, or cannot be made or written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunDirectoryError(
            f"{folder} exists already and is not empty",
            cure="`qmml resume` continues a run; for a new one give another folder with --out",
        )
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunDirectoryError(f"cannot write in {parent}", cure="give a writable folder with --out")


def report_run(path: Path) -> None:
    """Write the report of a run from its last audit and print where it is."""
    from ..analysis.report.page import write_report

    Console().print(str(write_report(RunDirectory(path))), soft_wrap=True, highlight=False)


def export_run(path: Path, file: Path) -> None:
    """Write the trajectory of a run to a file and print where it is."""
    from ..analysis.export import export

    export(RunDirectory(path), file)
    Console().print(str(file), soft_wrap=True, highlight=False)


def _carry_on(folder: Path, work: Callable[[Progress], RunDirectory]) -> int:
    out = Console()
    with ConsoleProgress(folder / "run.log") as progress:
        run = work(progress)
    if not is_finished(run):
        out.print(f"stopped before the last step; everything is committed. `qmml resume {run.root}` continues")
        return STOPPED
    audit_and_report(run, out)
    return 0
