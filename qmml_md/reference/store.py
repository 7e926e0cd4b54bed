"""The label store: an ASE database, in which a label is found by what was computed and at which level of theory.

``labels.db`` is plain ASE: ``ase db labels.db`` lists it and ``ase gui labels.db`` shows energies and forces. Numbers
come back equal to the bit.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
from ase import Atoms

from ..errors import CannotCommit, LabelError, RunDirectoryError
from ..records.durable import part_of, publish
from ..records.limits import check_labels
from ..region.cluster import Cluster
from .label import Label, LevelOfTheory, label_key
from .store_rows import (
    KEY_PREFIX,
    PAYER_PREFIX,
    UNREADABLE,
    atoms_of,
    columns_of,
    data_of,
    label_of,
    quarantined_columns,
    quarantined_data,
)
from .store_rows import label_digest as label_digest

#: Column of keys that must not be used.
_APART = "quarantined_key"


class LabelStore:
    """Labels on disk, never changed once written; and, apart from them, what was computed but must not be used."""

    def __init__(self, path: Path | str, owner: str = "") -> None:
        """Open a store; the file is made with the first label.

        Args:
            path: file name, ending in ``.db``.
            owner: name of the run that pays for what is put; empty for none.

        Raises:
            RunDirectoryError: the file is there but is no ASE database, or its folder is missing.
        """
        self._path = Path(path)
        self._owner = owner
        if not self._path.parent.is_dir():
            raise RunDirectoryError(f"no folder {self._path.parent} to keep labels in", cure="create it first")
        # SQLite locks by itself; ASE's lock file would outlive a killed run and block the next one for ever. SQLite's
        # defaults, a rollback journal and synchronous=FULL, make a label durable before ``put`` returns.
        self._database = ase.db.connect(self._path, type="db", use_lock_file=False, serial=True)
        if self._path.exists():
            check_labels(self._path)
            len(self)

    def get(self, key: str) -> Label | None:
        """Find a label by its content address; None if it was never computed.

        Raises:
            RunDirectoryError: the store cannot be read, or holds something else under this address.
        """
        with self._open() as database:
            for row in database.select(label_key=KEY_PREFIX + key):
                return label_of(row, self._path)
        return None

    def need(self, key: str) -> Label:
        """A label that a run has learned from.

        Raises:
            RunDirectoryError: it is not there, or the store cannot be read.
        """
        label = self.get(key) if self._path.exists() else None
        if label is None:
            raise RunDirectoryError(
                f"{self._path} has lost the label {key[:12]} that the run has learned from",
                cure="restore labels.db from a copy of the run directory",
            )
        return label

    def put(self, label: Label) -> None:
        """Store a label; one that is there already stays as it is.

        Raises:
            LabelError: the label is not what its key says, or holds numbers that are not finite.
            RunDirectoryError: the store cannot be written.
        """
        if label.key != label_key(label.cluster, label.level):
            raise LabelError("a label does not belong to its key", cure="make the key with label_key")
        if not np.isfinite(label.energy) or not np.isfinite(label.forces).all():
            raise LabelError("a label with an energy or force that is not finite is not stored")
        with self._open(writing=True) as database:
            if database.count(label_key=KEY_PREFIX + label.key) == 0:
                columns, data = columns_of(label, self._owner), data_of(label)
                database.write(atoms_of(label), key_value_pairs=columns, data=data)

    def paid(self, key: str) -> bool:
        """Whether the owner paid for the label, or for what is quarantined, under this key."""
        if not self._owner:
            return False
        with self._open() as database:
            ours = PAYER_PREFIX + self._owner
            return any(database.count(paid_by=ours, **{name: KEY_PREFIX + key}) for name in ("label_key", _APART))

    def quarantine(self, key: str, reason: str, cluster: Cluster, level: LevelOfTheory, label: Label | None) -> None:
        """Keep what was computed but must not be used, so that nobody pays for it again.

        Args:
            key: of what was asked for.
            reason: why it must not be used.
            cluster: what was asked for.
            level: at which level of theory.
            label: what was computed; None where that is not known.

        Raises:
            RunDirectoryError: the store cannot be written.
        """
        atoms = Atoms(numbers=cluster.numbers, positions=cluster.positions, pbc=False)
        with self._open(writing=True) as database:
            if database.count(**{_APART: KEY_PREFIX + key}) == 0:
                columns = quarantined_columns(key, reason, cluster, level, self._owner)
                database.write(atoms, key_value_pairs=columns, data=quarantined_data(label))

    def quarantined(self, key: str) -> str | None:
        """Why what was computed under a key must not be used; None if nothing was, or nothing speaks against it."""
        with self._open() as database:
            for row in database.select(**{_APART: KEY_PREFIX + key}):
                return str(row.get("quarantined", ""))
        return None

    def all(self) -> list[Label]:
        """All labels, in the order in which they were stored; none that is quarantined."""
        with self._open() as database:
            return [label_of(row, self._path) for row in database.select(sort="id") if row.get(_APART) is None]

    def problems(self) -> list[str]:
        """What is damaged, one line each: the file, labels, and rows that are neither labels nor quarantined."""
        found: list[str] = []
        try:
            with self._open() as database:
                lines = database.connection.execute("PRAGMA integrity_check").fetchall()
                found += [f"{self._path}: {line}" for (line,) in lines if line != "ok"]
                numbers = [number for (number,) in database.connection.execute("SELECT id FROM systems ORDER BY id")]
        except RunDirectoryError as error:
            return [*found, error.what]
        for number in numbers:
            try:
                with self._open() as database:
                    row = database.get(id=number)
                    if row.get(_APART) is None:
                        label_of(row, self._path)
            except RunDirectoryError as error:
                found.append(error.what)
        return found

    def __len__(self) -> int:
        with self._open() as database:
            return int(database.count()) - int(database.count(_APART))

    @contextmanager
    def _open(self, *, writing: bool = False) -> Iterator[Any]:
        """One connection and one transaction; ASE leaves connections open otherwise."""
        try:
            self._make()
            with self._database as database:
                yield database
        except (sqlite3.Error, OSError, *UNREADABLE) as error:
            raise self._failed(error, writing=writing) from error
        finally:
            # Where the transaction could not be ended, ASE would refuse to begin another one.
            connection, self._database.connection = self._database.connection, None
            if connection is not None:
                connection.close()

    def _make(self) -> None:
        """Make the file with its tables, at once: ASE makes them one by one, and a kill would leave some."""
        if self._path.exists():
            return
        part = part_of(self._path)
        # A journal that was left would be rolled back into the new file.
        for left in (part.with_name(part.name + "-journal"), part):
            left.unlink(missing_ok=True)
        made = ase.db.connect(part, type="db", use_lock_file=False, serial=True)
        with made:
            # A connection alone makes no table; a question does.
            made.count()
        publish(part, self._path)

    def _failed(self, error: Exception, *, writing: bool) -> RunDirectoryError:
        if writing and isinstance(error, sqlite3.OperationalError | OSError):
            return CannotCommit(
                f"label store {self._path} cannot be written: {error}",
                cure="free some space or make it writable, then `qmml resume` the run: everything up to its last "
                "commit is whole",
            )
        return RunDirectoryError(
            f"label store {self._path}: {error}",
            cure="check that it is an ASE database, that its folder can be written, and that the disk has room; then "
            "`qmml resume` the run",
        )
