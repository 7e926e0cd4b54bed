"""One row of the label store: a label as ASE's database holds it, and back, equal to the bit."""

import hashlib
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import RunDirectoryError
from ..region.cluster import Cluster, Surroundings
from ..system.molecules import Floats
from .label import Embedded, Label, LevelOfTheory, label_key

#: ASE refuses text that reads like a number, which a hash may.
KEY_PREFIX = "sha256:"
#: Before the name of the run that paid.
PAYER_PREFIX = "run:"

_SCALARS = ("energy", "spin_squared", "gap", "wall_time")
#: What ASE and this module raise for a row whose bytes make no sense.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, struct.error, AssertionError, OverflowError)


def label_digest(label: Label) -> str:
    """SHA-256 over every number of a label, in hexadecimal; not over the cluster, of which the key tells.

    The numbers are float64, little-endian: energy, ⟨S²⟩, gap, forces, dipole, charges, and of an embedded cluster
    energy, forces and forces on the charges before the explicit term was taken off. Not the wall time: a label that is
    computed again is the same label.
    """
    digest = hashlib.sha256()
    parts = [[label.energy, label.spin_squared, label.gap], label.forces, label.dipole, label.charges]
    if label.embedding is not None:
        parts += [[label.embedding.energy], label.embedding.forces, label.embedding.on_charges]
    for part in parts:
        digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
    return digest.hexdigest()


def row_digest(label: Label) -> str:
    """SHA-256 over what a row holds beyond its key: the numbers of the label, and the atoms it was cut from."""
    cluster, digest = label.cluster, hashlib.sha256(label_digest(label).encode())
    complete = np.zeros(0) if cluster.complete is None else cluster.complete
    for array in (cluster.parent, cluster.links, cluster.outer, cluster.ratios, complete):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes() + b"|")
    if cluster.surroundings is not None:
        digest.update(np.ascontiguousarray(cluster.surroundings.parent, dtype="<f8").tobytes())
    digest.update(f"{label.rung}|{label.wall_time!r}".encode())
    return digest.hexdigest()


def atoms_of(label: Label) -> Atoms:
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


def columns_of(label: Label, owner: str) -> dict[str, Any]:
    """What a person selects and sorts by in ``ase db``.

    Args:
        label: of the row.
        owner: name of the run that paid for it; empty where that is nobody's business.
    """
    return {
        "label_key": KEY_PREFIX + label.key,
        **_payer(owner),
        "level_of_theory": f"{label.level.program}:{label.level.method}/{label.level.basis}",
        "rung": label.rung,
        "total_charge": label.cluster.charge,
        "multiplicity": label.cluster.multiplicity,
    }


def _payer(owner: str) -> dict[str, str]:
    return {"paid_by": PAYER_PREFIX + owner} if owner else {}


def quarantined_columns(key: str, reason: str, cluster: Cluster, level: LevelOfTheory, owner: str) -> dict[str, Any]:
    """The same for what must not be trained on; under another name, so that nobody takes it for a label.

    Args:
        key: of what was asked for.
        reason: why it must not be trained on.
        cluster: what was asked for.
        level: at which level of theory.
        owner: see ``columns_of``.
    """
    return {
        "quarantined_key": KEY_PREFIX + key,
        "quarantined": reason,
        "level_of_theory": f"{level.program}:{level.method}/{level.basis}",
        "total_charge": cluster.charge,
        "multiplicity": cluster.multiplicity,
        **_payer(owner),
    }


def quarantined_data(label: Label | None) -> dict[str, Any]:
    """The numbers of a label that must not be trained on, whatever their shapes."""
    if label is None:
        return {}
    return {
        "scalars": np.array([getattr(label, name) for name in _SCALARS], dtype=np.float64),
        **{name: np.asarray(getattr(label, name)).reshape(-1) for name in ("forces", "dipole", "charges")},
    }


def data_of(label: Label) -> dict[str, Any]:
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
        "digest": row_digest(label),
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


def label_of(row: Any, path: Path) -> Label:
    """The label in one row, checked against its content address."""
    try:
        label = _read(row)
    except UNREADABLE as error:
        raise RunDirectoryError(
            f"row {row.id} of {path} is no label of this version ({type(error).__name__}: {error})",
            cure="move the file away, or read it with the version of qmml-md that wrote it",
        ) from error
    digest = row.data.get("digest")
    # Rows of the time before there were digests have none.
    whole = label.key == label_key(label.cluster, label.level) and digest in (None, row_digest(label))
    # Other programs read the energy from ASE's own column.
    if not whole or float(row.energy) != label.energy:
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
        key=str(row.label_key).removeprefix(KEY_PREFIX),
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
