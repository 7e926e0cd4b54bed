"""A process for labels that does everything wrong, and what the run makes of it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md import config
from qmml_md.errors import (
    BadLabel,
    ConfigError,
    LabelAbandoned,
    LabelError,
    LabelTimeout,
    NotConverged,
    OutOfMemory,
    QmmlError,
    WorkerDied,
)
from qmml_md.reference.isolated import IsolatedReference, open_reference
from qmml_md.reference.label import Label
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.region.cluster import Cluster

CHEAP = config.Reference(method="hf", basis="sto-3g", density_fit=False)
BAD = Path(__file__).with_name("bad_worker.py")
Bad = Callable[..., IsolatedReference]


@pytest.fixture(scope="module")
def reference() -> Iterator[IsolatedReference]:
    made = IsolatedReference(CHEAP, 1)
    yield made
    made.close()


@pytest.fixture
def bad(tmp_path: Path) -> Iterator[Bad]:
    """A reference whose process has faults in its first answers, see ``bad_worker.py``."""
    made: list[IsolatedReference] = []

    def make(faults: str, stop: Callable[[], bool] | None = None, **changes: object) -> IsolatedReference:
        settings = config.Reference.model_validate({**CHEAP.model_dump(), "time_limit_s": 20.0, **changes})
        command = (sys.executable, str(BAD), faults, str(tmp_path / "seen"))
        # Its silence is shorter than any limit, and longer than a busy machine keeps it from a sign of life.
        made.append(IsolatedReference(settings, 1, command=command, silence_s=8.0, grace_s=1.0, stop=stop))
        return made[-1]

    yield make
    for each in made:
        each.close()


def requests(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "seen").read_text().splitlines()]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def equal(one: Label, other: Label) -> bool:
    arrays = all(getattr(one, n).tobytes() == getattr(other, n).tobytes() for n in ("forces", "dipole", "charges"))
    return arrays and (one.key, one.energy, one.rung, one.gap) == (other.key, other.energy, other.rung, other.gap)


def test_labels_are_those_of_one_process_to_the_bit(
    reference: IsolatedReference, water: Cluster, two_waters: Cluster
) -> None:
    here = PyscfReference(CHEAP, 1)
    for cluster in (water, two_waters, replace(water, positions=water.positions * 1.01)):
        one, other = here.label(cluster), reference.label(cluster)
        assert equal(one, other)
    assert one.rung == "guess"
    # Sabotaged: without the densities of those before, the last digits are others.
    reference.guesses.forget()
    assert not equal(reference.label(cluster), one)
    assert reference.faults == []


def test_another_process_goes_on_where_one_was_ended(water: Cluster, two_waters: Cluster) -> None:
    whole, broken = (IsolatedReference(CHEAP, 1) for _ in range(2))
    try:
        labels = [whole.label(cluster) for cluster in (water, two_waters)]
        broken.label(water)
        broken.close()
        assert equal(broken.label(two_waters), labels[1])
    finally:
        whole.close()
        broken.close()


def test_the_process_is_one_and_is_gone_after_closing(
    bad: Bad, water: Cluster, two_waters: Cluster, tmp_path: Path
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    made = bad("none")
    for cluster in (water, two_waters):
        made.label(cluster)
    (pid,) = set(requests(tmp_path))
    assert not gone(int(pid))
    made.close()
    assert gone(int(pid))
    assert len(os.listdir("/proc/self/fd")) == descriptors
    made.close()


#: Faults and what is told of each; of wrong labels there are more in ``test_plausible.py``.
TRANSIENT = {
    "nan_force": "not finite: forces",
    "rotated_forces": "turn it",
    "misordered_atoms": "another order",
    "wrong_charge": "charges sum to",
    "truncated": "status 0",
    "huge": "larger than any label",
    "later": "an answer to request",
    "empty": "no label",
    "exits": "status 3",
    "killed": "SIGKILL",
    "crashes": "SIGSEGV",
    "stops": "no sign of life",
    "hangs": "no sign of life",
    "garbage": "begins no frame",
}


@pytest.mark.slow
@pytest.mark.parametrize("half", [0, 1])
def test_what_goes_wrong_is_tried_again_by_another_process(half: int, bad: Bad, water: Cluster, tmp_path: Path) -> None:
    faults = dict(list(TRANSIENT.items())[half::2])
    made = bad(",".join(faults), retries=len(faults))
    assert equal(made.label(water), PyscfReference(CHEAP, 1).label(water))
    assert len(made.faults) == len(faults)
    for told, (fault, needle) in zip(made.faults, faults.items(), strict=True):
        assert needle in told, fault
    # Who gave a wrong answer is not trusted any more.
    pids = requests(tmp_path)
    assert len(set(pids)) == len(pids) == len(faults) + 1
    assert all(gone(int(pid)) for pid in pids[:-1])


@pytest.mark.parametrize(("fault", "error"), [("killed", WorkerDied), ("rotated_forces", BadLabel)])
def test_what_always_goes_wrong_is_tried_as_often_as_allowed(
    fault: str, error: type[LabelError], bad: Bad, water: Cluster, tmp_path: Path
) -> None:
    with pytest.raises(error, match=TRANSIENT[fault]):
        bad(fault + ",…", retries=1).label(water)
    assert len(requests(tmp_path)) == 2
    assert len(set(requests(tmp_path))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error", "changes"),
    [
        ("not_converged", NotConverged, {}),
        ("unexpected", LabelError, {}),
        ("out_of_memory", OutOfMemory, {"memory_limit_GB": 4.0}),
        ("out_of_memory_on_stderr", OutOfMemory, {}),
        ("slow", LabelTimeout, {"time_limit_s": 1.0}),
        ("earlier_only", LabelTimeout, {"time_limit_s": 1.0}),
    ],
)
def test_what_would_go_wrong_again_is_not_tried_again(
    fault: str, error: type[LabelError], changes: dict[str, float], bad: Bad, water: Cluster, tmp_path: Path
) -> None:
    made = bad(fault, **changes)
    with pytest.raises(error) as caught:
        made.label(water)
    assert type(caught.value) is error
    assert len(requests(tmp_path)) == 1
    assert equal(made.label(water), PyscfReference(CHEAP, 1).label(water))


@pytest.mark.parametrize("fault", ["earlier", "twice", "noise"])
def test_what_is_no_answer_to_this_request_is_dropped(
    fault: str, bad: Bad, water: Cluster, two_waters: Cluster, tmp_path: Path
) -> None:
    made, here = bad(fault + ",…"), PyscfReference(CHEAP, 1)
    for cluster in (water, two_waters, water):
        assert equal(made.label(cluster), here.label(cluster))
    assert made.faults == []
    assert len(set(requests(tmp_path))) == 1


def test_a_process_that_never_starts_is_named(bad: Bad, water: Cluster) -> None:
    with pytest.raises(WorkerDied, match="status 3"):
        bad("never_starts").label(water)
    nowhere = IsolatedReference(CHEAP, 1, command=("/nowhere/python",))
    with pytest.raises(WorkerDied, match="cannot be started"):
        nowhere.label(water)


def test_a_process_that_died_while_it_had_nothing_to_do_is_replaced(bad: Bad, water: Cluster, tmp_path: Path) -> None:
    made = bad("none", retries=0)
    made.label(water)
    os.kill(int(requests(tmp_path)[0]), signal.SIGKILL)
    time.sleep(0.2)
    made.guesses.forget()
    assert equal(made.label(water), PyscfReference(CHEAP, 1).label(water))
    assert len(made.faults) == 1


def test_a_wish_to_stop_is_answered_at_once(bad: Bad, water: Cluster, tmp_path: Path) -> None:
    wish = threading.Event()
    made = bad("slow", stop=wish.is_set)
    threading.Timer(4.0, wish.set).start()
    began = time.monotonic()
    with pytest.raises(LabelAbandoned) as caught:
        made.label(water)
    assert time.monotonic() - began < 6.0
    assert not isinstance(caught.value, LabelError)
    assert isinstance(caught.value, QmmlError)
    assert caught.value.exit_code == 75
    assert gone(int(requests(tmp_path)[0]))


def test_the_process_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """Also in the middle of a label; it is told by the closed pipe and, on Linux, by the system."""
    script = (
        "import sys, numpy as np\n"
        "from qmml_md import config\n"
        "from qmml_md.reference.isolated import IsolatedReference\n"
        "from qmml_md.region.cluster import lone_cluster\n"
        f"command = ({sys.executable!r}, {str(BAD)!r}, 'slow', {str(tmp_path / 'seen')!r})\n"
        "water = lone_cluster(np.array([8, 1, 1]), np.array([[0, 0, 0], [0, 0.76, -0.6], [0, -0.76, -0.6]]))\n"
        "IsolatedReference(config.Reference(method='hf', basis='sto-3g'), 1, command=command).label(water)\n"
    )
    run = subprocess.Popen([sys.executable, "-P", "-c", script])
    until = time.monotonic() + 60.0
    while not (tmp_path / "seen").exists() and time.monotonic() < until:
        time.sleep(0.1)
    (worker,) = requests(tmp_path)
    assert not gone(int(worker))
    run.kill()
    run.wait()
    until = time.monotonic() + 10.0
    while not gone(int(worker)) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(int(worker))


def test_settings_say_where_labels_are_computed() -> None:
    assert isinstance(open_reference(CHEAP), IsolatedReference)
    assert isinstance(open_reference(CHEAP.model_copy(update={"isolate": False})), PyscfReference)
    with pytest.raises(ConfigError, match="7-42g"):
        open_reference(config.Reference(basis="7-42g"))


def test_a_file_in_the_current_folder_is_not_run(
    water: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PySCF runs ``.pyscf_conf.py`` of the folder that it is imported in, and Python prefers modules there."""
    for name in (".pyscf_conf.py", "pyscf.py", "numpy.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    made = IsolatedReference(CHEAP, 1)
    try:
        made.label(water)
    finally:
        made.close()
    assert not (tmp_path / "executed").exists()
    # Sabotaged: a process that is started in the folder runs it.
    heedless = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run([sys.executable, "-c", "import pyscf"], env=heedless, check=False, capture_output=True)
    assert (tmp_path / "executed").exists()


def test_electrons_that_do_not_fit_start_no_process(make_cluster: Callable[..., Cluster]) -> None:
    made = IsolatedReference(CHEAP, 1, command=("/nowhere/python",))
    with pytest.raises(LabelError, match="multiplicity"):
        made.label(make_cluster([8, 1], np.array([[0.0, 0, 0], [0, 0, 1]])))
