"""Ctrl-C and SIGTERM as a wish that the loop answers at the next step boundary."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopWish:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Signal handler. A second Ctrl-C does not wait: the work since the last commit is lost, nothing else."""
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextmanager
def listening() -> Iterator[StopWish]:
    """Take over SIGINT and SIGTERM while the run lasts."""
    wish = StopWish()
    before = {number: signal.signal(number, wish.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
