"""The process that computes labels: it answers one run, and ends with it.

Started by ``isolated.py`` as ``python -m qmml_md.reference.worker``. Requests come on standard input and answers go to
what was standard output when it started; whatever libraries print goes to standard error instead.
"""

import contextlib
import ctypes
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .. import config
from ..errors import LabelError, QmmlError
from .pyscf import PyscfReference
from .wire import Frames, Message, WireError, frame, pack_density, pack_label, unpack_cluster, unpack_density

#: Time between two signs of life during a label, s.
BEAT_S = 1.0
#: Bytes in a GB.
GB = 10**9
#: Exit status after a request that makes no sense.
GARBLED = 65
_READ_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1


class Line:
    """The way back to the run; several threads may write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write a whole frame."""
        rest = memoryview(frame(message))
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def main() -> int:
    """Answer until the run hangs up."""
    line = Line(_keep_line_clean())
    _end_with(int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid())
    requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    reference = _set_up(requests.get(), line)
    while reference is not None:
        request = requests.get()
        with _signs_of_life(line, request.id):
            answer = _answer(reference, request)
        line.send(answer)
    return 1


def _keep_line_clean() -> int:
    """Move the way back out of reach of everything that prints; returns its descriptor."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def _end_with(parent: int) -> None:
    """Ask the system to end this process together with the run, where it can do so; the closed pipe says it anyway."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def _listen(pipe: BinaryIO, requests: "queue.SimpleQueue[Message]") -> None:
    """Read requests; when the run hangs up or garbles them, end at once, whatever is being computed."""
    frames = Frames()
    try:
        while received := os.read(pipe.fileno(), _READ_BYTES):
            for message in frames.feed(received):
                requests.put(message)
    except WireError:
        traceback.print_exc()
        os._exit(GARBLED)
    os._exit(0)


def _set_up(message: Message, line: Line) -> PyscfReference | None:
    """Limit memory and set up PySCF."""
    plain = message.plain
    try:
        _limit_memory(plain["memory_limit_GB"])
        settings = config.Reference.model_validate(plain["settings"])
        threads, response = plain["threads"], bool(plain["grid_response"])
        reference = PyscfReference(settings, threads, grid_response=response, rungs=tuple(plain["rungs"]))
    except QmmlError as error:
        line.send(_error(message.id, error))
        return None
    line.send(Message(kind="ready", id=message.id, plain={"level": reference.level.fingerprint}))
    return reference


def _limit_memory(limit_GB: float | None) -> None:
    """Let labels have this much on top of what was loaded; beyond that, Python raises MemoryError."""
    if limit_GB is None:
        return
    pages = Path("/proc/self/statm")
    loaded = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = loaded + int(limit_GB * GB)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _answer(reference: PyscfReference, request: Message) -> Message:
    """Compute what was asked for; what goes wrong is an answer, too."""
    try:
        cluster = unpack_cluster(request.plain, request.arrays)
        label, density = reference.compute(cluster, unpack_density(request.plain, request.arrays))
        plain, arrays = pack_label(label)
        start, more = pack_density(density)
        return Message(kind="label", id=request.id, plain=plain | start, arrays=arrays | more)
    except LabelError as error:
        return _error(request.id, error)
    except MemoryError:
        return Message(kind="error", id=request.id, plain={"name": "OutOfMemory", "what": "memory ran out", "cure": ""})
    except Exception as error:
        # The run must hear of it, whatever it is, and the text goes into its message.
        traceback.print_exc()
        what = f"the label failed: {type(error).__name__}: {error}"
        return Message(kind="error", id=request.id, plain={"name": "LabelError", "what": what, "cure": ""})


def _error(number: int, error: QmmlError) -> Message:
    return Message(
        kind="error", id=number, plain={"name": type(error).__name__, "what": error.what, "cure": error.cure}
    )


@contextlib.contextmanager
def _signs_of_life(line: Line, number: int) -> Iterator[None]:
    """Tell the run now and then that this process is at work and was not stopped."""
    done = threading.Event()

    def beat() -> None:
        began = time.monotonic()
        while not done.wait(BEAT_S):
            line.send(Message(kind="beat", id=number, plain={"spent_s": time.monotonic() - began}))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
