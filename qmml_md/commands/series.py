"""What the commands share that make several runs in one folder."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from ..config import Config
from ..console import ConsoleProgress
from ..engine.origin import Origin
from ..engine.rounds import Standing, carry_out, standing
from ..errors import ConfigError, RunDirectoryError
from .files import read_json, write_json
from .runs import refuse_used

FORMAT_VERSION = 1


def bind(out: Path, file: str, config: Config) -> dict[str, Any]:
    """Make the folder of a series, or find that it belongs to the same configuration.

    Args:
        out: the folder.
        file: name of the summary in it.
        config: of the first run.

    Returns:
        What the summary begins with.

    Raises:
        RunDirectoryError: the folder holds something else, or cannot be written.
        ConfigError: the series was begun with another configuration.
    """
    head = {"format_version": FORMAT_VERSION, "config": config.model_dump(mode="json")}
    if (out / file).exists():
        if _begun_with(read_json(out / file), out / file) != config:
            raise ConfigError(
                f"{out} was begun with another configuration", cure="give another folder with --out for the new one"
            )
        return head
    refuse_used(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / file, head)
    return head


def conduct(
    config: Config, config_dir: Path, folder: Path, *, title: str, show: Console, origin: Origin | None = None
) -> bool:
    """Carry out one run of a series, from wherever it stands.

    Args:
        config: of the run.
        config_dir: where its relative paths start.
        folder: of the run.
        title: what is shown before it.
        show: where.
        origin: where it begins, instead of the structure.

    Returns:
        Whether it reached its last step; False after a signal.
    """
    found = standing(folder)
    note = {Standing.FINISHED: ", finished before", Standing.INTERRUPTED: ", resumed", Standing.TO_DO: ""}[found]
    show.print(f"{title}{note}: {folder}", highlight=False, markup=False, soft_wrap=True)
    if found is Standing.FINISHED:
        return True
    with ConsoleProgress(folder / "run.log") as progress:
        carry_out(config, config_dir, folder, progress=progress, origin=origin)
    if standing(folder) is Standing.FINISHED:
        return True
    show.print("stopped before the last step; everything is committed. The same command goes on", highlight=False)
    return False


def _begun_with(found: dict[str, Any], file: Path) -> Config:
    """The configuration that a summary names.

    Raises:
        RunDirectoryError: it names none that this version reads.
    """
    try:
        return Config.model_validate(found["config"])
    except (KeyError, ValidationError) as error:
        raise RunDirectoryError(
            f"{file} names no configuration of this version", cure="give another folder with --out"
        ) from error
