"""Small JSON files that commands leave for programs to read."""

import json
import math
import os
from pathlib import Path
from typing import Any

from ..errors import RunDirectoryError


def write_json(path: Path, content: Any) -> None:
    """Write plain data; whoever reads sees the old file or the new one, never half of it. NaN becomes null.

    Raises:
        OSError: the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(_plain(content), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what ``write_json`` or an audit wrote.

    Raises:
        RunDirectoryError: it is missing, or is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read: {error}", cure="restore it from a copy, or remove it"
        ) from error
    if not isinstance(found, dict):
        raise RunDirectoryError(f"{path} holds no JSON object", cure="restore it from a copy, or remove it")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
