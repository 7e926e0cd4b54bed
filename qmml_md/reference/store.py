"""The label store: an ASE database, in which a label is found by what was computed and at which level of theory.

``labels.db`` is plain ASE: ``ase db labels.db`` lists it and ``ase gui labels.db`` shows energies and forces. Numbers
come back equal to the bit.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import LabelError, RunDirectoryError
from ..region.cluster import Cluster, Surroundings
from ..system.molecules import Floats
from .label import Embedded, Label, LevelOfTheory, Reference, label_key

#: ASE refuses text that reads like a number, which a hash may.
_KEY_PREFIX = "sha256:"

_SCALARS = ("energy", "spin_squared", "gap", "wall_time")


class LabelStore:
    """Labels on disk, never changed once written."""

    def __init__(self, path: Path | str) -> None:
        """Open a store; the file is made with the first label.

        Args:
            path: file name, ending in ``.db``.

        Raises:
            RunDirectoryError: the file is there but is no ASE database, or its folder is missing.
        """
        self._path = Path(path)
        if not self._path.parent.is_dir():
            raise RunDirectoryError(f"no folder {self._path.parent} to keep labels in", cure="create it first")
        # SQLite locks by itself; ASE's lock file would outlive a killed run and block the next one for ever.
        self._database = ase.db.connect(self._path, type="db", use_lock_file=False, serial=True)
        if self._path.exists():
            len(self)

    def get(self, key: str) -> Label | None:
        """Find a label by its content address; None if it was never computed.

        Raises:
            RunDirectoryError: the store cannot be read, or holds something else under this address.
        """
        with self._open() as database:
            for row in database.select(label_key=_KEY_PREFIX + key):
                return _label_of(row, self._path)
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
        with self._open() as database:
            if database.count(label_key=_KEY_PREFIX + label.key) == 0:
                database.write(_atoms_of(label), key_value_pairs=_columns_of(label), data=_data_of(label))

    def all(self) -> list[Label]:
        """All labels, in the order in which they were stored."""
        with self._open() as database:
            return [_label_of(row, self._path) for row in database.select(sort="id")]

    def __len__(self) -> int:
        with self._open() as database:
            return int(database.count())

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """One connection and one transaction; ASE leaves connections open otherwise."""
        try:
            with self._database as database:
                yield database
        except (sqlite3.Error, OSError) as error:
            raise RunDirectoryError(
                f"label store {self._path}: {error}",
                cure="check that it is an ASE database, that its folder can be written, and that the disk has room",
            ) from error


def _atoms_of(label: Label) -> Atoms:
    """The cluster with its results, as ASE's own tools expect them."""
    atoms = Atoms(numbers=label.cluster.numbers, positions=label.cluster.positions, pbc=False)
    results: dict[str, Any] = {"energy": label.energy, "forces": label.forces}
    # ASE shows NaN as if it were a result, so that what is unknown is left out.
    if np.isfinite(label.dipole).all():
        results["dipole"] = label.dipole
    if np.isfinite(label.charges).all():
        results["charges"] = label.charges
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _columns_of(label: Label) -> dict[str, Any]:
    """What a person selects and sorts by in ``ase db``."""
    return {
        "label_key": _KEY_PREFIX + label.key,
        "level_of_theory": f"{label.level.program}:{label.level.method}/{label.level.basis}",
        "rung": label.rung,
        "total_charge": label.cluster.charge,
        "multiplicity": label.cluster.multiplicity,
    }


def _data_of(label: Label) -> dict[str, Any]:
    """Everything that ASE has no column for; arrays are stored as bytes, and so are scalars that may be NaN."""
    complete = label.cluster.complete
    return {
        "numbers": label.cluster.numbers,
        "parent": label.cluster.parent,
        "links": label.cluster.links.reshape(-1),
        "outer": label.cluster.outer,
        "ratios": label.cluster.ratios,
        # ASE's database has no booleans.
        "complete": np.zeros(0, dtype=np.int64) if complete is None else complete.astype(np.int64),
        "scalars": np.array([getattr(label, name) for name in _SCALARS], dtype=np.float64),
        "dipole": label.dipole,
        "charges": label.charges,
        "level": asdict(label.level),
        **_embedding_data(label),
    }


def _embedding_data(label: Label) -> dict[str, Any]:
    """The charges around a cluster, and what was computed among them; nothing for a cluster in vacuum."""
    around, embedded = label.cluster.surroundings, label.embedding
    found: dict[str, Any] = {}
    if around is not None:
        found["surroundings"] = {
            "positions": around.positions.reshape(-1),
            "charges": around.charges,
            "parent": around.parent,
            "own": around.own,
        }
    if embedded is not None:
        found["embedded"] = {
            "energy": np.array([embedded.energy]),
            "forces": embedded.forces.reshape(-1),
            "on_charges": embedded.on_charges.reshape(-1),
        }
    return found


def _label_of(row: Any, path: Path) -> Label:
    """The label in one row, checked against its content address."""
    try:
        label = _read(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(
            f"row {row.id} of {path} is no label of this version ({type(error).__name__}: {error})",
            cure="move the file away, or read it with the version of qmml-md that wrote it",
        ) from error
    if label.key != label_key(label.cluster, label.level):
        raise RunDirectoryError(
            f"row {row.id} of {path} does not hold what its key says: it was changed after it was stored",
            cure=f"remove the row with `ase db {path.name} id={row.id} --delete`; it will be computed again",
        )
    return label


def _read(row: Any) -> Label:
    data = row.data
    complete = np.array(data.get("complete", ()), dtype=bool)
    scalars = dict(zip(_SCALARS, (float(x) for x in data["scalars"]), strict=True))
    cluster = Cluster(
        numbers=np.array(data["numbers"], dtype=np.int64),
        positions=np.array(row.positions, dtype=np.float64),
        parent=np.array(data["parent"], dtype=np.int64),
        links=np.array(data["links"], dtype=np.int64).reshape(-1, 2),
        charge=int(row.total_charge),
        multiplicity=int(row.multiplicity),
        outer=np.array(data.get("outer", ()), dtype=np.int64),
        ratios=np.array(data.get("ratios", ()), dtype=np.float64),
        complete=complete if len(complete) else None,
        surroundings=_surroundings(data.get("surroundings")),
    )
    return Label(
        key=str(row.label_key).removeprefix(_KEY_PREFIX),
        cluster=cluster,
        forces=np.array(row.forces, dtype=np.float64),
        dipole=np.array(data["dipole"], dtype=np.float64),
        charges=np.array(data["charges"], dtype=np.float64),
        level=LevelOfTheory(**data["level"]),
        rung=str(row.rung),
        embedding=_embedded(data.get("embedded")),
        **scalars,
    )


def _surroundings(data: dict[str, Any] | None) -> Surroundings | None:
    if data is None:
        return None
    return Surroundings(
        positions=_vectors(data["positions"]),
        charges=np.array(data["charges"], dtype=np.float64),
        parent=np.array(data["parent"], dtype=np.int64),
        own=np.array(data["own"], dtype=np.float64),
    )


def _embedded(data: dict[str, Any] | None) -> Embedded | None:
    if data is None:
        return None
    return Embedded(
        energy=float(data["energy"][0]), forces=_vectors(data["forces"]), on_charges=_vectors(data["on_charges"])
    )


def _vectors(flat: Any) -> Floats:
    return np.array(flat, dtype=np.float64).reshape(-1, 3)


class StoredReference:
    """A reference that looks into a store before it computes, and puts what it computes there.

    Attributes:
        level: of the reference.
    """

    def __init__(self, reference: Reference, store: LabelStore) -> None:
        self._reference = reference
        self._store = store
        self.level = reference.level

    def label(self, cluster: Cluster) -> Label:
        """The label of a cluster, computed if it is not in the store.

        Raises:
            LabelError: it could not be computed.
            RunDirectoryError: the store cannot be read or written.
        """
        return self.known(cluster) or self.compute(cluster)

    def known(self, cluster: Cluster) -> Label | None:
        """The label if it is in the store. The same geometry may have been met with other atoms of the system."""
        found = self._store.get(label_key(cluster, self.level))
        return None if found is None else replace(found, cluster=cluster)

    def compute(self, cluster: Cluster) -> Label:
        """Compute the label and keep it.

        Raises:
            LabelError: it could not be computed.
        """
        label = self._reference.label(cluster)
        self._store.put(label)
        return label
