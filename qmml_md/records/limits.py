"""Limits for what is read: a file that somebody hands over may lie about its size, its kind, and where things lie.

Pure checks, each raising ``RunDirectoryError`` with the file and the row or dataset at fault. A run directory may come
from anywhere; nothing that it names may lie outside of it, and nothing in it may ask for more memory than its size on
the disk accounts for.
"""

import io
import json
import math
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import h5py
import numpy as np

from ..errors import RunDirectoryError
from .frames import Floats

#: Largest text files of a run, bytes: state, manifests and lists of atoms of a million atoms stay below.
MOST_JSON_BYTES = 256 * 1024**2
#: Bytes that a dataset may declare for each byte on the disk: segments are not compressed; other programs use deflate,
#: which makes 1/1000 of a file of zeros but hardly 1/20 of a trajectory.
SEGMENT_RATIO, FOREIGN_RATIO = 1.0, 100.0
#: Bytes that a file may declare whatever its size.
SLACK_BYTES = 1024**2
MOST_OBJECTS = 2000
#: Filters that are part of HDF5 itself; others are shared libraries, looked up by a number in the file.
BUILT_IN_FILTERS = frozenset({1, 2, 3, 4, 5, 6})
#: Longest text or blob in a database, bytes.
MOST_CELL_BYTES = 64 * 1024**2
#: By these ASE's JSON makes objects and arrays of any shape; numbers in blobs are of their own format.
ASE_OBJECTS = ("__ndarray__", "__complex_ndarray__", "__ase_objtype__")

_RESTORE = "restore it from a copy of the run directory; if that is how it came, do not trust the run"
_MODEL_ID = re.compile(r"[0-9a-f]{64}")


def inside(root: Path, name: object, where: str) -> Path:
    """The path of a file that something in a run names, which must lie in the run.

    Args:
        root: run directory.
        name: as written in a table or a file of the run.
        where: what names it, for the message, such as `run.db, segment 3`.

    Raises:
        RunDirectoryError: it is no relative path, steps up, or leads out over a link.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise RunDirectoryError(f"{where}: {name!r:.80} is no name of a file", cure=_RESTORE)
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.anchor or ".." in (*posix.parts, *windows.parts):
        raise RunDirectoryError(f"{where}: {name!r:.80} lies outside of the run", cure=_RESTORE)
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise RunDirectoryError(f"{where}: {name!r:.80} is a link that leads out of the run", cure=_RESTORE)
    return path


def model_id(name: object, where: str) -> str:
    """The identity of a model, which is also the name of its file.

    Raises:
        RunDirectoryError: it is no SHA-256 in hexadecimal.
    """
    if not isinstance(name, str) or not _MODEL_ID.fullmatch(name):
        raise RunDirectoryError(f"{where}: {name!r:.80} is no identity of a model", cure=_RESTORE)
    return name


def regular(path: Path, most_bytes: int, *, links: bool = False) -> Path:
    """A path of a file of bounded size: reading from a pipe or a device could take for ever.

    Args:
        path: as found.
        most_bytes: size that is still read.
        links: whether it may be a link: where a person named it, not a run.

    Raises:
        RunDirectoryError: it is missing, a link, no file, or too large.
    """
    try:
        if path.is_symlink() and not links:
            raise RunDirectoryError(f"{path} is a link: what it leads to may lie outside of the run", cure=_RESTORE)
        found = path.stat()
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} cannot be read: {error}", cure=_RESTORE) from error
    if not stat.S_ISREG(found.st_mode):
        raise RunDirectoryError(f"{path} is no file", cure=_RESTORE)
    if found.st_size > most_bytes:
        raise RunDirectoryError(
            f"{path} has {found.st_size / 1e6:.0f} MB, more than {most_bytes / 1e6:.0f} MB", cure=_RESTORE
        )
    return path


def read_bounded(path: Path, most_bytes: int = MOST_JSON_BYTES) -> bytes:
    """All of a file of bounded size.

    Raises:
        RunDirectoryError: it cannot be read, or is too large.
    """
    try:
        return regular(path, most_bytes).read_bytes()
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error}", cure=_RESTORE) from error


def json_of(text: str | bytes, where: str) -> Any:
    """Data from JSON text of the record.

    Raises:
        RunDirectoryError: it is no JSON, or nested beyond reason.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise RunDirectoryError(f"{where} is no JSON: {error!s:.120}", cure=_RESTORE) from error


def object_of(text: str | bytes, where: str) -> dict[str, Any]:
    """A JSON object of the record; errors as for ``json_of``."""
    found = json_of(text, where)
    if not isinstance(found, dict):
        raise RunDirectoryError(f"{where}: {found!r:.60} is no JSON object", cure=_RESTORE)
    return found


def npy_of(content: bytes, where: str) -> Floats:
    """Numbers from the bytes of an ``.npy`` file.

    Raises:
        RunDirectoryError: they are no plain numbers, or the head names another shape than there are numbers.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_head(stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError(f"its head names {dtype} of the shape {shape}")
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), dtype=np.float64)
    except (ValueError, TypeError, KeyError, EOFError, SyntaxError) as error:
        raise RunDirectoryError(f"{where} holds no plain array: {error!s:.120}", cure=_RESTORE) from error


@contextmanager
def sound(where: str) -> Iterator[None]:
    """Say where something stands that is not of the kind that it should be.

    Raises:
        RunDirectoryError: whatever is done within tripped over the data that it was given.
    """
    try:
        yield
    except RunDirectoryError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise RunDirectoryError(
            f"{where} is not what was written: {type(error).__name__}: {error!s:.120}", cure=_RESTORE
        ) from error


def check_hdf5(file: h5py.File, path: Path, *, ratio: float = SEGMENT_RATIO, soft_links: bool = False) -> None:
    """Refuse HDF5 that points elsewhere, or declares more than it holds.

    Args:
        file: opened for reading.
        path: of it.
        ratio: bytes that datasets may declare for each byte of the file; above 1 only with the built-in filters.
        soft_links: whether names for other objects of the same file are allowed.

    Raises:
        RunDirectoryError: a dataset is kept in another file, is virtual, or needs a filter that is not allowed; a link
            leads to another file; or all datasets together are larger than the file accounts for.
    """
    allowed = SLACK_BYTES + ratio * path.stat().st_size
    declared = 0.0
    for name, dataset in _datasets(file, path, soft_links):
        plan = dataset.id.get_create_plist()
        filters = {plan.get_filter(k)[0] for k in range(plan.get_nfilters())}
        if dataset.is_virtual or plan.get_external_count():
            raise RunDirectoryError(f"{path}: {name} keeps its numbers in another file", cure=_RESTORE)
        if not filters <= (BUILT_IN_FILTERS if ratio > 1.0 else frozenset()):
            raise RunDirectoryError(f"{path}: {name} needs the filter {min(filters)}, which is not allowed")
        if h5py.check_vlen_dtype(dataset.dtype) is not None or dataset.dtype.kind == "V":
            raise RunDirectoryError(f"{path}: {name} holds {dataset.dtype}, neither numbers nor text", cure=_RESTORE)
        declared += float(dataset.size or 0) * dataset.dtype.itemsize
        if declared > allowed:
            raise RunDirectoryError(
                f"{path}: {name} declares the shape {dataset.shape}; with that the file would hold "
                f"{declared / 1e6:.0f} MB in {path.stat().st_size / 1e6:.2f} MB",
                cure=_RESTORE,
            )


def _datasets(file: h5py.File, path: Path, soft_links: bool) -> Iterator[tuple[str, h5py.Dataset]]:
    """All datasets by name; hard links may form circles, so that each group is entered once."""
    waiting, seen, count = [file["/"]], set(), 0
    while waiting:
        group = waiting.pop()
        for name in group:
            count += 1
            link, full = group.get(name, getlink=True), f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink) or (isinstance(link, h5py.SoftLink) and not soft_links):
                raise RunDirectoryError(f"{path}: {full} is a link to {link.path!r:.80}", cure=_RESTORE)
            if count > MOST_OBJECTS:
                raise RunDirectoryError(f"{path} holds more than {MOST_OBJECTS} objects", cure=_RESTORE)
            if isinstance(link, h5py.SoftLink):
                continue
            found = group[name]
            if isinstance(found, h5py.Dataset):
                yield full, found
            elif isinstance(found, h5py.Group) and (where := h5py.h5o.get_info(found.id).addr) not in seen:
                seen.add(where)
                waiting.append(found)


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database in which reading or writing a table would do something else.

    Triggers run when a row is written; a view or a virtual table under the name of a table answers with whatever it
    was told to compute. The schema is not trusted with functions, and no text or blob may be larger than the limit.

    Raises:
        RunDirectoryError: the database holds anything but tables and their indices, or is none.
    """
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_CELL_BYTES)
        connection.execute("PRAGMA trusted_schema=OFF")
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        raise RunDirectoryError(f"{path} is no database that can be read: {error}", cure=_RESTORE) from error
    for kind, name, sql in rows:
        words = " ".join(str(sql or "").upper().split())
        if kind not in ("table", "index") or words.startswith("CREATE VIRTUAL") or "GENERATED ALWAYS" in words:
            raise RunDirectoryError(f"{path} holds the {kind} {name!r:.60}, which no run writes", cure=_RESTORE)


def check_labels(path: Path) -> None:
    """Refuse a store of labels in which reading a row would build anything but numbers and plain text.

    ASE's JSON names types and shapes: a few bytes can ask for an array of any size.

    Raises:
        RunDirectoryError: this is no store of labels, or it holds such text.
    """
    regular(path, 1024 * MOST_CELL_BYTES, links=True)
    connection = sqlite3.connect(f"file:{path.resolve().as_posix().replace('?', '%3f')}?mode=ro", uri=True)
    try:
        check_tables(connection, path)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='systems'").fetchone():
            # ASE would make its tables in it.
            raise RunDirectoryError(f"{path} is no store of labels: it has no table of them", cure=_RESTORE)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(systems)")]
        texts = [c for c in columns if c in ("key_value_pairs", "calculator_parameters", "constraints", "data")]
        for column in texts:
            for word in ASE_OBJECTS:
                query = f"SELECT id FROM systems WHERE typeof({column})='text' AND instr({column}, ?) LIMIT 1"  # noqa: S608 - names from above
                if row := connection.execute(query, (word,)).fetchone():
                    raise RunDirectoryError(
                        f"{path}, row {row[0]}: {column} asks for an object ({word})", cure=_RESTORE
                    )
    except sqlite3.Error as error:
        raise RunDirectoryError(f"{path} is no store of labels: {error}", cure=_RESTORE) from error
    finally:
        connection.close()
