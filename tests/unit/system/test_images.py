"""Periodic images against brute force over many cells, and against OpenMM's own boxes."""

from itertools import product

import numpy as np
import openmm
import pytest
from openmm import unit
from openmm.app.internal.unitcell import computePeriodicBoxVectors

from qmml_md.errors import StructureError
from qmml_md.system.images import (
    box_from_cell,
    nearest_image,
    orient,
    pairs_within,
    perpendicular_widths,
    reduce_box,
)

# Coordinates stay below 20 nm; a handful of operations in float64 rounds by less than 20 * 10 * 2.2e-16.
ROUNDING_NM = 1e-13
CELLS = np.array(list(product(range(-4, 5), repeat=3)))

BOXES = {
    "cube": np.diag([2.0, 2.0, 2.0]),
    "brick": np.diag([1.6, 2.0, 2.4]),
    "octahedron": box_from_cell(np.array([2.0, 2.0, 2.0]), np.array([70.53, 109.47, 70.53])),
    "dodecahedron": box_from_cell(np.array([2.0, 2.0, 2.0]), np.array([60.0, 60.0, 90.0])),
    "oblique": np.array([[2.0, 0, 0], [0.9, 1.5, 0], [-0.8, 0.7, 1.8]]),
}


def shortest(vectors: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Lengths of the shortest images by brute force around the crude one."""
    crude = vectors - np.round(vectors @ np.linalg.inv(box)) @ box
    return np.linalg.norm(crude[:, None] + (CELLS @ box)[None], axis=2).min(axis=1)


@pytest.mark.parametrize("name", BOXES)
def test_nearest_image_is_the_shortest_of_all(name: str) -> None:
    box = BOXES[name]
    vectors = np.random.default_rng(1).uniform(-3, 3, (400, 3)) @ box
    short, shifts = nearest_image(vectors, box)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), shortest(vectors, box), atol=ROUNDING_NM)
    np.testing.assert_allclose(vectors + shifts @ box, short, atol=ROUNDING_NM)


def test_brick_reduction_alone_is_caught_in_an_oblique_box() -> None:
    """The twin: what many codes do, rounding row by row, is not the nearest image in an oblique box."""
    box = BOXES["oblique"]
    vectors = np.random.default_rng(1).uniform(-3, 3, (400, 3)) @ box
    crude = vectors.copy()
    for k in (2, 1, 0):
        crude -= np.round(crude[:, k] / box[k, k])[:, None] * box[k]
    assert (np.linalg.norm(crude, axis=1) > shortest(vectors, box) + 0.05).any()


@pytest.mark.parametrize("name", BOXES)
def test_images_within_reach_are_exact_although_longer_ones_need_not_be(name: str) -> None:
    box, reach = BOXES[name], 0.7
    vectors = np.random.default_rng(2).uniform(-3, 3, (400, 3)) @ box
    short, _ = nearest_image(vectors, box, within=reach)
    true, found = shortest(vectors, box), np.linalg.norm(short, axis=1)
    np.testing.assert_allclose(found[true <= reach], true[true <= reach], atol=ROUNDING_NM)
    assert (found[true > reach] > reach).all()


def test_vacuum_moves_nothing() -> None:
    vectors = np.array([[9.0, -7.0, 3.0]])
    short, shifts = nearest_image(vectors, None)
    assert (short == vectors).all()
    assert not shifts.any()


@pytest.mark.parametrize("angles", [(90, 90, 90), (70.53, 109.47, 70.53), (60, 60, 90), (75, 80, 100), (90, 115, 90)])
def test_box_from_cell_is_openmms(angles: tuple[float, float, float]) -> None:
    lengths = np.array([2.1, 2.4, 1.9])
    theirs = computePeriodicBoxVectors(*lengths, *np.radians(angles)).value_in_unit(unit.nanometer)
    ours = box_from_cell(lengths, np.array(angles, dtype=float))
    # OpenMM rounds components below 1e-6 nm to zero.
    np.testing.assert_allclose(ours, np.array([list(v) for v in theirs]), atol=1e-6)
    openmm.System().setDefaultPeriodicBoxVectors(*ours)


def test_openmm_accepts_every_reduced_box() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        box = np.tril(rng.uniform(-6, 6, (3, 3)))
        box[np.diag_indices(3)] = rng.uniform(1, 3, 3)
        openmm.System().setDefaultPeriodicBoxVectors(*reduce_box(box))


@pytest.mark.parametrize("angles", [(10, 10, 170), (90, 90, 180), (90, 90, 0)])
def test_impossible_cell_is_refused(angles: tuple[float, float, float]) -> None:
    with pytest.raises(StructureError, match="no box has edges"):
        box_from_cell(np.ones(3), np.array(angles, dtype=float))


def test_perpendicular_widths_are_the_heights_of_the_box() -> None:
    np.testing.assert_allclose(perpendicular_widths(BOXES["brick"]), [1.6, 2.0, 2.4], atol=ROUNDING_NM)
    # Rhombic prism of edge 2 and angle 60°: both slanted pairs of faces are 2 sin 60° apart.
    rhombus = box_from_cell(np.array([2.0, 2.0, 3.0]), np.array([90.0, 90.0, 60.0]))
    np.testing.assert_allclose(perpendicular_widths(rhombus), [np.sqrt(3), np.sqrt(3), 3.0], atol=ROUNDING_NM)


@pytest.mark.parametrize("name", [*BOXES, "vacuum"])
@pytest.mark.parametrize("reach", [0.3, 1.1])
def test_pairs_within_finds_all_pairs(name: str, reach: float) -> None:
    box = BOXES.get(name)
    rng = np.random.default_rng(4)
    positions = rng.uniform(-1, 2, (60, 3)) @ (np.eye(3) if box is None else box)
    i, j = np.triu_indices(60, 1)
    vectors = positions[j] - positions[i]
    true = np.linalg.norm(vectors, axis=1) if box is None else shortest(vectors, box)
    pairs, distances = pairs_within(positions, box, reach)
    expected = np.stack([i, j], axis=1)[true <= reach]
    assert pairs.tolist() == expected.tolist()
    np.testing.assert_allclose(distances, true[true <= reach], atol=ROUNDING_NM)


def test_orient_turns_without_mirroring() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        lattice, positions = rng.normal(size=(3, 3)) + 2 * np.eye(3), rng.normal(size=(5, 3))
        box, turned = orient(lattice, positions)
        assert abs(abs(np.linalg.det(lattice)) - np.linalg.det(box)) < 1e-12
        before, after = positions[1:4] - positions[0], turned[1:4] - turned[0]
        # The signed volume of a tetrahedron keeps its sign under rotation only; rounding as above.
        assert abs(np.linalg.det(before) - np.linalg.det(after)) < 1e-12
        # The same lattice: each old vector, turned, is a whole combination of the new ones.
        basis = np.linalg.lstsq(before, after, rcond=None)[0]
        counts = lattice @ basis @ np.linalg.inv(box)
        # Solving for the rotation loses digits with the condition of three random vectors, at most 1e5 here.
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-8)


def test_flat_lattice_is_refused() -> None:
    with pytest.raises(StructureError, match="span no volume"):
        orient(np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]]), np.zeros((1, 3)))
