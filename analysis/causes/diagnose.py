"""Which class of cause a failed audit points to, by quantitative signatures; most specific first.

Each signature is a function of ``Symptoms`` that yields diagnoses with a strength: 0.95 and more where an identity was
met that has no other explanation, 0.8 to 0.9 where proportions leave one, 0.5 where a class is merely the likeliest.

What the replay shows (the model that a frame names does not give what it stores):

- a hypothesis of ``symptoms.py`` gives exactly what is stored: the other model, the neighbour's positions, no images;
- forces proportional to the model's, on the atoms that deviate: a unit if the factor is one, else not the gradient;
- energies proportional to the model's: a unit;
- energies right, forces wrong: forces are not the gradient, whatever else they are;
- numbers on a grid, that of single or half precision or of a few decimals: precision;
- energies and forces both off, on every atom: another surface, the wrong model; where some atoms are right: their
  neighbours are, and those of the others are not; by rounding only and without structure: precision.

What single steps show while the replay holds (``truth/steps.py``; r₁ is left before the drift, r₂ after it):

- velocities of a time τ off: v = v(t) + τ a, hence r₁ = −τ a₀ and r₂ = +τ a₁;
- masses m' = m/(1 + ε) moved the atoms: r₁ = r₂ = ½ dt ε a, with one ε for each atom at all times;
- forces F + δF moved the atoms: r₁ and r₂ as before, but not proportional to a;
- velocities changed by nobody between two steps: r₁ alone, in single steps; common to all atoms, or along v₀;
- two frames that are no neighbours: r of the size of v itself.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from ...config import THERMOSTATS
from ...records.frames import Floats
from ...units import EV_PER_KJ_PER_MOL, FS_PER_PS
from .classes import Cause, Diagnosis, cause_of_factor, fit, unit_of_factor
from .grids import grid_of, rounded_to
from .single_steps import step_signatures
from .symptoms import Close, Symptoms

#: Deviations that are smaller than this part of what they deviate from, and without structure, are rounding.
ROUNDING_PART = 1e-5
#: Strength of a diagnosis by elimination.
WEAK = 0.3


def diagnose(found: Symptoms) -> tuple[Diagnosis, ...]:
    """Likely causes of what failed, most likely first, one for each class; empty if nothing failed."""
    if not found.failed:
        return ()
    every = [each for signature in SIGNATURES for each in signature(found)]
    if not every:
        why = f"failed: {', '.join(sorted(found.failed))}; no signature fits"
        every = [Diagnosis(cause=Cause.UNKNOWN, why=why, strength=0.0)]
    every.sort(key=lambda each: -each.strength)
    best: dict[Cause, Diagnosis] = {}
    for each in every:
        best.setdefault(each.cause, each)
    return tuple(best.values())


def _files(found: Symptoms) -> Iterator[Diagnosis]:
    if "files" in found.failed:
        why = "a file is missing or is not the one that the run wrote: nothing else that fails can be trusted"
        yield Diagnosis(cause=Cause.FILE, why=why, strength=1.0)


def _order(found: Symptoms) -> Iterator[Diagnosis]:
    if found.step is not None and (np.diff(found.step) <= 0).any():
        yield Diagnosis(cause=Cause.FRAMES, why="steps repeat or run backwards", strength=0.99)
    elif "cadence" in found.failed:
        yield Diagnosis(cause=Cause.FRAMES, why="frames are missing from the rhythm of the run", strength=0.97)
    if "order" in found.failed and found.step is not None and found.time is not None:
        clock = fit(found.time, found.step.astype(np.float64) * (found.timestep_fs / FS_PER_PS))
        if clock.unexplained < 0.01 and unit_of_factor(clock.factor) is not None:
            why = f"times are {clock.factor:.6g} times step × time step"
            yield Diagnosis(cause=Cause.UNIT, why=why, strength=0.95)


def _models(found: Symptoms) -> Iterator[Diagnosis]:
    if "models" in found.failed:
        why = "frames or segments name another model than the one that was in force"
        yield Diagnosis(cause=Cause.WRONG_MODEL, why=why, strength=0.9)


def _hypotheses(found: Symptoms) -> Iterator[Diagnosis]:
    if found.close is None:
        return
    of = {
        "another model of the run": Cause.WRONG_MODEL,
        "positions of a neighbouring frame": Cause.FRAMES,
        "positions that a neighbouring frame holds too": Cause.FRAMES,
        "box of a neighbouring frame": Cause.FRAMES,
        "no images across a border": Cause.NOT_GRADIENT,
    }
    for name, count in found.close.matches.items():
        cause = of.get(name, Cause.UNIT)
        why = f"{count} of {len(found.close.energy)} suspicious frames hold exactly what follows from: {name}"
        yield Diagnosis(cause=cause, why=why, strength=0.98)


def _replay(found: Symptoms) -> Iterator[Diagnosis]:
    close = found.close
    if "replay" not in found.failed or close is None:
        return
    wrong = np.abs(close.stored - close.recomputed)
    off = wrong > 10.0 * found.force_tolerance / EV_PER_KJ_PER_MOL * 10.0
    energies_off = np.abs(close.stored_energy - close.energy) > found.energy_tolerance
    yield from _grids(found, close)
    if off.any():
        yield from _forces(close, off, energies_right=not energies_off.any())
    if energies_off.any():
        yield from _energies(found, close, forces_right=not off.any())
    if off.any() and energies_off.any():
        yield from _surfaces(close, off)


def _forces(close: Close, off: np.ndarray, *, energies_right: bool) -> Iterator[Diagnosis]:
    scaled = cause_of_factor(fit(close.stored[off], close.recomputed[off]), "forces")
    if scaled is not None:
        yield scaled
    if energies_right:
        limit = np.abs(close.stored[off])
        cut = np.ptp(limit) <= 1e-6 * limit.max() and (np.abs(close.recomputed[off]) > limit).all()
        shown = f"clamped at {limit.max():.4g} kJ/mol/nm" if cut else f"off in {off.mean():.2g} of all components"
        relative = _relative(close.stored[off], close.recomputed[off])
        strength = 0.9 if relative > ROUNDING_PART else 0.4
        why = f"energies are the model's, forces are {shown}"
        yield Diagnosis(cause=Cause.NOT_GRADIENT, why=why, strength=strength)


def _relative(stored: Floats, recomputed: Floats) -> float:
    return float(np.linalg.norm(stored - recomputed) / max(float(np.linalg.norm(recomputed)), 1e-300))


def _energies(found: Symptoms, close: Close, *, forces_right: bool) -> Iterator[Diagnosis]:
    line = fit(close.stored_energy, close.energy)
    unit = unit_of_factor(line.factor) if line.unexplained < 0.01 else None
    if unit is not None:
        why = f"stored energies are {line.factor:.6g} times the model's: {unit}"
        yield Diagnosis(cause=Cause.UNIT, why=why, strength=0.96)
    elif forces_right and _relative(close.stored_energy, close.energy) < 1e-3:
        worst = float(np.abs(close.stored_energy - close.energy).max())
        why = f"forces are the model's, energies scatter about it by up to {worst:.2g} kJ/mol"
        yield Diagnosis(cause=Cause.PRECISION, why=why, strength=0.6)


def _grids(found: Symptoms, close: Close) -> Iterator[Diagnosis]:
    """Numbers that stand on a grid were rounded."""
    rounded = rounded_to(close.positions)
    if rounded:
        yield Diagnosis(cause=Cause.PRECISION, why=f"all positions are {rounded}", strength=0.94)
    rounded = rounded_to(close.stored)
    if rounded:
        yield Diagnosis(cause=Cause.PRECISION, why=f"all forces are {rounded}", strength=0.94)
    if found.potential_used is not None and len(found.potential_used) > 2:
        spacing = grid_of(found.potential_used)
        if spacing:
            why = f"energies stand on a grid of {spacing:.3g} kJ/mol, as the rounding of a large total leaves them"
            yield Diagnosis(cause=Cause.PRECISION, why=why, strength=0.94)


def _surfaces(close: Close, off: np.ndarray) -> Iterator[Diagnosis]:
    """Energies and forces both off: another surface, or a broken sum over neighbours."""
    touched = off.any(axis=2)
    relative = _relative(close.stored, close.recomputed)
    spared = float(1.0 - touched.mean())
    if spared > 0.05:
        why = f"energy and forces are off, but {spared:.2g} of the atoms are right: some neighbours are missing"
        yield Diagnosis(cause=Cause.NOT_GRADIENT, why=why, strength=0.7)
    elif relative < ROUNDING_PART:
        why = f"energy and forces are off by {relative:.1g} of their size, without structure"
        yield Diagnosis(cause=Cause.PRECISION, why=why, strength=0.5)
    else:
        why = f"energy and forces are off by {relative:.2g} of their size on every atom: another surface"
        yield Diagnosis(cause=Cause.WRONG_MODEL, why=why, strength=0.7)


def _velocities(found: Symptoms) -> Iterator[Diagnosis]:
    if "kinetic" in found.failed and math.isfinite(found.kinetic_ratio) and found.kinetic_ratio > 0:
        factor = math.sqrt(found.kinetic_ratio)
        unit = unit_of_factor(factor)
        if unit is not None:
            why = f"velocities are {factor:.6g} times those of the stored kinetic energy: {unit}"
            yield Diagnosis(cause=Cause.UNIT, why=why, strength=0.95)


def _books(found: Symptoms) -> Iterator[Diagnosis]:
    if "heat" in found.failed and found.steps is not None:
        known = found.steps.ratio <= 1.0
        heat, booked = found.steps.heat[known], found.steps.booked[known]
        wrong = np.abs(booked - heat) > found.steps.heat_allowed[known]
        line = fit(booked, heat)
        share = float(wrong.mean())
        shown = f"{line.factor:.3g} of the heat" if line.unexplained < 0.5 else "another heat than there was"
        why = f"in {share:.2g} of the steps the ledger books {shown}"
        yield Diagnosis(cause=Cause.HEAT, why=why, strength=0.93 if wrong.sum() > 2 else 0.5)
        if wrong.sum() <= 2:
            why = "the ledger books something else than the heat in one place"
            yield Diagnosis(cause=Cause.NOT_BOOKED, why=why, strength=0.85)
    replay_holds = not {"replay", "files", "order", "kinetic"} & found.failed
    if replay_holds and {"ledger", "model_updates", "identity"} & found.failed:
        yield Diagnosis(cause=Cause.NOT_BOOKED, why=_jump(found), strength=0.88)


def _jump(found: Symptoms) -> str:
    names = ", ".join(sorted({"ledger", "model_updates", "identity"} & found.failed))
    if found.conserved is None or found.kinetic is None or len(found.conserved) < 3:
        return f"{names} cannot be true while frames and models are"
    jumps = np.abs(np.diff(found.conserved))
    worst, usual = int(np.argmax(jumps)), float(np.median(jumps))
    if jumps[worst] > 10.0 * usual and found.step is not None:
        return (
            f"{names} cannot be true while frames and models are; H̃ jumps by {jumps[worst]:.4g} kJ/mol between steps "
            f"{found.step[worst]} and {found.step[worst + 1]} (usually by {usual:.2g})"
        )
    return f"{names} cannot be true while frames and models are"


def _conservation(found: Symptoms) -> Iterator[Diagnosis]:
    clean = (
        "balance" not in found.failed
        and not {"replay", "retrace", "steps", "heat", "order", "continuity", "kinetic", "ledger"} & found.failed
    )
    if "fluctuation" in found.failed and clean:
        phase = 2.0 * math.sqrt(found.fluctuation)
        why = (
            f"forces and steps are right, but H̃ fluctuates as if fast modes advanced by {phase:.2g} rad in a step of "
            f"{found.timestep_fs:g} fs"
        )
        yield Diagnosis(cause=Cause.TIMESTEP, why=why, strength=0.85)
    elif "drift" in found.failed and clean:
        why = "H̃ drifts while forces, steps and books are right"
        yield Diagnosis(cause=Cause.TIMESTEP, why=why, strength=WEAK)
    others = {"replay", "retrace", "steps", "order", "continuity", "kinetic", "ledger", "model_updates", "identity"}
    if "balance" in found.failed and not others & found.failed:
        why = "forces, steps and books agree, but H̃ changes by more than the time step explains: "
        if found.integrator in THERMOSTATS:
            why += "the heat of the thermostat is booked wrongly or not at all"
            yield Diagnosis(cause=Cause.HEAT, why=why, strength=0.6)
        else:
            why += "an exchange that nobody booked"
            yield Diagnosis(cause=Cause.NOT_BOOKED, why=why, strength=0.6)
    if found.failed == {"momentum"}:
        why = "the total momentum changed although nothing that is booked or recorded can change it"
        yield Diagnosis(cause=Cause.NOT_BOOKED, why=why, strength=WEAK)
    if "continuity" in found.failed:
        yield Diagnosis(cause=Cause.FRAMES, why="neighbouring frames do not belong to one motion", strength=0.6)


def _final_model(found: Symptoms) -> Iterator[Diagnosis]:
    if found.failed <= {"force_rmse", "force_rmse_core", "force_maxresid"}:
        why = "the record is true; the final model differs from those that moved the atoms by more than the tolerance"
        yield Diagnosis(cause=Cause.MODEL_DIFFERS, why=why, strength=0.9)


def _steps(found: Symptoms) -> Iterator[Diagnosis]:
    if "steps" in found.failed and found.steps is not None and "replay" not in found.failed:
        yield from step_signatures(found.steps, found.timestep_fs / FS_PER_PS, found.integrator)


def _retraced(found: Symptoms) -> Iterator[Diagnosis]:
    if "retrace" not in found.failed or "replay" in found.failed:
        return
    wrong = [each for each in found.retraced if not each.ratio <= 1.0]
    offsets = {each.offset for each in wrong}
    if len(offsets) == 1 and math.isfinite(next(iter(offsets))):
        why = f"{len(wrong)} intervals arrive if velocities are taken to be {next(iter(offsets)):+.1f} steps off"
        yield Diagnosis(cause=Cause.OFF_STEP, why=why, strength=0.97)
    elif wrong and "continuity" not in found.failed:
        why = f"{len(wrong)} of {len(found.retraced)} intervals, run again, do not arrive: other forces moved the atoms"
        yield Diagnosis(cause=Cause.NOT_GRADIENT, why=why, strength=0.55)


SIGNATURES: tuple[Callable[[Symptoms], Iterator[Diagnosis]], ...] = (
    _files, _order, _models, _hypotheses, _replay, _velocities, _books, _steps, _conservation, _final_model, _retraced,
)  # fmt: skip
