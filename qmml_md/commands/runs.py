"""``qmml run``, ``resume``, ``report`` and ``export``."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from ..config_file import load_config
from ..console import ConsoleProgress
from ..engine.progress import Progress
from ..engine.signals import ignoring_commits
from ..errors import ConfigError, RunDirectoryError
from ..records.run_directory import RunDirectory
from ..records.seal import unsealed
from .audit import audit_and_report
from .status import is_finished

#: A run that a signal ended before its last step: everything is committed, `qmml resume` continues (EX_TEMPFAIL).
STOPPED = 75


def default_out(config: Path) -> Path:
    """The run directory of a configuration if none is given."""
    return config.resolve().parent / "run"


def run_config(config_path: Path, out: Path | None, *, max_wall: str | None = None) -> int:
    """Run a configuration; audit what came of it.

    Args:
        config_path: the configuration.
        out: run directory; by default `run` beside it.
        max_wall: wall-clock limit as a person writes it, see ``seconds``.

    Returns:
        0 when the run reached its last step, whatever the audit says of it; 75 when a signal or the wall-clock limit
        ended it before.
    """
    limit_s = seconds(max_wall)
    config = load_config(config_path)
    folder = out or default_out(config_path)
    refuse_used(folder)
    from ..engine.loop import start

    return _carry_on(
        folder,
        lambda progress: start(
            config, config_dir=config_path.resolve().parent, out=folder, progress=progress, max_wall_s=limit_s
        ),
    )


def run_from(place: str, config_path: Path | None, out: Path | None, *, max_wall: str | None = None) -> int:
    """Begin at a frame of another run, on its final model; audit what came of it. Returns as ``run_config``.

    Args:
        place: ``RUN@STEP``.
        config_path: what to run from there; by default the steps that the other run had left.
        out: new run directory; by default ``RUN-from-STEP`` beside the other one.
        max_wall: wall-clock limit, see ``seconds``.

    Raises:
        ConfigError: ``place`` is not of that form.
        RunDirectoryError: there is no such run or frame.
    """
    limit_s = seconds(max_wall)
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
        folder,
        lambda progress: start(
            config, config_dir=base, out=folder, progress=progress, origin=origin, max_wall_s=limit_s
        ),
    )


def resume_run(path: Path, *, max_wall: str | None = None, platform: str | None = None) -> int:
    """Continue a run from its last commit; audit what came of it. Returns as ``run_config``.

    Args:
        path: run directory.
        max_wall: wall-clock limit, see ``seconds``.
        platform: of OpenMM, if not the one of the configuration; the restart is not exact then.
    """
    limit_s = seconds(max_wall)
    RunDirectory(path).open_database().close()
    from ..engine.loop import resume

    return _carry_on(path, lambda progress: resume(path, progress=progress, max_wall_s=limit_s, platform=platform))


def seconds(written: str | None) -> float | None:
    """A wall-clock time: `HH:MM:SS` or `D-HH:MM:SS` as batch systems write it, `90m`, `12h`, or seconds.

    Raises:
        ConfigError: it is none, or not above zero.
    """
    if written is None:
        return None
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d{1,2})(?::(\d{1,2}))?", written.strip())
    plain = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", written.strip())
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        found = 86400.0 * days + 3600.0 * hours + 60.0 * minutes + rest
    else:
        found = float(plain[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[plain[2]] if plain else 0.0
    if found <= 0.0:
        raise ConfigError(
            f"--max-wall {written}: no time", cure="write HH:MM:SS, D-HH:MM:SS, or a number with s, m, h or d"
        )
    return found


def refuse_used(folder: Path) -> None:
    """Say at once that a folder is taken, before a library is loaded; the engine makes sure when it creates it.

    Raises:
        RunDirectoryError: the folder exists and is not empty, or cannot be made or written.
    """
    RunDirectory(folder).refuse_used()
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunDirectoryError(f"cannot write in {parent}", cure="give a writable folder with --out")


def report_run(path: Path) -> None:
    """Write the report of a run from its last audit and print where it is."""
    from ..analysis.report.page import write_report

    run = RunDirectory(path)
    run.open_database().close()
    with unsealed(run):
        page = write_report(run)
    Console().print(str(page), soft_wrap=True, highlight=False)


def export_run(path: Path, file: Path) -> None:
    """Write the trajectory of a run to a file and print where it is."""
    from ..analysis.export import export

    export(RunDirectory(path), file)
    Console().print(str(file), soft_wrap=True, highlight=False)


def _carry_on(folder: Path, work: Callable[[Progress], RunDirectory]) -> int:
    out = Console()
    with ignoring_commits():
        with ConsoleProgress(folder / "run.log") as progress:
            run = work(progress)
        if not is_finished(run):
            out.print(f"stopped before the last step; what is committed is whole. `qmml resume {run.root}` continues")
            return STOPPED
        audit_and_report(run, out)
    return 0
