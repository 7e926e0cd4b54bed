"""The law: F = −∂E/∂x on every surface that atoms move on, also across cutoffs and box borders, and ∮ F·dx = 0.

Tolerance 1e-6 of the RMS force: the difference itself errs by at most J·h/2 where the second derivative jumps by J,
that is 5e-7 eV/Å for 1 eV/Å² at h = 1e-6 Å, and by some 1e-9 from rounding (``analysis/differences.py``).
"""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from qmml_md.analysis.probes.differences import STEP_NM, component_errors, rms, surface_of
from qmml_md.analysis.probes.gradients import GRADIENT_TOLERANCE, LOOP_TOLERANCE_KT, closed_loop
from qmml_md.ensemble import weights

DATA = Path(__file__).parents[1] / "data"
WEIGHTS = {"mini": str(DATA / "ani_mini.safetensors"), "ani1x": "ani1x"}
ETHANOL = ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", 7)
WATERS = ase.io.read(DATA / "quantum" / "water5_350K_wb97x_631gd.extxyz", 7)
#: So small that five waters meet their images at 2 to 3 Å, on all sides.
OBLIQUE = 0.65 * np.array([[1.0, 0, 0], [0.16, 1.04, 0], [-0.08, 0.24, 1.12]])


@pytest.fixture(scope="module", params=["mini", "ani1x"])
def model(request):
    return weights.load(WEIGHTS[request.param], "double")


def worst(model, numbers, positions, box, components, step=STEP_NM):
    surface = surface_of(model, numbers)
    errors = component_errors(surface, positions, box, np.array(components), step)
    return float(np.abs(errors).max()) / rms(surface(positions, box).forces)


def dimer(cutoff_nm, near_nm):
    """Ethanol and a water whose oxygen lies at the given distance from the hydroxyl hydrogen, along the x axis."""
    a = ETHANOL.positions * 0.1
    axis = a[8] - a.mean(axis=0)
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    turn = np.stack([axis, side, np.cross(axis, side)])
    a = (a - a[8]) @ turn.T
    b = (WATERS.positions[:3] - WATERS.positions[0]) * 0.1 + [cutoff_nm + near_nm, 0.0, 0.0]
    return np.concatenate([ETHANOL.numbers, WATERS.numbers[:3]]), np.vstack([a, b])


@pytest.mark.parametrize("which", ["radial", "angular"])
@pytest.mark.parametrize("near_nm", [-1e-5, -0.5 * STEP_NM, 0.0, 0.5 * STEP_NM, 1e-5])
def test_across_a_cutoff(model, which, near_nm):
    cutoff = model.card.radial_cutoff_A if which == "radial" else model.card.angular_cutoff_A
    numbers, positions = dimer(0.1 * cutoff, near_nm)
    assert np.linalg.norm(positions[9] - positions[8]) == pytest.approx(0.1 * cutoff + near_nm, abs=1e-15)
    assert worst(model, numbers, positions, None, [(8, 0), (9, 0)]) <= GRADIENT_TOLERANCE


def test_error_at_a_cutoff_is_that_of_the_difference_and_falls_with_its_step():
    # Exactly at the cutoff the error is J·h/6: it must shrink in proportion to the step. A force that jumped there
    # would leave an error that does not shrink, and a wrong one likewise.
    mini = weights.load(WEIGHTS["mini"], "double")
    numbers, positions = dimer(0.1 * mini.card.angular_cutoff_A, 0.0)
    coarse, fine = (worst(mini, numbers, positions, None, [(9, 0)], step) for step in (1e-4, 1e-5))
    assert coarse > 10.0 * GRADIENT_TOLERANCE
    # A tenth, and half as much again for terms of higher order at 1e-3 Å and the 6e-8 of CELU's derivative.
    assert fine < 0.15 * coarse + 1e-7


@pytest.mark.parametrize("near_nm", [-1e-5, 0.0, 1e-5])
@pytest.mark.parametrize("wrapped", [True, False])
def test_at_the_borders_of_an_oblique_box(model, near_nm, wrapped):
    x = WATERS.positions * 0.1
    x = x - x[4] + near_nm
    rng = np.random.default_rng(3)
    cells = np.floor(x @ np.linalg.inv(OBLIQUE)) if wrapped else rng.integers(-2, 3, size=x.shape)
    assert worst(model, WATERS.numbers, x - cells @ OBLIQUE, OBLIQUE, [(4, 0), (4, 1), (4, 2)]) <= GRADIENT_TOLERANCE


def test_wrong_periodic_image_is_caught():
    # The sabotaged twin: an energy that takes the box as cubic when an atom is on one side of the border.
    mini = surface_of(weights.load(WEIGHTS["mini"], "double"), WATERS.numbers)

    def torn(positions, box):
        return mini(positions, box if positions[4, 0] < 0.0 else np.diag(np.diag(box)))

    x = WATERS.positions * 0.1 - WATERS.positions[4] * 0.1
    error = np.abs(component_errors(torn, x, OBLIQUE, np.array([(4, 0)]))).max()
    assert error / rms(mini(x, OBLIQUE).forces) > 1e3 * GRADIENT_TOLERANCE


def test_no_work_around_a_loop(model):
    loop = closed_loop(
        surface_of(model, ETHANOL.numbers), ETHANOL.positions * 0.1, box=None, rng=np.random.default_rng(2),
        temperature_K=300.0,
    )  # fmt: skip
    assert abs(loop.work) <= LOOP_TOLERANCE_KT
