"""Verdicts are made from checks, and what goes to JSON is JSON."""

import json

import numpy as np
import pytest

from qmml_md.analysis.findings import EXIT_CODES, Check, Kind, Status, judge, plain, verdict


def checks(*statuses):
    return [Check(name=str(i), kind=Kind.FORCES, status=status, why="") for i, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((), Status.PASS),
        ((Status.PASS, Status.NOT_APPLICABLE), Status.PASS),
        ((Status.PASS, Status.UNDECIDED), Status.UNDECIDED),
        ((Status.UNDECIDED, Status.FAIL, Status.PASS), Status.FAIL),
    ],
)
def test_verdict_is_the_worst_of_the_checks(statuses, expected):
    assert verdict(checks(*statuses)) == expected


def test_exit_codes():
    assert [EXIT_CODES[s] for s in (Status.PASS, Status.FAIL, Status.UNDECIDED)] == [0, 1, 2]


def test_judge_names_three_problems_and_counts_the_rest():
    check = judge("x", Kind.INTEGRITY, (f"problem {i}" for i in range(5)), "fine")
    assert check.status == Status.FAIL
    assert check.why == "problem 0; problem 1; problem 2; and 2 more"
    assert judge("x", Kind.INTEGRITY, [], "fine").status == Status.PASS


def test_plain_values_are_json():
    value = {"a": np.arange(2), "b": np.float64("nan"), "c": (np.bool_(True), np.inf), "d": Status.PASS, "e": None}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": [0, 1], "b": None, "c": [True, None], "d": "pass", "e": None,
    }  # fmt: skip
