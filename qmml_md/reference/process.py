"""The run's side of the process that computes labels: starting it, talking with it, and ending it for certain."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import LabelAbandoned, LabelTimeout, OutOfMemory, WorkerDied
from .wire import Frames, Message, WireError, frame

#: What is started, unless a test asks for something worse. Without ``-P`` a file in the current folder could be run.
COMMAND = (sys.executable, "-P", "-m", "qmml_md.reference.worker")

#: Longest time between two looks at whether somebody wants to stop, s.
LOOK_S = 0.1
#: Time for a process that hung up to end by itself, s.
FAREWELL_S = 1.0
#: Characters of what a process printed that are kept, and that are quoted.
TAIL, QUOTED = 4000, 400
_READ_BYTES = 1 << 20
#: What is printed where memory ran out in a way that no answer can tell of.
_OUT_OF_MEMORY = ("MemoryError", "allocate", "bad_alloc", "can't start new thread", "Thread creation failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a process.

    Attributes:
        limit_s: for an answer, s.
        silence_s: for any sign of life, s; during a label there is one each second.
        stop: asked all the time whether to give up.
    """

    limit_s: float
    silence_s: float
    stop: Callable[[], bool] | None = None


class Process:
    """One process that answers requests, each once."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start it.

        Raises:
            WorkerDied: it cannot be started.
        """
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of this package
                [*command, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                # Ctrl-C in a terminal goes to the run, which ends its process itself.
                start_new_session=True,
                # PySCF runs `.pyscf_conf.py` of the current folder.
                cwd="/",
                env=_environment(),
            )
        except OSError as error:
            raise WorkerDied(
                f"the process for labels cannot be started: {error}", cure="set reference.isolate: false"
            ) from error
        self._owner = os.getpid()
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._to, self._from, self._said = (pipe.fileno() for pipe in pipes if pipe is not None)
        for descriptor in (self._to, self._from, self._said):
            os.set_blocking(descriptor, False)
        self._frames = Frames()
        self._tail = b""

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, request: Message, patience: Patience) -> Message:
        """Send a request and wait for the answer to it; answers to others are dropped. Any failure ends the process.

        Args:
            request: with an id above those of all earlier ones.
            patience: how long to wait.

        Raises:
            WorkerDied: the process ended, gives no sign of life, or sends what is no answer.
            OutOfMemory: it ended since memory ran out.
            LabelTimeout: it took too long.
            LabelAbandoned: somebody wants to stop.
        """
        try:
            return self._ask(request, patience)
        except BaseException:
            self.end()
            raise

    def _ask(self, request: Message, patience: Patience) -> Message:
        unsent = memoryview(frame(request))
        began = heard = time.monotonic()
        answer = self._answer_to(request, b"")
        while answer is None:
            if patience.stop is not None and patience.stop():
                raise LabelAbandoned(
                    "a label was abandoned: somebody asked the run to stop", cure="`qmml resume` computes it again"
                )
            ready = self._ready(writing=bool(unsent))
            if self._to in ready:
                unsent = unsent[self._write(unsent) :]
            if self._said in ready:
                self._tail = (self._tail + self._read(self._said))[-TAIL:]
            if self._from in ready:
                received = self._read(self._from)
                if not received:
                    raise self._ended()
                answer = self._answer_to(request, received)
            now = time.monotonic()
            if ready & {self._to, self._from}:
                heard = now
            if answer is None:
                self._lose_patience(patience, waited=now - began, silent=now - heard)
        return answer

    def _ready(self, *, writing: bool) -> set[int]:
        """Descriptors that can be read or written now."""
        poll = select.poll()
        for descriptor in (self._from, self._said):
            poll.register(descriptor, select.POLLIN)
        if writing:
            poll.register(self._to, select.POLLOUT)
        found = {descriptor for descriptor, _ in poll.poll(LOOK_S * 1000)}
        if found == {self._said} and not self.alive:
            # Closed for good, and always ready: nothing else will come.
            found.add(self._from)
        return found

    def _write(self, rest: memoryview) -> int:
        try:
            return os.write(self._to, rest)
        except BlockingIOError:
            return 0
        except BrokenPipeError as error:
            raise self._ended() from error

    @staticmethod
    def _read(descriptor: int) -> bytes:
        try:
            return os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return b""

    def _answer_to(self, request: Message, received: bytes) -> Message | None:
        try:
            for message in self._frames.feed(received):
                if message.id > request.id:
                    raise WireError(f"an answer to request {message.id}, and {request.id} was the last")
                if message.id == request.id and message.kind != "beat":
                    return message
        except WireError as error:
            raise WorkerDied(
                f"the process for labels sent what is no answer: {error}{self._quoted()}", cure=_CURE
            ) from error
        return None

    def _lose_patience(self, patience: Patience, *, waited: float, silent: float) -> None:
        if waited > patience.limit_s:
            raise LabelTimeout(
                f"label stopped after {waited:.1f} s, when its process was ended; the limit is reference.time_limit_s",
                cure="raise reference.time_limit_s, lower region.max_qm_atoms, or choose a cheaper basis; "
                "`qmml validate --dry-run` estimates the cost of a label",
            )
        if silent > patience.silence_s:
            raise WorkerDied(
                f"the process for labels has given no sign of life for {silent:.0f} s{self._quoted()}",
                cure="see whether it was stopped, or the machine has no memory left",
            )

    def _ended(self) -> WorkerDied | OutOfMemory:
        """Why the process hung up."""
        try:
            status = self._process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            return WorkerDied(f"the process for labels hung up{self._quoted()}", cure=_CURE)
        self._tail = (self._tail + self._read(self._said))[-TAIL:]
        how = f"ended with status {status}" if status >= 0 else f"was ended by {_signal_name(-status)}"
        if any(word in self._text() for word in _OUT_OF_MEMORY):
            return OutOfMemory(
                f"the process for labels {how}: memory ran out{self._quoted()}",
                cure="raise reference.memory_limit_GB if one is set, or lower region.max_qm_atoms",
            )
        return WorkerDied(f"the process for labels {how}{self._quoted()}", cure=_CURE)

    def _text(self) -> str:
        return self._tail.decode("utf-8", errors="replace")

    def _quoted(self) -> str:
        """What it printed last, for a message of one line."""
        said = " | ".join(line.strip() for line in self._text().splitlines() if line.strip())
        printable = "".join(c if c.isprintable() else "?" for c in said[-QUOTED:])
        return f"; it said: {printable}" if printable else ""

    def end(self) -> None:
        """End it and all that it started, whatever it is doing, and give back what it held."""
        # After a fork there are two runs, and the process belongs to the one that started it.
        if os.getpid() == self._owner and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


_CURE = "where the system ends it for want of memory, lower region.max_qm_atoms; `qmml doctor` examines PySCF"


def _environment() -> dict[str, str]:
    """That of the run; paths to modules are made absolute, since the process stands in another folder."""
    found = dict(os.environ)
    if path := found.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep))
    return found


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
