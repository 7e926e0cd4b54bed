"""Writing that survives: temporary name, sync, rename, sync of the folder. Everything that a run keeps is written so.

Whoever reads sees the old file or the new one, never half of it; and once a function here returns, a power cut cannot
take the file away again.
"""

import errno
import hashlib
import os
import stat
from pathlib import Path

#: Ending of a file that is not finished; whoever finds one may delete it.
PART = ".part"


def write_durably(path: Path, content: bytes) -> str:
    """Put content under a name, replacing what was there.

    Args:
        path: final name; its folder must exist.
        content: all of it.

    Returns:
        SHA-256 of the content, in hexadecimal.

    Raises:
        OSError: the disk is full, broken or read-only; under the final name nothing has changed.
    """
    temporary = part_of(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        discard(temporary)
        raise
    sync_folder(path.parent)
    return hashlib.sha256(content).hexdigest()


def publish(temporary: Path, path: Path) -> None:
    """Make a finished temporary file, written by somebody else, durable under its final name.

    Raises:
        OSError: see ``write_durably``.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def part_of(path: Path) -> Path:
    """The temporary name that belongs to a final one."""
    return path.with_name(path.name + PART)


def discard(temporary: Path) -> None:
    """Remove a file that did not get finished, if the disk lets us: the error that is under way tells more."""
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would be waited for.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
