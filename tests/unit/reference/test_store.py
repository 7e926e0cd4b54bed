import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase.db.row import AtomsRow

from qmml_md import config
from qmml_md.errors import CannotCommit, LabelError, RunDirectoryError
from qmml_md.reference.label import Embedded, Label, label_key
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.pyscf_setup import level_of_theory
from qmml_md.reference.store import LabelStore
from qmml_md.reference.store_rows import atoms_of, columns_of, data_of, label_digest
from qmml_md.region.cluster import Cluster, Surroundings

Make = Callable[..., Cluster]
LEVEL = level_of_theory(config.Reference())


def label_of(cluster: Cluster, rng: np.random.Generator) -> Label:
    """A label with numbers that use every bit."""
    return Label(
        key=label_key(cluster, LEVEL),
        cluster=cluster,
        energy=float(-4217.0 + rng.normal()),
        forces=rng.normal(size=(cluster.size, 3)),
        dipole=rng.normal(size=3),
        charges=rng.normal(size=cluster.size),
        level=LEVEL,
        rung="level-shift",
        spin_squared=float(rng.random()),
        gap=float(rng.random()),
        wall_time=float(rng.random()),
    )


@pytest.fixture
def label(make_cluster: Make) -> Label:
    rng = np.random.default_rng(5)
    cluster = make_cluster(
        [6, 1, 1, 8], rng.normal(size=(4, 3)) * 3, parent=[12, 13, -1, 2], links=[[2, 0]], charge=-1, multiplicity=2
    )
    return label_of(cluster, rng)


def assert_equal_to_the_bit(one: Label, other: Label) -> None:
    parts = [(one, other), (one.cluster, other.cluster)]
    for pair in ((one.cluster.surroundings, other.cluster.surroundings), (one.embedding, other.embedding)):
        assert (pair[0] is None) == (pair[1] is None)
        parts += [pair] if pair[0] is not None else []
    for part, twin in parts:
        for name in part.__dataclass_fields__:
            value, stored = getattr(part, name), getattr(twin, name)
            if isinstance(value, np.ndarray):
                assert stored.dtype == value.dtype, name
                assert stored.shape == value.shape, name
                assert stored.tobytes() == value.tobytes(), name
            elif isinstance(value, float):
                assert np.float64(stored).tobytes() == np.float64(value).tobytes(), name
            elif name not in ("cluster", "surroundings", "embedding"):
                assert stored == value, name
                assert type(stored) is type(value), name


def test_what_comes_back_is_equal_to_the_bit(tmp_path: Path, label: Label) -> None:
    LabelStore(tmp_path / "labels.db").put(label)
    found = LabelStore(tmp_path / "labels.db").get(label.key)
    assert found is not None
    assert_equal_to_the_bit(label, found)
    found.forces[0, 0] = 1.0  # arrays are the reader's own


@pytest.fixture
def embedded(label: Label) -> Label:
    rng = np.random.default_rng(8)
    around = Surroundings(
        positions=rng.normal(size=(7, 3)) * 9,
        charges=rng.normal(size=7),
        parent=np.array([40, 41, 42, 50, 51, 52, -1]),
        own=rng.normal(size=4),
    )
    cluster = replace(label.cluster, surroundings=around)
    embedding = Embedded(energy=-77.7 / 3, forces=rng.normal(size=(4, 3)), on_charges=rng.normal(size=(7, 3)))
    level = replace(LEVEL, embedding="electrostatic")
    return replace(label, cluster=cluster, embedding=embedding, level=level, key=label_key(cluster, level))


def test_surroundings_come_back_to_the_bit(tmp_path: Path, label: Label, embedded: Label) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.put(label)
    store.put(embedded)
    assert len(store) == 2  # of one geometry
    found = store.get(embedded.key)
    assert found is not None
    assert_equal_to_the_bit(embedded, found)
    assert_equal_to_the_bit(label, store.need(label.key))
    forces = embedded.embedding.on_charges.copy()  # type: ignore[union-attr]
    forces[6, 2] = np.nextafter(forces[6, 2], np.inf)
    with pytest.raises(AssertionError, match="on_charges"):
        assert_equal_to_the_bit(found, replace(embedded, embedding=replace(embedded.embedding, on_charges=forces)))  # type: ignore[type-var]


def test_a_cluster_without_charges_around_it_stays_one(tmp_path: Path, embedded: Label) -> None:
    own = embedded.cluster.surroundings.own  # type: ignore[union-attr]
    none = Surroundings(positions=np.zeros((0, 3)), charges=np.zeros(0), parent=np.zeros(0, dtype=np.int64), own=own)
    cluster = replace(embedded.cluster, surroundings=none)
    nothing = replace(embedded.embedding, on_charges=np.zeros((0, 3)))  # type: ignore[type-var]
    bare = replace(embedded, cluster=cluster, key=label_key(cluster, embedded.level), embedding=nothing)
    store = LabelStore(tmp_path / "labels.db")
    store.put(bare)
    assert_equal_to_the_bit(bare, store.need(bare.key))


def test_the_comparison_sees_one_bit(label: Label) -> None:
    forces = label.forces.copy()
    forces[1, 1] = np.nextafter(forces[1, 1], np.inf)
    with pytest.raises(AssertionError, match="forces"):
        assert_equal_to_the_bit(label, replace(label, forces=forces))


def test_what_is_unknown_or_infinite_stays_so(tmp_path: Path, label: Label) -> None:
    odd = replace(
        label,
        dipole=np.full(3, np.nan),
        charges=np.full(4, np.nan),
        spin_squared=float("nan"),
        gap=float("inf"),
        cluster=replace(label.cluster, links=np.zeros((0, 2), dtype=np.int64)),
    )
    store = LabelStore(tmp_path / "labels.db")
    store.put(odd)
    found = store.get(odd.key)
    assert found is not None
    assert_equal_to_the_bit(odd, found)


def test_a_real_label_comes_back(tmp_path: Path, water: Cluster) -> None:
    label = PyscfReference(config.Reference(method="hf", basis="sto-3g"), 1).label(water)
    store = LabelStore(tmp_path / "labels.db")
    store.put(label)
    (found,) = store.all()
    assert_equal_to_the_bit(label, found)


def test_storing_twice_stores_once_and_the_first_stays(tmp_path: Path, label: Label) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.put(label)
    store.put(replace(label, wall_time=99.0))
    LabelStore(tmp_path / "labels.db").put(label)
    assert len(store) == 1
    assert_equal_to_the_bit(store.all()[0], label)


def test_labels_come_in_the_order_in_which_they_were_stored(tmp_path: Path, label: Label) -> None:
    rng = np.random.default_rng(6)
    labels = [label_of(replace(label.cluster, positions=label.cluster.positions + i), rng) for i in rng.permutation(12)]
    store = LabelStore(tmp_path / "labels.db")
    for one in labels:
        store.put(one)
    assert [one.key for one in store.all()] == [one.key for one in labels]
    assert len(store) == 12


def test_unknown_key_is_none_and_an_empty_store_makes_no_labels(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.db")
    assert store.get("0" * 64) is None
    assert store.all() == []
    assert len(store) == 0


def test_keys_of_digits_alone_are_stored(tmp_path: Path, label: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    # ASE refuses text that reads like a number; one hash in 10^13 does, and "123e45…" more often.
    for key in ("1" * 64, "1e" + "5" * 62):
        for module in ("store", "store_rows"):
            monkeypatch.setattr(f"qmml_md.reference.{module}.label_key", lambda cluster, level, key=key: key)
        store = LabelStore(tmp_path / "labels.db")
        store.put(replace(label, key=key))
        assert store.get(key) is not None


def test_ase_reads_energies_and_forces(tmp_path: Path, label: Label) -> None:
    LabelStore(tmp_path / "labels.db").put(label)
    with ase.db.connect(tmp_path / "labels.db") as database:
        row: AtomsRow = database.get(total_charge=-1, multiplicity=2, rung="level-shift")
    atoms = row.toatoms()
    assert atoms.get_potential_energy() == label.energy
    assert np.array_equal(atoms.get_forces(), label.forces)
    assert np.array_equal(atoms.get_dipole_moment(), label.dipole)
    assert np.array_equal(atoms.get_charges(), label.charges)
    assert atoms.get_chemical_symbols() == ["C", "H", "H", "O"]
    assert not atoms.pbc.any()
    assert row.level_of_theory == "pyscf:wb97x/6-31g*"


def test_label_that_does_not_belong_to_its_key_is_refused(tmp_path: Path, label: Label) -> None:
    store = LabelStore(tmp_path / "labels.db")
    with pytest.raises(LabelError, match="does not belong"):
        store.put(replace(label, key="f" * 64))
    with pytest.raises(LabelError, match="not finite"):
        store.put(replace(label, energy=float("nan")))
    assert len(store) == 0


def test_a_changed_row_is_noticed(tmp_path: Path, label: Label) -> None:
    path = tmp_path / "labels.db"
    store = LabelStore(path)
    store.put(label)
    moved = label.cluster.positions.copy()
    moved[0, 0] += 1e-6
    connection = sqlite3.connect(path)
    connection.execute("UPDATE systems SET positions = ?", (moved.tobytes(),))
    connection.commit()
    connection.close()
    with pytest.raises(RunDirectoryError, match="was changed after it was stored"):
        store.get(label.key)


def test_a_foreign_row_is_named(tmp_path: Path, label: Label) -> None:
    path = tmp_path / "labels.db"
    with ase.db.connect(path) as database:
        database.write(ase.Atoms("H"))
    with pytest.raises(RunDirectoryError, match=r"row 1 of .* is no label"):
        LabelStore(path).all()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(RunDirectoryError, match=r"labels\.db"):
        LabelStore(path)
    assert path.read_bytes() == b"not a database" * 100


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.db").mkdir()
    with pytest.raises(RunDirectoryError, match=r"labels\.db is no file"):
        LabelStore(tmp_path / "labels.db")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no folder"):
        LabelStore(tmp_path / "nowhere" / "labels.db")


def test_no_lock_file_can_outlive_a_killed_run(tmp_path: Path, label: Label) -> None:
    (tmp_path / "labels.db.lock").touch()  # what ASE would wait for, for ever
    store = LabelStore(tmp_path / "labels.db")
    store.put(label)
    assert len(store) == 1


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_a_changed_number_is_noticed_where_the_key_cannot_tell(tmp_path: Path, label: Label) -> None:
    path = tmp_path / "labels.db"
    store = LabelStore(path)
    store.put(label)
    assert store.problems() == []
    forces = label.forces.copy()
    forces[3, 1] = np.nextafter(forces[3, 1], np.inf)
    change(path, "UPDATE systems SET forces = ?", forces.tobytes())
    with pytest.raises(RunDirectoryError, match="was changed after it was stored"):
        store.get(label.key)
    assert len(store.problems()) == 1
    change(path, "UPDATE systems SET forces = ?", label.forces.tobytes())
    assert store.problems() == []
    assert store.get(label.key) is not None


def test_a_digest_is_of_every_number_and_of_nothing_else(embedded: Label) -> None:
    digest = label_digest(embedded)
    nudged = embedded.forces.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], 9.0)
    inner = replace(embedded.embedding, energy=0.0)  # type: ignore[type-var]
    others = [{"energy": 0.0}, {"forces": nudged}, {"dipole": np.ones(3)}, {"gap": 3.0}, {"embedding": inner}]
    assert len({digest, *(label_digest(replace(embedded, **other)) for other in others)}) == 6
    assert label_digest(replace(embedded, cluster=replace(embedded.cluster, parent=np.arange(4)))) == digest
    # How long it took is another thing each time.
    assert label_digest(replace(embedded, wall_time=1e3)) == digest


def test_a_row_without_a_digest_is_of_an_earlier_version_and_is_read(tmp_path: Path, label: Label) -> None:
    path = tmp_path / "labels.db"
    columns, data = columns_of(label, ""), data_of(label)
    del data["digest"]
    with ase.db.connect(path) as database:
        database.write(atoms_of(label), key_value_pairs=columns, data=data)
    found = LabelStore(path, owner="me").get(label.key)
    assert found is not None
    assert_equal_to_the_bit(label, found)
    assert not LabelStore(path, owner="me").paid(label.key)


def test_a_store_knows_who_paid(tmp_path: Path, label: Label) -> None:
    path = tmp_path / "labels.db"
    LabelStore(path, owner="12345").put(label)
    assert LabelStore(path, owner="12345").paid(label.key)
    assert not LabelStore(path, owner="123456").paid(label.key)
    assert not LabelStore(path).paid(label.key)
    assert not LabelStore(path, owner="12345").paid("f" * 64)


def test_what_is_quarantined_is_kept_and_is_no_label(tmp_path: Path, label: Label) -> None:
    store = LabelStore(tmp_path / "labels.db", owner="me")
    wrong = replace(label, forces=label.forces[:-1] * np.nan, energy=float("nan"))
    store.quarantine(label.key, "not finite: forces", label.cluster, label.level, wrong)
    store.quarantine(label.key, "again", label.cluster, label.level, wrong)
    assert store.quarantined(label.key) == "not finite: forces"
    assert store.quarantined("f" * 64) is None
    assert store.get(label.key) is None
    assert len(store) == 0
    assert store.all() == []
    assert store.paid(label.key)
    assert store.problems() == []
    store.put(label)
    assert [found.key for found in store.all()] == [label.key]
    assert store.quarantined(label.key) is not None
    with ase.db.connect(tmp_path / "labels.db") as database:
        row = database.get("quarantined")
    assert row.data["forces"].shape == (9,)
    assert row.paid_by == "run:me"


def test_a_store_that_cannot_be_written_says_how_to_go_on_and_works_again(tmp_path: Path, label: Label) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.put(label)
    other = label_of(replace(label.cluster, positions=label.cluster.positions + 1.0), np.random.default_rng(2))
    store._database._connect = full(store._database.filename)

    def fill() -> None:
        for shift in range(1, 100):
            positions = label.cluster.positions + float(shift)
            store.put(label_of(replace(label.cluster, positions=positions), np.random.default_rng(2)))

    with pytest.raises(CannotCommit, match="full") as caught:
        fill()
    assert "qmml resume" in caught.value.cure
    del store._database._connect
    store.put(other)
    assert store.get(other.key) is not None
    assert store.problems() == []


def full(path: str) -> Callable[[], sqlite3.Connection]:
    """Connections to a database that has no room for another page: SQLite answers as it does on a full disk."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    return connect


def test_a_kill_while_the_file_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[str] = []

    def killed(made: Path, path: Path) -> None:
        with closing(sqlite3.connect(made)) as connection:
            tables.extend(row[0] for row in connection.execute("SELECT name FROM sqlite_master"))
        raise KeyboardInterrupt

    monkeypatch.setattr("qmml_md.reference.store.publish", killed)
    with pytest.raises(KeyboardInterrupt):
        len(LabelStore(tmp_path / "labels.db"))
    # An empty file under the final name would get its tables one by one.
    assert {"information", "systems"} <= {*tables}
    assert not (tmp_path / "labels.db").exists()
    monkeypatch.undo()
    assert len(LabelStore(tmp_path / "labels.db")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["labels.db"]
