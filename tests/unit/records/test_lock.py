"""One process at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qmml_md.errors import RunDirectoryError
from qmml_md.records.lock import holder, locked

HOLD = "import sys, time; from pathlib import Path; from qmml_md.records.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def other(tmp_path: Path):
    """Another process that has the lock."""
    process = subprocess.Popen([sys.executable, "-P", "-c", HOLD, str(tmp_path / "run.lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_by_name(tmp_path: Path, other: subprocess.Popen) -> None:
    with pytest.raises(RunDirectoryError, match=f"in use by process {other.pid}"), locked(tmp_path / "run.lock"):
        pytest.fail("two processes have the lock")
    assert str(other.pid) in (holder(tmp_path / "run.lock") or "")


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path: Path, other: subprocess.Popen) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert holder(tmp_path / "run.lock") is None
    with locked(tmp_path / "run.lock") as there:
        assert there
        assert str(os.getpid()) in (tmp_path / "run.lock").read_text()


def test_it_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "run.lock"):
            pass
    assert holder(tmp_path / "nothing.lock") is None
