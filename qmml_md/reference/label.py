"""What a quantum label is, and what can make one."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from ..errors import LabelError, MixedLabels
from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints

MECHANICAL = "mechanical"
ELECTROSTATIC = "electrostatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOfTheory:
    """Everything that changes the number a label holds, and nothing else.

    Attributes:
        program: `pyscf` or `ase:<calculator>`; no version, since versions agree to the SCF tolerance.
        method: exchange-correlation functional, or `hf`.
        basis: name of the basis set.
        cartesian: Cartesian instead of spherical d functions.
        density_fit: density fitting of Coulomb and exchange.
        grid_level: integration grid.
        grid_response: forces hold the response of the grid to the atoms' motion, so that they are the gradient.
        embedding: `mechanical` for clusters in vacuum, `electrostatic` for clusters among the charges of a force field.
    """

    program: str
    method: str
    basis: str
    cartesian: bool
    density_fit: bool
    grid_level: int
    grid_response: bool = True
    embedding: str = MECHANICAL

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that are equal only for equal levels."""
        fields = asdict(self)
        # Labels of the time before there was another embedding keep their address.
        if self.embedding == MECHANICAL:
            del fields["embedding"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def embedded(self) -> bool:
        """Whether clusters are computed among charges."""
        return self.embedding != MECHANICAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What quantum mechanics said about a cluster among charges, before the explicit term was taken off.

    Attributes:
        energy: of the cluster in the field of the charges, without that of the charges among themselves, eV.
        forces: on the cluster's atoms, eV/Å, shape (m, 3).
        on_charges: on the charges, from the cluster alone, eV/Å, shape (c, 3).
    """

    energy: float
    forces: Floats
    on_charges: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The quantum result for one cluster.

    Attributes:
        key: content address, see ``label_key``.
        cluster: what was computed.
        energy: total energy, eV; of an embedded cluster, less the explicit term (``embedding.py``): what is trained on.
        forces: likewise, eV/Å, shape (m, 3).
        dipole: e·Å, shape (3,).
        charges: Mulliken charges, e, shape (m,).
        level: level of theory.
        rung: the rung of the SCF ladder that converged.
        spin_squared: expectation value of S².
        gap: HOMO-LUMO gap, eV.
        wall_time: s.
        embedding: the result before the explicit term was taken off; None for a cluster in vacuum.
    """

    key: str
    cluster: Cluster
    energy: float
    forces: Floats
    dipole: Floats
    charges: Floats
    level: LevelOfTheory
    rung: str
    spin_squared: float
    gap: float
    wall_time: float
    embedding: Embedded | None = None


class Reference(Protocol):
    """A program that computes labels."""

    level: LevelOfTheory

    def label(self, cluster: Cluster) -> Label:
        """Compute energy and analytic gradient of a cluster.

        Raises:
            LabelError: named failure (NotConverged, LabelTimeout); the caller logs and skips it.
        """
        ...


#: Positions are rounded to this many decimals (Å) before hashing: far below what changes an energy.
KEY_DECIMALS = 8


def label_key(cluster: Cluster, level: LevelOfTheory) -> str:
    """Content address of a label: equal geometry, charge, multiplicity, surroundings and level give an equal key.

    Args:
        cluster: the cluster; only what changes the quantum result enters (not which atoms it came from).
        level: the level of theory.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    numbers: Ints = np.ascontiguousarray(cluster.numbers, dtype="<i8")
    digest.update(numbers.tobytes())
    digest.update(_rounded(cluster.positions))
    digest.update(f"{cluster.charge}|{cluster.multiplicity}|{level.fingerprint}".encode())
    if cluster.surroundings is not None:
        around = cluster.surroundings
        digest.update(f"|{len(around.charges)} charges|".encode())
        for numbers_around in (around.positions, around.charges, around.own):
            digest.update(_rounded(numbers_around))
    return digest.hexdigest()


def _rounded(numbers: Floats) -> bytes:
    rounded: Floats = np.ascontiguousarray(np.round(numbers, KEY_DECIMALS) + 0.0, dtype="<f8")
    return rounded.tobytes()


def check_embedding(cluster: Cluster, level: LevelOfTheory) -> None:
    """Refuse a cluster that a level of theory would compute as something else.

    Raises:
        LabelError: surroundings at a level without embedding, or none at a level with it.
    """
    if (cluster.surroundings is not None) != level.embedded:
        has = "has no surroundings" if cluster.surroundings is None else "lies among point charges"
        raise LabelError(
            f"a cluster of {cluster.size} atoms {has}, but labels of {level.program} are {level.embedding}",
            cure="set reference.embedding: electrostatic with PySCF where system.ml_atoms leaves a force field around "
            "the clusters, and mechanical everywhere else",
        )


def check_one_level(levels: Iterable[LevelOfTheory]) -> None:
    """Refuse several levels of theory: no model can be right about both.

    Args:
        levels: of the labels that would be trained on together, or of a reference and a label.

    Raises:
        MixedLabels: they differ; the message names how.
    """
    found = {level.fingerprint: asdict(level) for level in levels}
    if len(found) < 2:
        return
    names = {name: sorted({str(level[name]) for level in found.values()}) for name in next(iter(found.values()))}
    differ = "; ".join(f"{name} {' and '.join(values)}" for name, values in names.items() if len(values) > 1)
    raise MixedLabels(
        f"labels of {len(found)} levels of theory would be trained on together: {differ}",
        cure="set `reference` as it was when the earlier labels were computed, or begin a new run without them",
    )
