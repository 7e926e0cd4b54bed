"""How a self-consistent field is made to converge: a guess from the run's own past, then ever firmer solvers.

Guesses come from ``guesses.py``. And what stops it: electrons that do not fit, and a time limit.

The functions work on PySCF mean-field objects that they are given; PySCF itself is imported only in ``pyscf.py``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, LabelError, LabelTimeout, NotConverged
from ..region.cluster import Cluster
from ..system.molecules import Floats

#: The rungs, in the order in which they are tried.
RUNGS = ("guess", "diis", "level-shift", "second-order")

#: Shift of the virtual orbitals on the third rung, hartree: above the gaps at which DIIS starts to slosh.
LEVEL_SHIFT_HARTREE = 0.3


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


def atomic_density(mean_field: Any) -> Floats:
    """Superposed atomic densities; given explicitly, or PySCF would go on from the rung that failed."""
    density: Floats = np.asarray(mean_field.get_init_guess(mean_field.mol, "minao"))
    return density


def _from_guess(mean_field: Any, guess: Floats | None) -> None:
    mean_field.kernel(dm0=guess)


def _diis(mean_field: Any, guess: Floats | None) -> None:
    mean_field.kernel(dm0=atomic_density(mean_field))


def _level_shift(mean_field: Any, guess: Floats | None) -> None:
    # PySCF's check after convergence measures the jump that taking the shift away makes, and then calls many a sound
    # run failed. The judge is the second half instead: from the shifted density, without a shift, to full tolerance.
    mean_field.level_shift, mean_field.conv_check = LEVEL_SHIFT_HARTREE, False
    try:
        mean_field.kernel(dm0=atomic_density(mean_field))
    finally:
        mean_field.level_shift, mean_field.conv_check = 0.0, True
    mean_field.kernel(dm0=mean_field.make_rdm1())


def _second_order(mean_field: Any, guess: Floats | None) -> None:
    start = mean_field.make_rdm1() if mean_field.mo_coeff is not None else atomic_density(mean_field)
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
