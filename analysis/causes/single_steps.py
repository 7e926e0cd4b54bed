"""What the residuals of single steps say of their cause; the derivations stand at the head of ``diagnose.py``."""

import math
from collections.abc import Iterator

import numpy as np

from ...units import FS_PER_PS
from ..findings import Finding
from ..truth.steps import ATOM_SUMS, SUMS, Steps
from .classes import Cause, Diagnosis, unit_of_factor

#: A signature explains the residuals if it leaves less than this part of their squares.
LEFT = 0.05
#: Residuals of this part of the velocities themselves: the two frames are no neighbours.
STRANGERS = 0.2
#: Steps are touched one by one if no more than this part of them shows anything.
FEW = 0.34


def step_signatures(steps: Steps, timestep_ps: float, integrator: str) -> Iterator[Diagnosis]:
    """Causes of steps that the integrator did not make.

    Args:
        steps: what single steps leave.
        timestep_ps: time step, ps.
        integrator: of the configuration.
    """
    bad = steps.known & ~(steps.ratio <= 1.0)
    table = dict(zip(SUMS, steps.sums[bad].sum(axis=0), strict=True))
    atoms = dict(zip(ATOM_SUMS, steps.atoms.T, strict=True))
    share = float(bad.sum() / max(1, steps.known.sum()))
    if not math.isfinite(table["r1_r1"]):
        yield Diagnosis(cause=Cause.UNKNOWN, why="some numbers are not finite", strength=0.1)
        return
    size = table["r1_r1"] + table["r2_r2"]
    motion = table["v0_v0"] + table["v1_v1"]
    yield from _offset(table, timestep_ps)
    yield from _scale(table, share)
    yield from _masses(atoms, share, timestep_ps)
    if size > STRANGERS**2 * motion and share <= FEW:
        why = (
            f"{bad.sum()} steps leave {math.sqrt(size / motion):.2g} of the velocities: their frames are no neighbours"
        )
        yield Diagnosis(cause=Cause.FRAMES, why=why, strength=0.8)
    if share <= FEW:
        yield from _touched(table, int(bad.sum()), integrator)
    why = f"{share:.2g} of the steps were made with other forces than those recorded"
    yield Diagnosis(cause=Cause.NOT_GRADIENT, why=why, strength=0.45 if share <= FEW else 0.6)


def _offset(table: dict[str, float], timestep_ps: float) -> Iterator[Diagnosis]:
    """r₁ = −τ a₀ and r₂ = +τ a₁ with one τ."""
    first = -table["r1_a0"] / table["a0_a0"] if table["a0_a0"] else math.nan
    second = table["r2_a1"] / table["a1_a1"] if table["a1_a1"] else math.nan
    left1 = table["r1_r1"] - table["r1_a0"] ** 2 / table["a0_a0"]
    left2 = table["r2_r2"] - table["r2_a1"] ** 2 / table["a1_a1"]
    total = table["r1_r1"] + table["r2_r2"]
    if total > 0 and left1 + left2 <= LEFT * total and first * second > 0:
        offset = 0.5 * (first + second)
        finding = Finding(name="velocity_offset", value=offset * FS_PER_PS, expected=0.0, unit="fs")
        why = (
            f"velocities belong to a time {offset * FS_PER_PS:+.3g} fs off their positions "
            f"({offset / timestep_ps:+.2f} steps): leap-frog or a middle scheme"
        )
        yield Diagnosis(cause=Cause.OFF_STEP, why=why, strength=0.95, evidence=(finding,))


def _scale(table: dict[str, float], share: float) -> Iterator[Diagnosis]:
    """r₁ = (1/s − 1) v₀ in every step: velocities are stored s times too large."""
    if share < 0.9 or not table["v0_v0"]:
        return
    slope = table["r1_v0"] / table["v0_v0"]
    left = table["r1_r1"] - slope * table["r1_v0"]
    if left <= LEFT * table["r1_r1"] and slope > -1.0:
        factor = 1.0 / (1.0 + slope)
        unit = unit_of_factor(factor)
        if unit is not None:
            why = f"velocities are {factor:.5g} times those of the motion: {unit}"
            yield Diagnosis(cause=Cause.UNIT, why=why, strength=0.95)


def _masses(atoms: dict[str, np.ndarray], share: float, timestep_ps: float) -> Iterator[Diagnosis]:
    """r₁ = ½dt ε a₀ and r₂ = ½dt ε a₁ with one ε for each atom."""
    a0, a1 = (np.where(atoms[name] > 0, atoms[name], np.nan) for name in ("a0_a0", "a1_a1"))
    total = float((atoms["r1_r1"] + atoms["r2_r2"]).sum())
    explained = atoms["r1_a0"] ** 2 / a0 + atoms["r2_a1"] ** 2 / a1
    slope1, slope2 = atoms["r1_a0"] / a0, atoms["r2_a1"] / a1
    heavy = explained > 0.01 * np.nanmax(explained) if np.isfinite(explained).any() else np.zeros(len(a0), dtype=bool)
    same = heavy.any() and (slope1[heavy] * slope2[heavy] >= 0).all()
    if total > 0 and share > 0.9 and same and total - float(np.nansum(explained)) <= LEFT * total:
        excess = slope2[heavy] / (0.5 * timestep_ps)
        factor = 1.0 / (1.0 + float(excess[np.argmax(np.abs(excess))]))
        why = f"{heavy.sum()} atoms moved as if their masses were up to {factor:.5g} times those recorded"
        yield Diagnosis(cause=Cause.MASSES, why=why, strength=0.9)


def _touched(table: dict[str, float], count: int, integrator: str) -> Iterator[Diagnosis]:
    """Velocities that somebody changed between two steps."""
    total = table["r1_r1"] + table["r2_r2"]
    along = table["r1_v0"] ** 2 / table["v0_v0"] if table["v0_v0"] else 0.0
    if integrator == "langevin":
        along = table["r2_v1"] ** 2 / table["v1_v1"] if table["v1_v1"] else 0.0
    if total <= 0:
        return
    if table["common"] >= (1.0 - LEFT) * total:
        why = f"before {count} steps the motion of the centre of mass was changed, and nobody booked it"
        yield Diagnosis(cause=Cause.NOT_BOOKED, why=why, strength=0.92)
    elif along >= (1.0 - LEFT) * total:
        why = f"before {count} steps all velocities were rescaled, and nobody booked it"
        yield Diagnosis(cause=Cause.NOT_BOOKED, why=why, strength=0.92)
