"""The books: one function posts, sums do not round, what cannot be true is refused."""

from fractions import Fraction

import numpy as np
import pytest

from qmml_md.records.books import Account, Books, BooksError, Entry


def entry(step: int, amount: float, account: Account = Account.HEAT) -> Entry:
    return Entry(step=step, time=step * 0.5e-3, account=account, before=0.0, after=amount, cause="test")


def test_conserved_quantity_takes_every_exchange_out() -> None:
    books = Books()
    books.post(entry(1, 3.0))
    books.post(entry(2, -7.5, Account.MODEL))
    assert books.conserved(kinetic=10.0, potential=-20.0) == 10.0 - 20.0 - 3.0 + 7.5
    assert books.total() == -4.5
    assert books.total(Account.MODEL) == -7.5
    assert books.total(Account.BAROSTAT) == 0.0
    assert books.count == 2


def test_sums_do_not_lose_small_amounts() -> None:
    # A million small amounts beside a large one that comes and goes: the exact sum is known as a fraction.
    rng = np.random.default_rng(8)
    amounts = [1e9, *rng.normal(scale=1e-3, size=20000).tolist(), -1e9]
    books = Books(tuple(entry(i, a) for i, a in enumerate(amounts)))
    exact = float(sum(map(Fraction, amounts)))
    assert abs(books.total() - exact) < 1e-15 * 1e4
    # Sabotage: a plain sum is wrong by more than the identity of the audit tolerates.
    assert abs(sum(amounts) - exact) > 1e-6


def test_the_same_entries_give_the_same_books() -> None:
    amounts = np.random.default_rng(1).normal(size=100).tolist()
    entries = tuple(entry(i, a, list(Account)[i % 6]) for i, a in enumerate(amounts))
    grown = Books()
    for each in entries:
        grown.post(each)
    rebuilt = Books(entries)
    assert grown.conserved(kinetic=1.0, potential=2.0) == rebuilt.conserved(kinetic=1.0, potential=2.0)
    assert grown.entries == rebuilt.entries


@pytest.mark.parametrize("amount", [float("nan"), float("inf")])
def test_amounts_must_be_finite(amount: float) -> None:
    with pytest.raises(BooksError, match="not finite"):
        Books().post(entry(1, amount))


def test_time_does_not_run_backwards() -> None:
    books = Books((entry(5, 1.0),))
    with pytest.raises(BooksError, match="step 4 after one at step 5"):
        books.post(entry(4, 1.0))
    assert books.count == 1
