"""How a self-consistent field is made to converge: a guess from the run's own past, then ever firmer solvers.

And what stops it: electrons that do not fit, and a time limit.

The functions work on PySCF mean-field objects that they are given; PySCF itself is imported only in ``pyscf.py``.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, LabelError, LabelTimeout, NotConverged
from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints

#: The rungs, in the order in which they are tried.
RUNGS = ("guess", "diis", "level-shift", "second-order")

#: Shift of the virtual orbitals on the third rung, hartree: above the gaps at which DIIS starts to slosh.
LEVEL_SHIFT_HARTREE = 0.3

#: An atom that moved by half a covalent bond against the others has other surroundings than its old density knows.
MAX_SHIFT_A = 0.5

#: Clusters whose densities are remembered: a moving region has few neighbours, a density matrix has nao² numbers.
REMEMBERED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The time limit of one label.

    Attributes:
        limit_s: longest time, s.
        start: reading of ``time.monotonic`` when the label was begun, s.
    """

    limit_s: float
    start: float

    def check(self, stage: str) -> None:
        """Stop a label that has used up its time.

        Args:
            stage: what was going on, for the message.

        Raises:
            LabelTimeout: the limit has passed.
        """
        spent = time.monotonic() - self.start
        if spent > self.limit_s:
            raise LabelTimeout(
                f"label stopped {stage} after {spent:.1f} s; the limit is {self.limit_s:g} s",
                cure="raise reference.time_limit_s, lower region.max_qm_atoms, or choose a cheaper basis; "
                "`qmml validate --dry-run` estimates the cost of a label",
            )


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


class Guesses:
    """The densities of the last few converged clusters."""

    def __init__(self) -> None:
        self._densities: deque[Density] = deque(maxlen=REMEMBERED)

    def remember(self, cluster: Cluster, mean_field: Any) -> None:
        """Keep the density of a converged mean field."""
        root, _ = _roots(mean_field.get_ovlp())
        matrix: Floats = root @ np.asarray(mean_field.make_rdm1()) @ root
        self._densities.append(Density(cluster=cluster, offsets=orbital_offsets(mean_field.mol), matrix=matrix))

    def propose(self, cluster: Cluster, mean_field: Any) -> Floats | None:
        """A density to start a mean field with, shape as its own; None if no remembered cluster overlaps."""
        density, molecule = self.best(cluster), mean_field.mol
        if density is None:
            return None
        atomic = _atomic(mean_field)
        electrons = molecule.nelec if atomic.ndim == 3 else molecule.nelectron
        return assemble_guess(
            density,
            cluster,
            orbital_offsets(molecule),
            atomic=atomic,
            overlap=mean_field.get_ovlp(),
            electrons=np.asarray(electrons, dtype=np.float64),
        )

    def best(self, cluster: Cluster) -> Density | None:
        """The density that shares most atoms with a cluster, the newest of equals; None if none shares any."""
        usable = [d for d in self._densities if d.cluster.multiplicity == cluster.multiplicity]
        shared = [len(common_atoms(d.cluster, cluster)[0]) for d in usable]
        if not any(shared):
            return None
        return usable[max(range(len(usable)), key=lambda i: (shared[i], i))]


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


def climb(mean_field: Any, guess: Floats | None, rungs: tuple[str, ...], max_cycles: int) -> str:
    """Converge a mean field in place, on the first rung that does it.

    Args:
        mean_field: PySCF mean-field object; its callback may raise to stop the climb.
        guess: density for the rung ``guess``, which is left out when this is None.
        rungs: rungs to try, in order, out of ``RUNGS``.
        max_cycles: cycles of each rung (macro-cycles of the second-order one).

    Returns:
        The name of the rung that converged.

    Raises:
        NotConverged: none of them did; the message names each.
    """
    tried = []
    mean_field.max_cycle = max_cycles
    for rung in rungs:
        if rung == "guess" and guess is None:
            continue
        try:
            _SOLVERS[rung](mean_field, guess)
        except (np.linalg.LinAlgError, ValueError) as error:  # SciPy refuses a Fock matrix that has blown up
            mean_field.converged, mean_field.mo_coeff, mean_field.mo_occ = False, None, None
            tried.append(f"{rung} (broke down: {error})")
            continue
        if mean_field.converged:
            return rung
        tried.append(f"{rung} ({max_cycles} cycles)")
    raise NotConverged(
        f"SCF of {mean_field.mol.natm} atoms with charge {mean_field.mol.charge} and multiplicity "
        f"{mean_field.mol.spin + 1} did not converge; tried: {', '.join(tried)}",
        cure="raise reference.max_cycles; if it stays, the cluster is distorted or its charge or multiplicity wrong",
    )


def check_electrons(cluster: Cluster) -> None:
    """Refuse a cluster whose electrons cannot have its multiplicity.

    Raises:
        LabelError: no electrons, more unpaired electrons than electrons, or odd where even is needed.
    """
    electrons = int(cluster.numbers.sum()) - cluster.charge
    unpaired = cluster.multiplicity - 1
    if electrons < 1 or not 0 <= unpaired <= electrons or (electrons - unpaired) % 2:
        raise LabelError(
            f"a cluster of {cluster.size} atoms with charge {cluster.charge:+d} has {electrons} electrons, which "
            f"cannot have multiplicity {cluster.multiplicity}",
            cure="set reference.charge or system.formal_charges to the true charge, or reference.multiplicity to 2 "
            "for a radical",
        )


def check_rungs(rungs: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a ladder with unknown rungs or without any that can stand alone.

    Raises:
        ConfigError: see above.
    """
    unknown = [rung for rung in rungs if rung not in _SOLVERS]
    if unknown or not set(rungs) - {"guess"}:
        raise ConfigError(
            f"SCF ladder {rungs} has unknown rungs {unknown}" if unknown else f"SCF ladder {rungs} cannot make a start",
            cure=f"use rungs out of {', '.join(RUNGS)}, one of them not 'guess'",
        )
    return rungs


def _orbitals(offsets: Ints, atoms: Ints) -> Ints:
    """Indices of all atomic orbitals of some atoms, in the order of the atoms."""
    return np.concatenate([np.arange(offsets[a], offsets[a + 1], dtype=np.int64) for a in atoms])


def _roots(overlap: Floats) -> tuple[Floats, Floats]:
    """Square root of an overlap matrix and its inverse, directions that are linearly dependent left out."""
    values, vectors = np.linalg.eigh(overlap)
    roots = np.sqrt(np.clip(values, 0.0, None))
    inverses = np.divide(1.0, roots, out=np.zeros_like(roots), where=values > 1e-10)
    return (vectors * roots) @ vectors.T, (vectors * inverses) @ vectors.T


def _atomic(mean_field: Any) -> Floats:
    """Superposed atomic densities; given explicitly, or PySCF would go on from the rung that failed."""
    density: Floats = np.asarray(mean_field.get_init_guess(mean_field.mol, "minao"))
    return density


def _from_guess(mean_field: Any, guess: Floats | None) -> None:
    mean_field.kernel(dm0=guess)


def _diis(mean_field: Any, guess: Floats | None) -> None:
    mean_field.kernel(dm0=_atomic(mean_field))


def _level_shift(mean_field: Any, guess: Floats | None) -> None:
    # PySCF's check after convergence measures the jump that taking the shift away makes, and then calls many a sound
    # run failed. The judge is the second half instead: from the shifted density, without a shift, to full tolerance.
    mean_field.level_shift, mean_field.conv_check = LEVEL_SHIFT_HARTREE, False
    try:
        mean_field.kernel(dm0=_atomic(mean_field))
    finally:
        mean_field.level_shift, mean_field.conv_check = 0.0, True
    mean_field.kernel(dm0=mean_field.make_rdm1())


def _second_order(mean_field: Any, guess: Floats | None) -> None:
    start = mean_field.make_rdm1() if mean_field.mo_coeff is not None else _atomic(mean_field)
    solver = mean_field.newton()
    solver.kernel(dm0=start)
    for name in ("converged", "e_tot", "mo_energy", "mo_coeff", "mo_occ"):
        setattr(mean_field, name, getattr(solver, name))


_SOLVERS: dict[str, Callable[[Any, Floats | None], None]] = {
    "guess": _from_guess,
    "diis": _diis,
    "level-shift": _level_shift,
    "second-order": _second_order,
}
