"""The energy books: every exchange of energy between the simulated system and anything else is one entry.

The conserved quantity is ``H̃ = K + U_used − Σ amounts``, where the sum runs over all entries so far. It is flat up to
integrator error whatever was exchanged.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from ..errors import QmmlError


class Account(StrEnum):
    """Where energy can come from or go to."""

    MODEL = "model"
    RAMP = "ramp"
    HEAT = "heat"
    BAROSTAT = "barostat"
    COM = "com"
    VELOCITIES = "velocities"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One exchange of energy.

    What stands before and after depends on the account: the potential energy at fixed positions for a change of model,
    a step of a ramp and a move of the barostat; the kinetic energy for velocities that are drawn anew or lose the
    motion of the centre of mass; the heat that a thermostat has given since step 0 for heat.

    Attributes:
        step: step at which it was booked.
        time: ps.
        account: where the energy came from.
        before, after: kJ/mol.
        cause: one line for a person, for example the model that came and the one that went.
    """

    step: int
    time: float
    account: Account
    before: float
    after: float
    cause: str

    @property
    def amount(self) -> float:
        """``after − before``, kJ/mol: positive when the system gained energy."""
        return self.after - self.before


class BooksError(QmmlError, ValueError):
    """An entry that cannot be true."""


class Books:
    """The ledger of a run. ``post`` is the one function that books an exchange.

    Sums are compensated (Neumaier, Z. Angew. Math. Mech. 54, 39, 1974, doi:10.1002/zamm.19740540106): as good as exact
    for the number of entries that a run can have, at a cost that does not grow with it.
    """

    def __init__(self, entries: tuple[Entry, ...] = ()) -> None:
        self._entries: list[Entry] = []
        self._sums: dict[Account, tuple[float, float]] = {}
        for entry in entries:
            self.post(entry)

    def post(self, entry: Entry) -> None:
        """Book one exchange.

        Raises:
            BooksError: the amount is not finite, or the entry lies before the last one.
        """
        if not math.isfinite(entry.amount):
            raise BooksError(f"{entry.account} entry at step {entry.step}: amount {entry.amount} is not finite")
        if self._entries and entry.step < self._entries[-1].step:
            raise BooksError(f"{entry.account} entry at step {entry.step} after one at step {self._entries[-1].step}")
        self._entries.append(entry)
        self._sums[entry.account] = _add(self._sums.get(entry.account, (0.0, 0.0)), entry.amount)

    def until(self, count: int) -> "Books":
        """The books as they stood when so many entries had been posted."""
        return Books(tuple(self._entries[:count]))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries in the order in which they were posted."""
        return tuple(self._entries)

    @property
    def count(self) -> int:
        """Number of entries: a frame stores it, so that its place among the entries is certain."""
        return len(self._entries)

    def total(self, account: Account | None = None) -> float:
        """Sum of all amounts, kJ/mol; of one account if given."""
        chosen = self._sums.values() if account is None else [self._sums.get(account, (0.0, 0.0))]
        return math.fsum(part for parts in chosen for part in parts)

    def conserved(self, *, kinetic: float, potential: float) -> float:
        """``H̃ = K + U − Σ amounts``, kJ/mol."""
        return math.fsum([kinetic, potential, *(-part for parts in self._sums.values() for part in parts)])


def _add(sum_and_rest: tuple[float, float], amount: float) -> tuple[float, float]:
    """One step of a compensated sum: the running sum, and what rounding has taken from it."""
    old, rest = sum_and_rest
    new = old + amount
    lost = (old - new) + amount if abs(old) >= abs(amount) else (amount - new) + old
    return new, rest + lost
