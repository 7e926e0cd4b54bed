"""Changes of model: is what the ledger books at each what the models give at the frame of that step?

A model that takes over at once exchanges ``U_new(x) − U_old(x)``. At each boundary of a ramp of n steps the weight
rises by 1/n at fixed positions: the exchange is ``(U_new − U_old)(x)/n``, and their sum is the work ``∫ ∂U/∂λ dλ`` as
the run did it. The auditor evaluates both models at the stored frame of every such step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...records.books import Account, Entry
from ..findings import Check, Finding, Kind, Part, judge
from ..record import Record
from .takeovers import Takeover


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """The two models at the frame of a step where the weight of one rises.

    Attributes:
        old, new: potential energies of the model that goes and of the one that comes, kJ/mol.
        power: ``(F_new − F_f)·v`` with f the final model, kJ/mol/ps.
    """

    old: float
    new: float
    power: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One change of model.

    Attributes:
        step: at which it began.
        time: ps.
        model: that came.
        parent: that went.
        policy: `abrupt`, `ramp` or `rewind`.
        steps: of the ramp; 0 if it came at once.
        booked: what the ledger books for it in all, kJ/mol; NaN if an entry is missing.
        recomputed: what the models give at the stored frames, kJ/mol; NaN if it cannot be evaluated.
        deviation: largest difference of a single entry, kJ/mol; NaN if either is.
        checkable: false where the run went back to a step at which the volume moved after its frame was stored: the
            positions of the swap are those of no frame.
        data: of the row of the model.
    """

    step: int
    time: float
    model: str
    parent: str
    policy: str
    steps: int
    booked: float
    recomputed: float
    deviation: float
    checkable: bool
    data: dict[str, object]


def updates(record: Record, jumps: dict[int, Jump]) -> tuple[Update, ...]:
    """Booked and recomputed energies of every change of model.

    Args:
        record: of the run.
        jumps: both models at the frames of the steps where the weight of one rises, by step.
    """
    booked = {account: _by_step(record.of_account(account)) for account in (Account.MODEL, Account.RAMP)}
    volume_moves = {entry.step for entry in record.of_account(Account.BAROSTAT)}
    rows = []
    for row in record.takeovers:
        found = booked[Account.RAMP if row.policy == "ramp" else Account.MODEL]
        steps = due(row, record)
        amounts = np.array([found.get(step, np.nan) for step in steps])
        expected = np.array([_recomputed(row, step, jumps.get(step)) for step in steps])
        moved = row.first in volume_moves and row.policy == "rewind"
        rows.append(
            Update(
                step=row.first,
                time=row.first * record.timestep_ps,
                model=row.model,
                parent=row.parent,
                policy=row.policy,
                steps=row.steps,
                booked=float(amounts.sum()),
                recomputed=float(expected.sum()),
                deviation=float(np.abs(amounts - expected).max()) if len(steps) else 0.0,
                checkable=not moved,
                data=row.data,
            )
        )
    return tuple(rows)


def due(row: Takeover, record: Record) -> list[int]:
    """Steps at which a change of model must be booked: those before the last frame, and those that are booked."""
    last = int(record.series.step[-1])
    booked = {entry.step for entry in record.entries if entry.account in (Account.MODEL, Account.RAMP)}
    return [step for step in row.exchanges if step < last or step in booked or row.policy != "ramp"]


def _by_step(entries: list[Entry]) -> dict[int, float]:
    found: dict[int, float] = {}
    for entry in entries:
        found[entry.step] = found.get(entry.step, 0.0) + entry.amount
    return found


def _recomputed(row: Takeover, step: int, jump: Jump | None) -> float:
    if jump is None:
        return float("nan")
    before, after = row.weights(step)
    return (after - before) * (jump.new - jump.old)


def updates_part(found: tuple[Update, ...], energy_tolerance: float) -> Part:
    """The check ``model_updates`` with its numbers.

    Args:
        found: the changes of model.
        energy_tolerance: how far two evaluations of one model may differ, kJ/mol.
    """
    findings = tuple(
        Finding(name=f"delta_u_step_{row.step}", value=row.booked, expected=row.recomputed, unit="kJ/mol")
        for row in found
    )
    return Part(checks=(_check(found, energy_tolerance),), findings=findings)


def _check(found: tuple[Update, ...], energy_tolerance: float) -> Check:
    # A difference of two energies carries the rounding of both.
    tolerance = float(np.sqrt(2.0)) * energy_tolerance
    ramps = sum(row.policy == "ramp" for row in found)
    fine = (
        f"all booked ΔU ({len(found)}{f', {ramps} of them ramps' if ramps else ''}) are U_new − U_old at their frames, "
        f"within {tolerance:.2g} kJ/mol"
    )
    hidden = sum(not row.checkable for row in found)
    if hidden:
        fine += f"; {hidden} could not be checked, since the volume moved between frame and swap"
    return judge("model_updates", Kind.INTEGRITY, _problems(found, tolerance), fine)


def _problems(found: tuple[Update, ...], tolerance: float) -> Iterator[str]:
    for row in found:
        what = "ramp" if row.policy == "ramp" else "change of model"
        if not np.isfinite(row.booked):
            yield f"the {what} at step {row.step} is not booked" + (" at every step" if row.policy == "ramp" else "")
        elif not row.checkable:
            continue
        elif not np.isfinite(row.recomputed):
            yield f"the ΔU of step {row.step} cannot be checked: no frame or no model is stored for it"
        elif row.policy == "ramp" and row.deviation > tolerance:
            yield (
                f"in the ramp from step {row.step} an entry is off by {row.deviation:.3g} kJ/mol from "
                f"(U_new − U_old)/{row.steps} (tolerance {tolerance:.2g}); booked {row.booked:.6g}, the models give "
                f"{row.recomputed:.6g} in all"
            )
        elif row.deviation > tolerance:
            yield (
                f"at step {row.step} the ledger books ΔU = {row.booked:.6g} kJ/mol, the models give "
                f"{row.recomputed:.6g} (tolerance {tolerance:.2g})"
            )
