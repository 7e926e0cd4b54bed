"""Densities of labels that were computed since the last commit: a run that is killed starts its next label from them.

A label carries where it started in its last digits. What a run started its next label from is in its memory and in no
commit; the density of each label is therefore on disk before the label is.
"""

import hashlib
from pathlib import Path

from ..errors import CannotCommit, RunDirectoryError
from ..records.durable import PART, write_durably
from .guesses import Density
from .wire import Frames, Message, WireError, frame, pack_density, unpack_density

#: Folder of a run that holds them.
PENDING = "pending"
#: Ending of a file: SHA-256 of a frame (``wire.py``), and the frame.
SUFFIX = ".density"
_DIGEST_BYTES = hashlib.sha256().digest_size


class PendingDensities:
    """Densities on disk until the next commit."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or made yet.

        Args:
            folder: made with the first density.
        """
        self._folder = folder

    def put(self, key: str, density: Density, occasion: int) -> None:
        """Keep a density.

        Args:
            key: of its label.
            density: converged.
            occasion: number of the trigger; only within one does a label start from the one before.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        plain, arrays = pack_density(density)
        content = frame(Message(kind="density", id=occasion, plain=plain, arrays=arrays))
        try:
            self._folder.mkdir(exist_ok=True)
            write_durably(self._file(key), hashlib.sha256(content).digest() + content)
        except OSError as error:
            raise CannotCommit(
                f"the density of a label cannot be kept in {self._folder}: {error}",
                cure="free some space or make it writable, then `qmml resume` the run: everything up to its last "
                "commit is whole",
            ) from error

    def get(self, key: str, occasion: int) -> Density | None:
        """The density of a label, if it was kept on this occasion.

        Raises:
            RunDirectoryError: it is damaged.
        """
        path = self._file(key)
        if not path.exists():
            return None
        try:
            message = _read(path)
            return unpack_density(message.plain, message.arrays) if message.id == occasion else None
        except (OSError, WireError) as error:
            raise RunDirectoryError(
                f"{path} is damaged: {error}",
                cure="delete it, then `qmml resume` the run; the next label starts without it and differs in its last "
                "digits from that of a run that was never interrupted",
            ) from error

    def damaged(self) -> list[Path]:
        """Files that are not what was written; whoever checks a run asks for them."""
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                _read(path)
            except (OSError, WireError):
                found.append(path)
        return found

    def clear(self) -> None:
        """Remove all of them: the commit holds the labels, and no label starts from what was before it.

        Raises:
            RunDirectoryError: they cannot be removed.
        """
        try:
            for path in (*self._folder.glob(f"*{SUFFIX}"), *self._folder.glob(f"*{SUFFIX}{PART}")):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise CannotCommit(
                f"{self._folder} cannot be cleared: {error}", cure="make it writable, then `qmml resume` the run"
            ) from error

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"


def _read(path: Path) -> Message:
    content = path.read_bytes()
    if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
        raise WireError("its digest is another one")
    (message,) = Frames().feed(content[_DIGEST_BYTES:])
    return message
