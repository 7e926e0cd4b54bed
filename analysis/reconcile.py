"""The books against the frames: kinetic energies, the ledger, and the identity that ties them to the final model.

With f the final model and the sum over all ledger entries posted before the frame, each frame must satisfy

    H_f − H̃ = U_f − U_used + Σ amounts,      H_f = K + U_f.

H̃ is the number that the engine stored with the frame; K is recomputed from velocities and masses, U_used is what the
frame holds, and the amounts are the rows of the ledger. No side is computed from the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..records.books import Account
from ..records.frames import Floats, Frames
from .findings import Check, Finding, Kind, Part, judge
from .record import Record

UNIT = "kJ/mol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The energies of every frame side by side, kJ/mol, shape (f,) each.

    Attributes:
        kinetic: recomputed from velocities and masses.
        exchanged: sum of the ledger entries posted before the frame.
        final_total: H_f.
        residual: left minus right side of the identity.
    """

    kinetic: Floats
    exchanged: Floats
    final_total: Floats
    residual: Floats


def kinetic_energies(velocities: Floats, masses: Floats) -> Floats:
    """``½ Σ m v²`` of each frame, kJ/mol, shape (f,), from nm/ps, shape (f, n, 3), and Da, shape (n,)."""
    result: Floats = 0.5 * np.einsum("fni,fni,n->f", velocities, velocities, masses)
    return result


def exchanged(record: Record) -> Floats:
    """Sum of the ledger entries posted before each frame, kJ/mol, shape (f,); NaN where the count is impossible."""
    amounts = np.array([entry.amount for entry in record.entries], dtype=np.longdouble)
    sums = np.concatenate([[np.longdouble(0.0)], np.cumsum(amounts)]).astype(np.float64)
    count = record.frames.entries
    possible = (count >= 0) & (count < len(sums))
    return np.where(possible, sums[np.where(possible, count, 0)], np.nan)


def reconcile(record: Record, potential_final: Floats) -> Reconciliation:
    """Both sides of the identity.

    Args:
        record: of the run.
        potential_final: U_f of each frame, kJ/mol, shape (f,).
    """
    frames = record.frames
    kinetic = kinetic_energies(frames.velocities, record.particles.masses)
    amounts = exchanged(record)
    final_total = kinetic + potential_final
    left = final_total - frames.conserved
    right = potential_final - frames.potential_used + amounts
    return Reconciliation(kinetic=kinetic, exchanged=amounts, final_total=final_total, residual=left - right)


def reconcile_part(record: Record, books: Reconciliation) -> Part:
    """The checks ``kinetic``, ``ledger`` and ``identity`` with their numbers."""
    frames, tolerance = record.frames, record.config.audit.identity_kj_per_mol
    kinetic = books.kinetic - frames.kinetic
    checks = (
        _within("kinetic", frames, kinetic, tolerance, "½ Σ m v² minus the stored kinetic energy"),
        judge(
            "ledger",
            Kind.INTEGRITY,
            ledger_problems(record),
            f"all entries of the ledger ({len(record.entries)}) stand where they must",
        ),
        _within("identity", frames, books.residual, tolerance, "H_f − H̃ − (U_f − U_used + Σ amounts)"),
    )
    findings = [
        Finding(name="identity_max_residual", value=_largest(books.residual), expected=0.0, unit=UNIT),
        Finding(name="kinetic_max_residual", value=_largest(kinetic), expected=0.0, unit=UNIT),
    ]
    for account in Account:
        rows = record.of_account(account)
        if rows:
            total = float(np.sum([row.amount for row in rows]))
            findings.append(Finding(name=f"ledger_total_{account}", value=total, unit=UNIT))
    return Part(checks=checks, findings=tuple(findings))


def ledger_problems(record: Record) -> Iterator[str]:
    """Everything that cannot be true of a ledger beside these frames and models."""
    yield from _position_problems(record)
    booked = [entry.step for entry in record.of_account(Account.MODEL)]
    swapped = [row.step for row in record.models[1:]]
    if booked != swapped:
        missing = sorted(set(swapped) - set(booked))
        detail = f" (none at step {missing[0]})" if missing else ""
        yield f"{len(swapped)} changes of model but {len(booked)} entries that book one{detail}"
    heat = [entry for entry in record.of_account(Account.HEAT) if entry.amount != 0.0]
    if record.config.dynamics.integrator == "verlet" and heat:
        yield f"velocity Verlet exchanges no heat, but the ledger books {len(heat)} entries of it"


def _position_problems(record: Record) -> Iterator[str]:
    steps = np.array([entry.step for entry in record.entries], dtype=np.int64)
    if (np.diff(steps) < 0).any():
        yield "the ledger is not in the order of time"
    count, total = record.frames.entries, len(steps)
    if (np.diff(count) < 0).any():
        at = int(record.frames.step[1 + int(np.argmax(np.diff(count) < 0))])
        yield f"the count of entries falls at the frame of step {at}"
    for step, n in zip(record.frames.step, count, strict=True):
        if not 0 <= n <= total:
            yield f"the frame of step {step} counts {n} entries, the ledger has {total}"
        elif n > 0 and steps[n - 1] > step:
            yield f"the frame of step {step} counts an entry of step {steps[n - 1]}"
        elif n < total and steps[n] < step:
            yield f"the frame of step {step} leaves out an entry of step {steps[n]}"


def _largest(series: Floats) -> float:
    return float(np.abs(series).max()) if np.isfinite(series).all() else float("nan")


def _within(name: str, frames: Frames, series: Floats, tolerance: float, what: str) -> Check:
    bad = np.flatnonzero(~(np.abs(series) <= tolerance))
    problems = []
    if len(bad):
        first, finite = int(bad[0]), series[bad][np.isfinite(series[bad])]
        worst = f"{np.abs(finite).max():.3g}" if len(finite) else "not a number"
        problems.append(
            f"{what} exceeds {tolerance:g} {UNIT} in {len(bad)} of {len(frames)} frames, first at step "
            f"{int(frames.step[first])} ({series[first]:.3g}), worst {worst}"
        )
    return judge(name, Kind.INTEGRITY, problems, f"{what} is at most {_largest(series):.2g} {UNIT} (≤ {tolerance:g})")
