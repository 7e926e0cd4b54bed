"""Where a self-consistent field starts: from the converged density of a cluster that shares atoms with it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints
from .ladder import atomic_density

#: An atom that moved by half a covalent bond against the others has other surroundings than its old density knows.
MAX_SHIFT_A = 0.5

#: Clusters whose densities are remembered: a moving region has few neighbours, a density matrix has nao² numbers.
REMEMBERED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """The converged density of a cluster, kept as a guess for the next one.

    Attributes:
        cluster: what it was computed for.
        offsets: first atomic orbital of each atom, and the end of the last, shape (m + 1,).
        matrix: density in Löwdin-orthogonalised orbitals, in which it stays a projector while atoms and overlaps
            change; shape (nao, nao), or (2, nao, nao) with α and β apart.
    """

    cluster: Cluster
    offsets: Ints
    matrix: Floats

    def __post_init__(self) -> None:
        m, offsets, matrix = self.cluster.size, self.offsets, self.matrix
        if offsets.shape != (m + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError(f"a density of {m} atoms with orbitals {offsets.tolist()}")
        if matrix.shape[-2:] != (offsets[-1], offsets[-1]) or matrix.shape[:-2] not in ((), (2,)):
            raise ValueError(f"a density of {offsets[-1]} orbitals with a matrix {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError("a density that is not finite")


class Guesses:
    """The densities of the last few converged clusters."""

    def __init__(self) -> None:
        self._densities: deque[Density] = deque(maxlen=REMEMBERED)

    def remember(self, density: Density) -> None:
        """Keep the density of a converged cluster."""
        self._densities.append(density)

    def forget(self) -> None:
        """Start the next cluster as if it were the first."""
        self._densities.clear()

    def all(self) -> tuple[Density, ...]:
        """Everything that is remembered, the oldest first."""
        return tuple(self._densities)

    def put_back(self, densities: Iterable[Density]) -> None:
        """Remember these and nothing else, the oldest first."""
        self._densities = deque(densities, maxlen=REMEMBERED)

    def newest(self) -> Density | None:
        """The density that was remembered last."""
        return self._densities[-1] if self._densities else None

    def best(self, cluster: Cluster) -> Density | None:
        """The density that shares most atoms with a cluster, the newest of equals; None if none shares any."""
        usable = [d for d in self._densities if d.cluster.multiplicity == cluster.multiplicity]
        shared = [len(common_atoms(d.cluster, cluster)[0]) for d in usable]
        if not any(shared):
            return None
        return usable[max(range(len(usable)), key=lambda i: (shared[i], i))]


@runtime_checkable
class Remembering(Protocol):
    """A reference that starts clusters from densities of earlier ones.

    Attributes:
        guesses: what it starts from; whoever asks for labels may clear it, or bring back what an earlier process knew.
    """

    guesses: Guesses


def density_of(cluster: Cluster, mean_field: Any) -> Density:
    """The density of a converged mean field."""
    root, _ = _roots(mean_field.get_ovlp())
    matrix: Floats = root @ np.asarray(mean_field.make_rdm1()) @ root
    return Density(cluster=cluster, offsets=orbital_offsets(mean_field.mol), matrix=matrix)


def propose(density: Density | None, cluster: Cluster, mean_field: Any) -> Floats | None:
    """A density matrix to start a mean field with, shape as its own; None without a density."""
    if density is None:
        return None
    atomic, molecule = atomic_density(mean_field), mean_field.mol
    electrons = molecule.nelec if atomic.ndim == 3 else molecule.nelectron
    return assemble_guess(
        density,
        cluster,
        orbital_offsets(molecule),
        atomic=atomic,
        overlap=mean_field.get_ovlp(),
        electrons=np.asarray(electrons, dtype=np.float64),
    )


def common_atoms(old: Cluster, new: Cluster) -> tuple[Ints, Ints]:
    """Find the atoms of the simulation that two clusters share and that stayed where they were.

    Link atoms (parent −1) are nobody's, and never shared. An atom that moved against the others, or was unwrapped into
    another periodic image, is left out: its old density would sit in the wrong surroundings.

    Args:
        old: one cluster.
        new: the other.

    Returns:
        Indices into the old and into the new cluster, equally long.
    """
    real_old, real_new = np.flatnonzero(old.parent >= 0), np.flatnonzero(new.parent >= 0)
    _, at_old, at_new = np.intersect1d(old.parent[real_old], new.parent[real_new], return_indices=True)
    i, j = real_old[at_old], real_new[at_new]
    same = old.numbers[i] == new.numbers[j]
    i, j = i[same], j[same]
    if len(i) == 0:
        return i, j
    moved = new.positions[j] - old.positions[i]
    # The median takes out a translation of the whole cluster without being dragged along by the few that jumped.
    near = np.linalg.norm(moved - np.median(moved, axis=0), axis=1) < MAX_SHIFT_A
    return i[near], j[near]


def orbital_offsets(molecule: Any) -> Ints:
    """First atomic orbital of each atom of a PySCF molecule, and the end of the last, shape (m + 1,)."""
    slices = molecule.aoslice_by_atom()
    return np.append(slices[:, 2], slices[-1, 3]).astype(np.int64)


def assemble_guess(
    density: Density, cluster: Cluster, offsets: Ints, *, atomic: Floats, overlap: Floats, electrons: Floats
) -> Floats:
    """Build a guess from the blocks of shared atoms, and from atomic densities elsewhere.

    Blocks are moved between Löwdin-orthogonalised orbitals (doi:10.1063/1.1747632): there the old density belongs to no
    geometry in particular, and what comes back fits the new overlaps.

    Args:
        density: the converged density of an overlapping cluster.
        cluster: the cluster that needs a guess.
        offsets: first atomic orbital of each of its atoms, and the end of the last, shape (m + 1,).
        atomic: guess from superposed atoms for this cluster, shape (nao, nao) or (2, nao, nao).
        overlap: overlap matrix of its atomic orbitals, shape (nao, nao).
        electrons: number of electrons, shape (), or of each spin, shape (2,).

    Returns:
        Density matrix with that number of electrons, shape as ``atomic``.
    """
    i, j = common_atoms(density.cluster, cluster)
    source = _orbitals(density.offsets, i)
    target = _orbitals(offsets, j)
    root, inverse = _roots(overlap)
    guess: Floats = root @ atomic @ root
    guess[..., target[:, None], target] = density.matrix[..., source[:, None], source]
    found = np.trace(guess, axis1=-2, axis2=-1)
    # A spin without electrons has a density of zero, which no factor changes.
    scale = np.divide(electrons, found, out=np.ones_like(found), where=found > 0)
    scaled: Floats = inverse @ (guess * scale[..., None, None]) @ inverse
    return scaled


def _orbitals(offsets: Ints, atoms: Ints) -> Ints:
    """Indices of all atomic orbitals of some atoms, in the order of the atoms."""
    return np.concatenate([np.arange(offsets[a], offsets[a + 1], dtype=np.int64) for a in atoms])


def _roots(overlap: Floats) -> tuple[Floats, Floats]:
    """Square root of an overlap matrix and its inverse, directions that are linearly dependent left out."""
    values, vectors = np.linalg.eigh(overlap)
    roots = np.sqrt(np.clip(values, 0.0, None))
    inverses = np.divide(1.0, roots, out=np.zeros_like(roots), where=values > 1e-10)
    return (vectors * roots) @ vectors.T, (vectors * inverses) @ vectors.T
