"""Physical sanity: reactions are told, impossible things fail, and nothing depends on how frames are wrapped or cut."""

import json
import time

import ase.build
import numpy as np
import pytest

from qmml_md.analysis.findings import Status
from qmml_md.analysis.probes.sanity import Sanity
from qmml_md.errors import AuditError
from qmml_md.records.frames import Frame, stack
from qmml_md.records.segment import Particles

SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 17: "Cl", 35: "Br"}


def particles(numbers, bonds, periodic=False):
    atoms = [{"index": i, "name": f"{SYMBOLS[z]}{i}", "element": SYMBOLS[z]} for i, z in enumerate(numbers)]
    residue = {"index": 0, "name": "MOL", "resSeq": 1, "segmentID": "", "atoms": atoms}
    topology = {"chains": [{"index": 0, "residues": [residue]}], "bonds": [list(bond) for bond in bonds]}
    return Particles(
        numbers=np.array(numbers), masses=np.ones(len(numbers)), topology_json=json.dumps(topology), periodic=periodic,
        degrees_of_freedom=3 * len(numbers) - 3,
    )  # fmt: skip


def frames(images, box=None, first=0):
    """Frames from positions in Å."""
    zeros = np.zeros(np.shape(images[0]))
    rows = [
        Frame(
            step=10 * (first + k), time=0.01 * k, positions=np.array(image) * 0.1, velocities=zeros, forces_used=zeros,
            potential_used=0.0, kinetic=0.0, conserved=0.0, entries=0, box=np.zeros((3, 3)) if box is None else box,
            region_epoch=0, disagreement=zeros[:, 0],
        )
        for k, image in enumerate(images)
    ]  # fmt: skip
    return stack(rows, "m" * 64)


def examine(who, images, box=None):
    sanity = Sanity(who)
    sanity.add(frames(images, box))
    part = sanity.part()
    return {c.name: c for c in part.checks}, {f.name: f.value for f in part.findings}


TWO_WATERS = [8, 1, 1, 8, 1, 1]
BONDS = [(0, 1), (0, 2), (3, 4), (3, 5)]


def waters(hydrogen):
    """Two waters 2.5 Å apart; atom 1 lies between the oxygens, at ``hydrogen`` Å from the first."""
    return np.array(
        [[0, 0, 0], [hydrogen, 0, 0], [-0.3, 0.9, 0], [2.5, 0, 0], [2.8, 0.9, 0.1], [2.8, -0.9, 0.1]], dtype=float
    )


def test_vibrating_water_is_quiet():
    checks, found = examine(particles(TWO_WATERS, BONDS), [waters(x) for x in (0.96, 0.85, 1.1, 0.96)])
    assert checks["clashes"].status == checks["valence"].status == Status.PASS
    assert checks["chirality"].status == Status.NOT_APPLICABLE
    # O–H of 1.1 Å over 0.31 + 0.66 Å, and of 0.85.
    assert found["bond_stretch_max"] == pytest.approx(1.1 / 0.97)
    assert found["bond_stretch_min"] == pytest.approx(0.85 / 0.97)


def test_proton_that_changes_hands_is_told_once_and_fails_nothing():
    # Back and forth around the middle (1.25 Å) it belongs to whom it was with; at 1.36 Å the other has it (1.14 Å).
    path = [0.96, 1.2, 1.28, 1.2, 1.28, 1.36, 1.5, 1.28, 1.2, 1.25]
    checks, found = examine(particles(TWO_WATERS, BONDS), [waters(x) for x in path])
    assert found["hydrogens_moved"] == 1.0
    assert found["bonds_made"] == found["bonds_broken"] == found["odd_valences"] == 0.0
    assert checks["valence"].status == Status.PASS
    assert "MOL1 H1 goes from MOL1 O0 to MOL1 O3 at step 50" in checks["valence"].why


def test_lost_hydrogen_is_undecided_and_named():
    gone = waters(0.96)
    gone[2] = [-3.0, 3.0, 0.0]
    checks, found = examine(particles(TWO_WATERS, BONDS), [waters(0.96), gone])
    assert found["bonds_broken"] == 1.0
    assert checks["valence"].status == Status.UNDECIDED
    assert "MOL1 H2 has 0 bonds at step 10" in checks["valence"].why


def test_fifth_bond_of_a_carbon_is_undecided():
    ethane = ase.build.molecule("CH4")
    images = [np.vstack([ethane.positions, [x, x, -x]]) * 1.0 for x in (4.0, 0.85)]
    # A chlorine 1.47 Å from the carbon, where C–Cl bonds are made below 1.2·1.78 Å.
    checks, _ = examine(particles([6, 1, 1, 1, 1, 17], [(0, i) for i in range(1, 5)]), images)
    assert checks["valence"].status == Status.UNDECIDED
    assert "C0 has 5 bonds" in checks["valence"].why


def test_reaction_of_heavy_atoms_is_told_and_passes():
    # Two ethenes far apart, then one C–C bond between them.
    ethene = ase.build.molecule("C2H4")
    numbers = [*ethene.numbers, *ethene.numbers]
    bonds = [(i + o, j + o) for o in (0, 6) for i, j in ((0, 1), (0, 2), (0, 3), (1, 4), (1, 5))]
    images = [np.vstack([ethene.positions, ethene.positions + np.array([0, d, 0])]) for d in (5.0, 1.7)]
    checks, found = examine(particles(numbers, bonds), images)
    assert found["bonds_made"] == 2.0
    assert checks["valence"].status == Status.PASS
    assert "C0 and MOL1 C6 is made" in checks["valence"].why


def test_clash_fails():
    near = waters(0.96)
    near[4] = near[3] + [0.5, 0, 0]
    checks, found = examine(particles(TWO_WATERS, BONDS), [waters(0.96), near, near])
    assert checks["clashes"].status == Status.FAIL
    assert "MOL1 O3 and MOL1 H4 are 0.50 Å apart at step 10" in checks["clashes"].why
    assert found["clashes"] == 2.0


CHIRAL = [6, 1, 9, 17, 35]
STAR = [(0, i) for i in range(1, 5)]
TETRAHEDRON = np.array([[0, 0, 0], [0.63, 0.63, 0.63], [0.8, -0.8, -0.8], [-1, 1, -1], [-1.1, -1.1, 1.1]], dtype=float)


def test_inverted_centre_fails_and_a_turned_one_does_not():
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    who = particles(CHIRAL, STAR)
    images = [TETRAHEDRON + 0.1 * rng.normal(size=(5, 3)) * [[0], [1], [1], [1], [1]] for _ in range(20)]
    checks, found = examine(who, [*images, TETRAHEDRON @ turn.T])
    assert found["stereocentres"] == 1.0
    assert checks["chirality"].status == Status.PASS
    mirrored, counts = examine(who, [TETRAHEDRON, TETRAHEDRON * [1, 1, -1], TETRAHEDRON * [1, 1, -1]])
    assert mirrored["chirality"].status == Status.FAIL
    assert counts["inversions"] == 1.0
    assert "C0 at step 10" in mirrored["chirality"].why


def test_equal_neighbours_make_no_stereocentre():
    # CHF2Br has two equal neighbours; its mirror image is itself.
    checks, _ = examine(particles([6, 1, 9, 9, 35], STAR), [TETRAHEDRON, TETRAHEDRON * [1, 1, -1]])
    assert checks["chirality"].status == Status.NOT_APPLICABLE


def test_centre_that_reacted_is_not_blamed():
    away = TETRAHEDRON.copy()
    away[4] = [9.0, 0, 0]
    back = TETRAHEDRON * [1, 1, -1]
    checks, found = examine(particles(CHIRAL, STAR), [TETRAHEDRON, away, back])
    assert found["bonds_broken"] == found["bonds_made"] == 1.0
    assert checks["chirality"].status == Status.PASS


BOX = np.array([[1.0, 0, 0], [0.3, 1.1, 0], [-0.2, 0.25, 1.2]])


def test_wrapping_and_blocks_change_nothing():
    rng = np.random.default_rng(9)
    path = [waters(x) for x in (0.96, 1.2, 1.36, 1.5, 1.3)]
    who = particles(TWO_WATERS, BONDS, periodic=True)
    whole, plain = examine(who, path, BOX)
    scattered = [image + rng.integers(-2, 3, size=(6, 3)) @ BOX * 10.0 for image in path]
    wrapped, found = examine(who, scattered, BOX)
    assert {c.name: c.why for c in wrapped.values()} == {c.name: c.why for c in whole.values()}
    assert found == pytest.approx(plain)
    cut = Sanity(who)
    for k, image in enumerate(scattered):
        cut.add(frames([image], BOX, first=k))
    assert [c.why for c in cut.part().checks] == [c.why for c in wrapped.values()]


def test_bond_across_the_border_without_minimum_image_would_break():
    # The sabotaged twin of the test above: the same wrapped frames taken as vacuum have broken bonds.
    scattered = waters(0.96)
    scattered[2] += BOX[0] * 10.0
    _, found = examine(particles(TWO_WATERS, BONDS, periodic=True), [scattered], BOX)
    assert found["bonds_broken"] == 0.0
    _, vacuum = examine(particles(TWO_WATERS, BONDS), [scattered])
    assert vacuum["bonds_broken"] == 1.0


def test_candidates_are_made_anew_when_atoms_or_the_box_move():
    # A second molecule from 12 Å away, 0.4 Å a frame; what a stale list would miss is that it arrives.
    images = [np.array([[0.0, 0, 0], [x, 0, 0]]) for x in np.arange(12.0, 1.3, -0.4)]
    sanity = Sanity(particles([6, 6], [(0, 1)][:0]))
    sanity.add(frames(images))
    assert {f.name: f.value for f in sanity.part().findings}["bonds_made"] == 1.0
    # A box that shrinks around two atoms at rest, 7 Å apart, brings their images together: 8.6 − 7 = 1.6 Å.
    squeezed = Sanity(particles([6, 6], [], periodic=True))
    for k, edge in enumerate(np.arange(1.5, 0.855, -0.02)):
        squeezed.add(frames([np.array([[0.5, 5, 5], [7.5, 5, 5]])], np.diag([edge, 1.0, 1.0]), first=k))
    assert {f.name: f.value for f in squeezed.part().findings}["bonds_made"] == 1.0


def test_nothing_to_look_at_is_refused():
    sanity = Sanity(particles(TWO_WATERS, BONDS))
    sanity.add(frames([waters(np.nan)]))
    with pytest.raises(AuditError, match="finite"):
        sanity.part()


def test_650_atoms_cost_a_fraction_of_all_their_distances():
    """Work of order N, not of order N²: beside it, side by side, the distances of all pairs of the same frames."""
    # 216 waters on a lattice, shaken; best of five blocks, since other work shares the processor.
    rng = np.random.default_rng(1)
    grid = np.array([[i, j, k] for i in range(6) for j in range(6) for k in range(6)]) * 3.1
    one = np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    positions = (grid[:, None] + one[None]).reshape(-1, 3)
    bonds = [(3 * m, 3 * m + h) for m in range(216) for h in (1, 2)]
    sanity = Sanity(particles([8, 1, 1] * 216, bonds, periodic=True))
    images = [positions + 0.06 * rng.normal(size=positions.shape) for _ in range(20)]
    block = frames(images, np.eye(3) * 1.86)
    spent, pairs = [], []
    for _ in range(5):
        start = time.perf_counter()
        sanity.add(block)
        spent.append(time.perf_counter() - start)
        start = time.perf_counter()
        for image in images:
            np.linalg.norm(image[:, None] - image[None], axis=-1)
        pairs.append(time.perf_counter() - start)
    # A millisecond a frame where all pairs take 27 ms, as measured.
    assert min(spent) < 0.0375 * min(pairs)
    assert sanity.part().checks[1].status == Status.PASS
