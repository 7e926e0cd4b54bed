"""Files that are meant to harm: each kind is refused by name, nothing in it runs, and the bait is live.

The traps are those of ``benchmarks/faults_parts``, one by one, so that a failing one has a name here.
"""

import importlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from qmml_md.errors import RunDirectoryError
from qmml_md.records.limits import (
    check_hdf5,
    check_labels,
    check_tables,
    inside,
    json_of,
    model_id,
    npy_of,
    object_of,
    regular,
)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def hostile() -> ModuleType:
    """The traps, and what springs them."""
    added = [str(BENCHMARKS), str(BENCHMARKS / "faults_parts")]
    sys.path[:0] = added
    try:
        return importlib.import_module("hostile")
    finally:
        for each in added:
            sys.path.remove(each)


HOSTILE = hostile()
TRAPS = HOSTILE.in_files()
LIVE = [trap for trap in TRAPS if trap.unsafe is not None]


def name_of(trap: object) -> str:
    return f"{trap.kind}: {trap.name}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("trap", TRAPS, ids=name_of)
def test_nothing_runs_and_the_file_is_named(trap) -> None:
    found = HOSTILE.spring(trap)
    assert not found.executed
    assert not found.told, found.outcome.text
    assert found.outcome.rejected, (found.outcome.code, found.outcome.text)
    assert found.outcome.named, found.outcome.text
    assert found.megabytes < HOSTILE.MOST_MB


@pytest.mark.parametrize("trap", LIVE, ids=name_of)
def test_a_careless_reader_would_have_run_it(trap) -> None:
    # The twin of the test above: what is not executed there, is executed by a reader that trusts the file.
    assert HOSTILE.fires(trap)


def test_paths_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "run" / "segments").mkdir(parents=True)
    (tmp_path / "outside").touch()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "run" / "loop").symlink_to("segments")
    assert inside(tmp_path / "run", "segments/0.h5", "row") == tmp_path / "run" / "segments" / "0.h5"
    assert inside(tmp_path / "run", "loop/0.h5", "row").parent.name == "loop"
    for name in (
        "../outside",
        "/etc/passwd",
        "segments/../../outside",
        "link",
        "",
        "a\0b",
        3,
        None,
        b"x",
        "C:\\x",
        "..\\x",
    ):
        with pytest.raises(RunDirectoryError, match="row: "):
            inside(tmp_path / "run", name, "row")


def test_a_run_that_is_a_link_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to("real")
    assert inside(tmp_path / "run", "x", "row") == tmp_path / "run" / "x"


def test_identities_of_models() -> None:
    assert model_id("0" * 64, "row") == "0" * 64
    for name in ("0" * 63, "../" + "0" * 61, "G" * 64, 5, None, "0" * 64 + "\n"):
        with pytest.raises(RunDirectoryError, match="no identity"):
            model_id(name, "row")


def test_sizes_and_links(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"123")
    (tmp_path / "b").symlink_to(file)
    assert regular(file, 3) == file
    assert regular(tmp_path / "b", 3, links=True)
    for path, most in ((file, 2), (tmp_path / "b", 3), (tmp_path, 3), (tmp_path / "c", 3), (Path("/dev/zero"), 3)):
        with pytest.raises(RunDirectoryError):
            regular(path, most)


def test_json_that_is_none() -> None:
    assert json_of('{"a": 1}', "x") == {"a": 1}
    for text in ("{", "[" * 100_000, "9" * 10_000, None):
        with pytest.raises(RunDirectoryError, match="x is no JSON"):
            json_of(text, "x")
    with pytest.raises(RunDirectoryError, match="no JSON object"):
        object_of("[1]", "x")


def test_arrays_are_what_their_head_says() -> None:
    good = np.arange(6.0).reshape(2, 3)
    content = npy_bytes(good)
    assert np.array_equal(npy_of(content, "x"), good)
    objects = npy_bytes(np.array([{}], dtype=object), allow_pickle=True)
    for bad in (content[:-1], content + b"0", objects, b"", b"PK\x03\x04", content.replace(b"(2, 3)", b"(9, 3)")):
        with pytest.raises(RunDirectoryError, match="x holds no plain array"):
            npy_of(bad, "x")


def npy_bytes(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """HDF5 with a megabyte of numbers that do not compress."""
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.random.default_rng(1).random(125_000)
    return path


def test_hdf5_that_is_what_it_says(plain: Path) -> None:
    with h5py.File(plain) as file:
        check_hdf5(file, plain)


def spoils() -> Iterator[tuple[str, object]]:
    yield "shape", lambda f: f.create_dataset("y", shape=(10**9,), dtype="f8", chunks=(1000,))
    yield "another file", lambda f: f.create_dataset("y", shape=(2,), dtype="f8", external=[("/etc/passwd", 0, 16)])
    yield "link", lambda f: f.__setitem__("y", h5py.ExternalLink("other.h5", "/x"))
    yield "link", lambda f: f.__setitem__("y", h5py.SoftLink("/x"))
    yield "filter", lambda f: f.create_dataset("y", data=np.zeros(9), compression="gzip")
    yield "neither numbers", lambda f: f.create_dataset("y", data=["a"], dtype=h5py.string_dtype())


@pytest.mark.parametrize(("named", "spoil"), list(spoils()))
def test_hdf5_that_is_not(plain: Path, named: str, spoil) -> None:
    with h5py.File(plain, "r+") as file:
        spoil(file)
    with h5py.File(plain) as file, pytest.raises(RunDirectoryError, match=named):
        check_hdf5(file, plain)


def test_links_of_groups_in_a_circle_end(plain: Path) -> None:
    with h5py.File(plain, "r+") as file:
        file.create_group("a")["b"] = file["/"]
    with h5py.File(plain) as file:
        check_hdf5(file, plain)


@pytest.mark.parametrize(
    "line",
    [
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM a; END",
        "CREATE VIEW v AS SELECT * FROM a",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE TABLE g (x, y GENERATED ALWAYS AS (x + 1))",
    ],
)
def test_databases_that_compute(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE a (x PRIMARY KEY)")
    check_tables(connection, path)
    connection.execute(line)
    with pytest.raises(RunDirectoryError, match=r"a\.db holds the"):
        check_tables(connection, path)
    connection.close()


def test_an_empty_file_is_no_store_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    path.touch()
    with pytest.raises(RunDirectoryError, match="no table of them"):
        check_labels(path)
    assert path.stat().st_size == 0
