"""Signals and a wall-clock limit as wishes that the loop answers at the next step boundary."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Part of a wall-clock limit, and most of it in seconds, that is kept for the last commit.
RESERVE, MOST_RESERVE_S = 0.05, 60.0


class StopWish:
    """What somebody asked a run for.

    Attributes:
        name: of the signal that asks it to end; empty if none does.
        commits: how often it was asked to commit now.
    """

    def __init__(self, max_wall_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to listen.

        Args:
            max_wall_s: time from now within which the run must have ended, s; None for no limit.
            clock: a clock that is never set, s.
        """
        self.name = ""
        self.commits = 0
        self._clock = clock
        self._max_wall_s = max_wall_s
        self._end = None if max_wall_s is None else clock() + max_wall_s - min(RESERVE * max_wall_s, MOST_RESERVE_S)

    def __bool__(self) -> bool:
        return bool(self.name) or self.late

    @property
    def late(self) -> bool:
        """Whether the wall-clock limit is near."""
        return self._end is not None and self._clock() >= self._end

    @property
    def urgent(self) -> bool:
        """Whether a label that is being computed must not be waited for: a batch system kills soon."""
        return self.name == "SIGTERM" or self.late

    @property
    def why(self) -> str:
        """What asks the run to end, for a person."""
        return self.name or f"the wall-clock limit of {self._max_wall_s:g} s"

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Signal handler. A second Ctrl-C does not wait: the work since the last commit is lost, nothing else."""
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    def ask_commit(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: commit at the next step boundary, and go on."""
        self.commits += 1

    def take_commit(self) -> bool:
        """Whether a commit was asked for since the last call."""
        asked, self.commits = self.commits > 0, 0
        return asked


@contextmanager
def ignoring_commits() -> Iterator[None]:
    """SIGUSR1 does no harm where there is nothing to commit: while libraries load, and during the audit."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def listening(max_wall_s: float | None = None) -> Iterator[StopWish]:
    """Take over SIGINT, SIGTERM and SIGUSR1 while the run lasts.

    Args:
        max_wall_s: wall-clock limit, s.
    """
    wish = StopWish(max_wall_s)
    handlers = {signal.SIGINT: wish.ask, signal.SIGTERM: wish.ask, signal.SIGUSR1: wish.ask_commit}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
