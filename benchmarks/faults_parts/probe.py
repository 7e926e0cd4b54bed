"""One bad input tried through the command line: what is said, how long it takes, what it leaves behind."""

import contextlib
import hashlib
import io
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from qmml_md.cli import main

#: An input that is not answered after so long hangs, s.
PATIENCE_S = 10.0
#: Inputs that took longer are tried again, since other programs may have had the machine; the shortest time counts.
LIMIT_S, TRIES = 1.0, 3
#: Exit code of a defect: what would have been a traceback.
DEFECT = 70
#: Files that hold nothing: whoever looks at a run may leave them.
WORTHLESS = frozenset({"run.lock", "run.db-shm", "run.db-wal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A bad input.

    Attributes:
        name: for a person.
        build: writes the files into an empty folder and returns the arguments of ``qmml``.
        names: pattern of what the message must name.
        surely: whether the input cannot be right; a mutation may leave it as good as it was.
        codes: exit codes that refuse: 2 for an error with its cure; `qmml check` also answers with 1.
        spoken: whether the answer of the command itself counts as its message, as that of `qmml check` does.
    """

    name: str
    build: Callable[[Path], Sequence[str]]
    names: str
    surely: bool = True
    codes: tuple[int, ...] = (2,)
    spoken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: that was tried.
        code: exit code; -1 for a hang.
        text: what was printed on standard error, in one line.
        seconds: the shortest time of all tries.
        changed: files that were there and changed, or appeared.
    """

    case: Case
    code: int
    text: str
    seconds: float
    changed: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the input was taken for good, be it that an audit judged it as it should."""
        return self.code == 0 or any(name.endswith("audit.json") for name in self.changed)

    @property
    def rejected(self) -> bool:
        """Whether it was refused by an error with a cure, and not by an accident."""
        return self.code in self.case.codes and not self.accepted

    @property
    def named(self) -> bool:
        """Whether the message names what is at fault."""
        return re.search(self.case.names, self.text) is not None

    @property
    def traceback(self) -> bool:
        """Whether a person would have met the inside of the program."""
        return self.code == DEFECT or "Traceback" in self.text


class Hung(BaseException):
    """Nothing was answered in time; no handler of the package may catch it."""


def attempt(case: Case) -> Outcome:
    """Try a case, again if it was slow."""
    best = _once(case)
    for _ in range(TRIES - 1):
        if best.seconds <= LIMIT_S or best.code == -1:
            break
        best = min(best, _once(case), key=lambda outcome: outcome.seconds)
    return best


def _once(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="qmml-input-") as name:
        folder = Path(name)
        arguments = [str(each) for each in case.build(folder)]
        before = snapshot(folder)
        said = io.StringIO()
        answered = said if case.spoken else io.StringIO()
        with measured() as seconds, patience(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(answered):
            try:
                code = main(arguments)
            except Hung:
                code = -1
        after = snapshot(folder)
    paths = (path for path in before.keys() | after.keys() if Path(path).name not in WORTHLESS)
    changed = sorted(path for path in paths if before.get(path) != after.get(path))
    text = " ".join(said.getvalue().split())
    return Outcome(case=case, code=code, text=text, seconds=seconds[0], changed=tuple(changed))


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder: SHA-256 of each file, the aim of each link, and the folders."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


@contextlib.contextmanager
def measured() -> Iterator[list[float]]:
    """The time that passes within, s."""
    seconds, began = [0.0], time.perf_counter()
    try:
        yield seconds
    finally:
        seconds[0] = time.perf_counter() - began


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Raise ``Hung`` after ``PATIENCE_S``.

    Raises:
        Hung: so long has passed.
    """

    def give_up(number: int, frame: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
