"""A store before a reference: nothing is paid for twice, and a killed run goes on to the bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md import config
from qmml_md.errors import BadLabel, CannotCommit, NotConverged, RunDirectoryError
from qmml_md.reference.guesses import Guesses
from qmml_md.reference.label import Label, LevelOfTheory
from qmml_md.reference.pending import SUFFIX, PendingDensities
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.store import LabelStore
from qmml_md.reference.store_rows import label_digest
from qmml_md.reference.stored import StoredReference
from qmml_md.region.cluster import Cluster

CHEAP = config.Reference(method="hf", basis="sto-3g", density_fit=False)


class Counting:
    """PySCF that counts what it is asked for, and may be wrong."""

    def __init__(self) -> None:
        self.program = PyscfReference(CHEAP, 1)
        self.level: LevelOfTheory = self.program.level
        self.paid = 0
        self.spoil: Callable[[Label], Label] = lambda label: label

    @property
    def guesses(self) -> Guesses:
        return self.program.guesses

    def label(self, cluster: Cluster) -> Label:
        self.paid += 1
        return self.spoil(self.program.label(cluster))


def run(folder: Path) -> tuple[StoredReference, Counting]:
    """A process of a run, new or begun again."""
    program = Counting()
    pending = PendingDensities(folder / "pending")
    return StoredReference(program, LabelStore(folder / "labels.db", owner="me"), pending), program


def numbers(label: Label) -> str:
    return label_digest(label) + label.rung


@pytest.fixture
def three(water: Cluster, two_waters: Cluster) -> list[Cluster]:
    return [water, two_waters, replace(water, positions=water.positions * 1.02)]


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_killed_run_labels_the_rest_to_the_bit(killed_after: int, three: list[Cluster], tmp_path: Path) -> None:
    reference, _ = run(folder(tmp_path, "whole"))
    reference.begin(7)
    whole = [numbers(reference.label(cluster)) for cluster in three]
    place = folder(tmp_path, "killed")
    reference, _ = run(place)
    reference.begin(7)
    for cluster in three[:killed_after]:
        reference.label(cluster)
    reference, program = run(place)
    reference.begin(7)
    assert [numbers(reference.label(cluster)) for cluster in three] == whole
    assert program.paid == 3 - killed_after
    # Sabotaged: without the densities on disk the last digits are others.
    place = folder(tmp_path, "without")
    reference, _ = run(place)
    reference.begin(7)
    reference.label(three[0])
    PendingDensities(place / "pending").clear()
    reference, _ = run(place)
    reference.begin(7)
    assert [numbers(reference.label(cluster)) for cluster in three] != whole


def test_on_another_occasion_nothing_is_remembered(water: Cluster, two_waters: Cluster, tmp_path: Path) -> None:
    reference, program = run(tmp_path)
    reference.begin(1)
    reference.label(water)
    assert program.guesses.newest() is not None
    reference.begin(2)
    reference.label(water)
    assert program.guesses.newest() is None
    assert reference.label(two_waters).rung == "diis"


def test_a_label_that_is_met_twice_is_remembered_once(water: Cluster, two_waters: Cluster, tmp_path: Path) -> None:
    reference, program = run(tmp_path)
    reference.begin(1)
    for cluster in (water, two_waters, water):
        reference.label(cluster)
    assert [density.cluster.size for density in program.guesses.all()] == [3, 6]


def test_a_damaged_density_is_named(water: Cluster, tmp_path: Path) -> None:
    reference, _ = run(tmp_path)
    reference.begin(1)
    label = reference.label(water)
    pending = PendingDensities(tmp_path / "pending")
    assert pending.damaged() == []
    path = tmp_path / "pending" / (label.key + SUFFIX)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for bit in (0, 300, *rng.integers(0, 8 * len(whole), 20)):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(broken)
        reference, _ = run(tmp_path)
        reference.begin(1)
        with pytest.raises(RunDirectoryError, match=r"\.density is damaged"):
            reference.label(water)
        assert pending.damaged() == [path]
    path.write_bytes(whole[:50])
    assert pending.damaged() == [path]
    path.write_bytes(whole)
    assert pending.damaged() == []


def test_densities_go_with_the_commit(water: Cluster, tmp_path: Path) -> None:
    reference, _ = run(tmp_path)
    reference.begin(1)
    reference.label(water)
    (tmp_path / "pending" / f"half{SUFFIX}.part").touch()
    pending = PendingDensities(tmp_path / "pending")
    pending.clear()
    assert list((tmp_path / "pending").iterdir()) == []
    pending.clear()
    PendingDensities(tmp_path / "never").clear()


def test_a_density_that_cannot_be_written_stops_the_run_before_the_label_is_stored(
    water: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "pending").write_text("no folder")
    reference, _ = run(tmp_path)
    with pytest.raises(CannotCommit, match="cannot be kept") as caught:
        reference.label(water)
    assert "qmml resume" in caught.value.cure
    assert len(LabelStore(tmp_path / "labels.db")) == 0


def test_a_label_that_cannot_be_right_is_quarantined_and_never_paid_for_again(water: Cluster, tmp_path: Path) -> None:
    reference, program = run(tmp_path)
    program.spoil = lambda label: replace(label, energy=-1.0)
    program.label = lambda cluster: judged(program, cluster)  # type: ignore[method-assign]
    with pytest.raises(BadLabel) as caught:
        reference.label(water)
    store = LabelStore(tmp_path / "labels.db")
    assert (len(store), store.all(), program.paid) == (0, [], 1)
    assert store.quarantined(caught.value.key) == caught.value.reason
    again, other = run(tmp_path)
    with pytest.raises(BadLabel) as twin:
        again.label(water)
    assert str(twin.value) == str(caught.value)
    assert other.paid == 0


def judged(program: Counting, cluster: Cluster) -> Label:
    """As the references of this package do it."""
    from qmml_md.reference.plausible import check_label

    program.paid += 1
    label = program.program.label(cluster)
    check_label(replace(label, forces=np.roll(label.forces, 1, axis=0)), cluster, program.level)
    return label


def test_what_the_judge_refuses_is_computed_once_more_from_scratch(
    water: Cluster, two_waters: Cluster, tmp_path: Path
) -> None:
    reference, program = run(tmp_path)
    reference.begin(1)
    reference.label(water)
    verdicts = iter(["too far away", ""])
    rungs: list[str] = []

    def judge(label: Label) -> str:
        rungs.append(label.rung)
        return next(verdicts)

    label = reference.compute(two_waters, judge)
    assert rungs == ["guess", "diis"]
    assert (label.rung, program.paid) == ("diis", 3)
    assert [density.cluster.size for density in program.guesses.all()] == [3, 6]
    assert len(LabelStore(tmp_path / "labels.db")) == 2


def test_what_the_judge_refuses_twice_is_quarantined_and_leaves_no_trace(
    water: Cluster, two_waters: Cluster, tmp_path: Path
) -> None:
    reference, program = run(tmp_path)
    reference.begin(1)
    reference.label(water)
    with pytest.raises(BadLabel, match="too far away"):
        reference.compute(two_waters, lambda label: "too far away")
    assert program.paid == 3
    assert [density.cluster.size for density in program.guesses.all()] == [3]
    store = LabelStore(tmp_path / "labels.db")
    assert len(store) == 1
    with pytest.raises(BadLabel, match="too far away"):
        reference.known(two_waters)
    assert program.paid == 3


def test_failures_are_not_stored(water: Cluster, tmp_path: Path) -> None:
    reference, program = run(tmp_path)

    def fail(label: Label) -> Label:
        raise NotConverged("no")

    program.spoil = fail
    for _ in range(2):
        with pytest.raises(NotConverged):
            reference.label(water)
    assert program.paid == 2
    assert len(LabelStore(tmp_path / "labels.db")) == 0
