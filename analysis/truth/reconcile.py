"""The books against the frames: kinetic energies, the ledger, and the identity that ties them to the final model.

With f the final model and the sum over all ledger entries posted before the frame, each frame must satisfy

    H_f − H̃ = U_f − U_used + Σ amounts,      H_f = K + U_f.

H̃ is the number that the engine stored with the frame; K is recomputed from velocities and masses, U_used is what the
frame holds, and the amounts are the rows of the ledger. No side is computed from the other.
"""

from dataclasses import dataclass

import numpy as np

from ...records.books import Account
from ...records.frames import Floats, Ints
from ..findings import Check, Finding, Kind, Part, judge, largest
from ..record import Record

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
    count = record.series.entries
    possible = (count >= 0) & (count < len(sums))
    return np.where(possible, sums[np.where(possible, count, 0)], np.nan)


def reconcile(record: Record, kinetic: Floats, potential_final: Floats) -> Reconciliation:
    """Both sides of the identity.

    Args:
        record: of the run.
        kinetic: recomputed from velocities and masses, kJ/mol, shape (f,).
        potential_final: U_f of each frame, kJ/mol, shape (f,).
    """
    series, amounts = record.series, exchanged(record)
    final_total = kinetic + potential_final
    left = final_total - series.conserved
    right = potential_final - series.potential_used + amounts
    return Reconciliation(kinetic=kinetic, exchanged=amounts, final_total=final_total, residual=left - right)


def reconcile_part(record: Record, books: Reconciliation) -> Part:
    """The checks ``kinetic`` and ``identity`` with their numbers, and the total of each account."""
    series, tolerance = record.series, record.config.audit.identity_kj_per_mol
    kinetic = books.kinetic - series.kinetic
    checks = (
        _within("kinetic", series.step, kinetic, tolerance, "½ Σ m v² minus the stored kinetic energy"),
        _within("identity", series.step, books.residual, tolerance, "H_f − H̃ − (U_f − U_used + Σ amounts)"),
    )
    findings = [
        Finding(name="identity_max_residual", value=largest(books.residual), expected=0.0, unit=UNIT),
        Finding(name="kinetic_max_residual", value=largest(kinetic), expected=0.0, unit=UNIT),
    ]
    for account in Account:
        rows = record.of_account(account)
        if rows:
            total = float(np.sum([row.amount for row in rows]))
            findings.append(Finding(name=f"ledger_total_{account}", value=total, unit=UNIT))
    return Part(checks=checks, findings=tuple(findings))


def _within(name: str, steps: Ints, series: Floats, tolerance: float, what: str) -> Check:
    bad = np.flatnonzero(~(np.abs(series) <= tolerance))
    problems = []
    if len(bad):
        first, finite = int(bad[0]), series[bad][np.isfinite(series[bad])]
        worst = f"{np.abs(finite).max():.3g}" if len(finite) else "not a number"
        problems.append(
            f"{what} exceeds {tolerance:g} {UNIT} in {len(bad)} of {len(steps)} frames, first at step "
            f"{int(steps[first])} ({series[first]:.3g}), worst {worst}"
        )
    return judge(name, Kind.INTEGRITY, problems, f"{what} is at most {largest(series):.2g} {UNIT} (≤ {tolerance:g})")
