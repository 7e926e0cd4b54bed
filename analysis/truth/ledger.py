"""Can the ledger be true beside these frames, these models and this configuration?

Each entry says what stood before and after. The cumulative heat of the thermostat chains from one entry to the next.
Where a frame is stored at the step of an entry, what stood before (or after, if it was posted before the frame) is the
potential or the kinetic energy that the frame holds.
"""

from collections.abc import Iterator

import numpy as np

from ...config import THERMOSTATS
from ...records.books import Account, Entry
from ..findings import Kind, Part, judge
from ..record import Record
from .updates import due

#: Accounts whose entries hold a potential energy at the positions of their step, and a kinetic energy.
POTENTIAL, KINETIC = (Account.MODEL, Account.RAMP), (Account.COM, Account.VELOCITIES)


def ledger_part(record: Record, energy_tolerance: float) -> Part:
    """The check ``ledger``.

    Args:
        record: of the run.
        energy_tolerance: how far two evaluations of one model may differ, kJ/mol.
    """
    fine = f"all entries of the ledger ({len(record.entries)}) stand where they must"
    return Part(checks=(judge("ledger", Kind.INTEGRITY, ledger_problems(record, energy_tolerance), fine),))


def ledger_problems(record: Record, energy_tolerance: float) -> Iterator[str]:
    """Everything that cannot be true of the ledger; arguments as for ``ledger_part``."""
    yield from _position_problems(record)
    yield from _update_problems(record, energy_tolerance)
    yield from _account_problems(record)
    yield from _heat_problems(record)
    yield from _frame_problems(record, energy_tolerance)
    yield from _void_problems(record)


def _position_problems(record: Record) -> Iterator[str]:
    steps = np.array([entry.step for entry in record.entries], dtype=np.int64)
    if (np.diff(steps) < 0).any():
        yield "the ledger is not in the order of time"
    count, total = record.series.entries, len(steps)
    if (np.diff(count) < 0).any():
        at = int(record.series.step[1 + int(np.argmax(np.diff(count) < 0))])
        yield f"the count of entries falls at the frame of step {at}"
    for step, n in zip(record.series.step, count, strict=True):
        if not 0 <= n <= total:
            yield f"the frame of step {step} counts {n} entries, the ledger has {total}"
        elif n > 0 and steps[n - 1] > step:
            yield f"the frame of step {step} counts an entry of step {steps[n - 1]}"
        elif n < total and steps[n] < step:
            yield f"the frame of step {step} leaves out an entry of step {steps[n]}"


def _update_problems(record: Record, energy_tolerance: float) -> Iterator[str]:
    """One entry for each change of model, or for each step of a ramp."""
    rows = record.takeovers
    ends = {row.last for row in rows if row.policy == "ramp"}
    for account, ramps, what in (
        (Account.MODEL, False, "changes of model"),
        (Account.RAMP, True, "steps of a ramp"),
    ):
        expected = [step for row in rows if (row.policy == "ramp") == ramps for step in due(row, record) * row.rows]
        booked = [entry.step for entry in record.of_account(account) if not _rounding(entry, ends, energy_tolerance)]
        if booked != expected:
            missing, extra = sorted(set(expected) - set(booked)), sorted(set(booked) - set(expected))
            detail = f" (none at step {missing[0]})" if missing else f" (step {extra[0]} has none)" if extra else ""
            yield f"{len(expected)} {what} but {len(booked)} entries that book one{detail}"


def _rounding(entry: Entry, ends: set[int], energy_tolerance: float) -> bool:
    """Where a ramp ends, a device may round the blend of weight one otherwise than the new model alone."""
    return entry.account == Account.RAMP and entry.step in ends and abs(entry.amount) <= energy_tolerance


def _account_problems(record: Record) -> Iterator[str]:
    """Accounts that the configuration cannot fill, and exchanges that it asks for and nobody booked."""
    dynamics, first, last = record.config.dynamics, int(record.series.step[0]), int(record.series.step[-1])
    redraw = dynamics.redraw_velocities_every_steps
    heat = [entry for entry in record.of_account(Account.HEAT) if entry.before != 0.0 or entry.after != 0.0]
    if dynamics.integrator not in THERMOSTATS and heat:
        name = "velocity Verlet" if dynamics.integrator == "verlet" else dynamics.integrator
        yield f"{name} exchanges no heat, but the ledger books {len(heat)} entries of it"
    if dynamics.pressure_bar is None and record.of_account(Account.BAROSTAT):
        yield "no pressure was asked for, but the ledger books moves of a barostat"
    for account, every, what in (
        (Account.COM, dynamics.remove_com_every_steps, "removals of the centre-of-mass motion"),
        (Account.VELOCITIES, redraw, "draws of the velocities"),
    ):
        booked = {entry.step for entry in record.of_account(account)}
        if every == 0 and booked:
            yield f"no {what} were asked for, but the ledger books {len(booked)} of them"
        elif every:
            # The exchange of the last step comes after the last frame, if it comes at all; velocities that are drawn
            # anew have no motion of the centre of mass that were to be removed.
            drawn = redraw if account == Account.COM else 0
            due_steps = (
                step for step in range(every, last, every) if step > first and not (drawn and step % drawn == 0)
            )
            missing = [step for step in due_steps if step not in booked]
            odd = sorted(step for step in booked if step % every)
            if missing:
                yield f"{what} were due every {every} steps, {len(missing)} are not booked, first at step {missing[0]}"
            if odd:
                yield f"{what} were due every {every} steps, but one is booked at step {odd[0]}"


def _heat_problems(record: Record) -> Iterator[str]:
    """The cumulative heat must chain from zero, and stand in the ledger before each frame."""
    rows, tolerance = record.of_account(Account.HEAT), record.config.audit.identity_kj_per_mol
    before = 0.0
    for entry in rows:
        if abs(entry.before - before) > tolerance:
            yield (
                f"the heat entry of step {entry.step} begins at {entry.before:.9g} kJ/mol, "
                f"the entry before it ended at {before:.9g}"
            )
            break
        before = entry.after
    if record.config.dynamics.integrator in THERMOSTATS:
        booked = {entry.step for entry in rows}
        missing = [int(step) for step in record.series.step if step > 0 and int(step) not in booked]
        if missing:
            yield f"the heat of the thermostat is not booked before {len(missing)} frames, first at step {missing[0]}"


def _frame_problems(record: Record, energy_tolerance: float) -> Iterator[str]:
    """What stood before and after, where a frame of the same step knows it."""
    series, at = record.series, record.series.frame_of()
    rows = list(enumerate(record.entries))
    for accounts, stored, tolerance, what in (
        (POTENTIAL, series.potential_used, energy_tolerance, "potential energy"),
        (KINETIC, series.kinetic, record.config.audit.identity_kj_per_mol, "kinetic energy"),
    ):
        for step, group in _by_step([(k, entry) for k, entry in rows if entry.account in accounts]).items():
            frame = at.get(step)
            if frame is None:
                continue
            later = [entry for k, entry in group if k >= series.entries[frame]]
            earlier = [entry for k, entry in group if k < series.entries[frame]]
            sides = [(entry, entry.before, "before") for entry in later[:1]]
            sides += [(entry, entry.after, "after") for entry in earlier[-1:]]
            for entry, says, side in sides:
                if not abs(says - stored[frame]) <= tolerance:
                    yield (
                        f"the {entry.account} entry of step {step} says that the {what} was {says:.9g} {side} it, "
                        f"the frame of that step holds {stored[frame]:.9g} kJ/mol"
                    )


def _by_step(rows: list[tuple[int, Entry]]) -> dict[int, list[tuple[int, Entry]]]:
    found: dict[int, list[tuple[int, Entry]]] = {}
    for k, entry in rows:
        found.setdefault(entry.step, []).append((k, entry))
    return found


def _void_problems(record: Record) -> Iterator[str]:
    """Rows that were discarded must be those of the rewinds that the run tells of."""
    rewinds = [event for event in record.events if event.kind == "rewind"]
    for name, void in (("entries", record.voided.entries), ("segments", record.voided.segments)):
        told = sum(int(event.data.get(name, 0)) for event in rewinds)
        if told != len(void):
            yield f"{len(void)} {name} are marked as discarded, but the run tells of {told} in {len(rewinds)} rewinds"
