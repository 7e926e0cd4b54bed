"""What somebody may ask a run for, and when it answers."""

import os
import signal

import pytest

from qmml_md.engine.signals import MOST_RESERVE_S, StopWish, ignoring_commits, listening


def test_signals_become_wishes() -> None:
    with listening() as wish:
        assert not wish
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not wish
        assert wish.take_commit()
        assert not wish.take_commit()
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish
        assert wish.urgent
        assert wish.why == "SIGTERM"


def test_ctrl_c_waits_for_a_label_and_a_second_one_does_not() -> None:
    with listening() as wish:
        os.kill(os.getpid(), signal.SIGINT)
        assert wish
        assert not wish.urgent
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_wish_to_commit_does_no_harm_before_and_after_the_loop() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with ignoring_commits():
            os.kill(os.getpid(), signal.SIGUSR1)
            with listening() as wish:
                os.kill(os.getpid(), signal.SIGUSR1)
                assert wish.take_commit()
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not heard
        # Without it the signal goes where it went before, by default to the end of the process.
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(("limit", "reserve"), [(100.0, 5.0), (86400.0, MOST_RESERVE_S)])
def test_the_wall_clock_keeps_time_for_the_last_commit(limit: float, reserve: float) -> None:
    now = [1000.0]
    wish = StopWish(limit, clock=lambda: now[0])
    now[0] = 1000.0 + limit - reserve - 0.01
    assert not wish
    now[0] = 1000.0 + limit - reserve
    assert wish
    assert wish.urgent
    assert f"{limit:g} s" in wish.why
