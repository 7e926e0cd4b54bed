"""What an audit says: findings are numbers, checks are judgements made from them, the verdict is made from checks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Status(StrEnum):
    """How one check came out; ``not_applicable`` says that the record cannot bear on it and why."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    UNDECIDED = "undecided"
    NOT_APPLICABLE = "not_applicable"


class Kind(StrEnum):
    """What a check is about."""

    INTEGRITY = "integrity"
    FORCES = "forces"
    CONSERVATION = "conservation"
    PHYSICS = "physics"


#: Exit codes of ``qmml audit``.
EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.UNDECIDED: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A number that the audit found.

    Attributes:
        name: what was measured.
        value: the number; NaN where there is none.
        expected: what it would be in a perfect record; None where there is no such number.
        standard_error: of ``value``; None where it is exact.
        unit: of all three.
    """

    name: str
    value: float
    expected: float | None = None
    standard_error: float | None = None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A judgement.

    Attributes:
        name: of the check.
        kind: integrity of the record, forces against the final model, or conservation of energy.
        status: how it came out.
        why: one sentence with the numbers, for a person.
    """

    name: str
    kind: Kind
    status: Status
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one part of the audit contributes."""

    checks: tuple[Check, ...] = ()
    findings: tuple[Finding, ...] = ()


def judge(name: str, kind: Kind, problems: Iterable[str], fine: str) -> Check:
    """A check that fails if there is any problem, and then names the first three.

    Args:
        name: of the check.
        kind: of the check.
        problems: one clause for each.
        fine: what to say if there is none.
    """
    found = list(problems)
    if not found:
        return Check(name=name, kind=kind, status=Status.PASS, why=fine)
    rest = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return Check(name=name, kind=kind, status=Status.FAIL, why="; ".join(found[:3]) + rest)


def largest(series: NDArray[np.float64]) -> float:
    """Largest absolute value; NaN if any is not finite, or there is none."""
    return float(np.abs(series).max()) if len(series) and np.isfinite(series).all() else float("nan")


def verdict(checks: Iterable[Check]) -> Status:
    """``fail`` if any check failed, else ``undecided`` if any could not be decided, else ``pass``.

    Undecided questions of physics do not count: how many independent frames there are is no matter of the books.
    """
    found = list(checks)
    if any(check.status == Status.FAIL for check in found):
        return Status.FAIL
    open_ = any(check.status == Status.UNDECIDED and check.kind != Kind.PHYSICS for check in found)
    return Status.UNDECIDED if open_ else Status.PASS


def plain(value: Any) -> Any:
    """The same value in JSON types: arrays to lists, NaN and infinities to None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, StrEnum) else value
