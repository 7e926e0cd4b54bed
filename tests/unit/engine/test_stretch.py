"""The frames of a stretch: few, even, in order, and the same after a resume."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.engine.stretch import MOST_FRAMES, Stretch
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure

ETHANOL = Path(__file__).resolve().parents[3] / "examples" / "ethanol_nve" / "ethanol.pdb"


@pytest.fixture(scope="module")
def ethanol() -> Molecules:
    return read_structure(ETHANOL, periodic=None, formal_charges={})


@pytest.mark.parametrize("offered", [0, 1, MOST_FRAMES, MOST_FRAMES + 1, 100, 1000])
def test_a_stretch_is_bounded_and_even(ethanol: Molecules, offered: int) -> None:
    stretch = Stretch()
    for step in range(offered):
        stretch.offer(5 * step, ethanol)
    assert len(stretch.steps) == len(stretch.frames) == len(list(stretch)) <= MOST_FRAMES
    if offered:
        assert stretch.steps[0] == 0
        assert len(stretch.steps) >= min(offered, MOST_FRAMES // 2)
    gaps = np.diff(stretch.steps)
    assert len(set(gaps.tolist())) <= 1
    # What is kept reaches to the end, to within one gap.
    assert not len(gaps) or 5 * (offered - 1) - stretch.steps[-1] < gaps[0] or gaps[0] == 5


def test_a_cleared_stretch_begins_anew(ethanol: Molecules) -> None:
    once, twice = Stretch(), Stretch()
    for step in range(50):
        once.offer(step, ethanol)
    once.clear()
    for step in range(12):
        once.offer(step, ethanol)
        twice.offer(step, ethanol)
    assert once.steps == twice.steps
