"""One process at a time on one run.

The lock is the operating system's, on an open file: it ends with its process, however that ends.
"""

import errno
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunDirectoryError

#: File systems without locks answer with these.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a run.

    Args:
        path: of the lock file; made if it is not there, and left there.

    Yields:
        Whether there is a lock: on a file system that has none, whoever starts two processes gets two.

    Raises:
        RunDirectoryError: another process has it, or the file cannot be made.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunDirectoryError(
            f"the lock {path} cannot be opened: {error.strerror}", cure="make the run directory writable"
        ) from error
    try:
        yield _take(number, path)
    finally:
        os.close(number)


def holder(path: Path) -> str | None:
    """Who has the lock of a run, in words; None if nobody has."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _who(number)
    except OSError:
        return None
    finally:
        os.close(number)
    return None


def _take(number: int, path: Path) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunDirectoryError(
            f"the run in {path.parent} is in use by {_who(number)}",
            cure="wait for its end, or stop it (SIGTERM: it commits and ends), then try again",
        ) from error
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    os.ftruncate(number, 0)
    os.pwrite(number, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode(), 0)
    return True


def _who(number: int) -> str:
    try:
        told = json.loads(os.pread(number, 4096, 0))
        return f"process {int(told['pid'])} on {str(told['host'])[:80]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
