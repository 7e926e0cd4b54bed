"""Molecules are numbered by their first atom, and can always be made whole."""

from pathlib import Path

import mdtraj
import numpy as np
import pytest

from qmml_md.errors import StructureError
from qmml_md.records.frames import Frame, stack
from qmml_md.records.segment import Particles, write_segment
from qmml_md.system.molecules import Molecules, molecules_of, topology_json, unwrap
from qmml_md.system.structures import read_structure

BOX = np.array([[1.6, 0, 0], [0.7, 1.8, 0], [-0.6, 0.8, 2.0]])
# Positions stay below 40 nm; sums of whole box vectors round by less than 40 * 10 * 2.2e-16 nm.
ROUNDING_NM = 1e-12


def chain(n: int, rng: np.random.Generator) -> np.ndarray:
    """A chain of bonds of 0.15 nm that leaves the box many times."""
    steps = rng.normal(size=(n, 3)) + np.array([1.0, 0.5, 0.2])
    return np.cumsum(0.15 * steps / np.linalg.norm(steps, axis=1)[:, None], axis=0)


def test_molecules_are_numbered_by_their_first_atom() -> None:
    bonds = np.array([[5, 1], [2, 4], [4, 6]])
    assert molecules_of(bonds, 7).tolist() == [0, 1, 2, 3, 2, 1, 2]
    assert molecules_of(np.zeros((0, 2), dtype=np.int64), 3).tolist() == [0, 1, 2]


def test_numbering_does_not_depend_on_the_order_of_bonds() -> None:
    rng = np.random.default_rng(0)
    bonds = rng.integers(0, 200, (150, 2))
    expected = molecules_of(bonds, 200)
    shuffled = rng.permutation(bonds)[:, ::-1]
    assert (molecules_of(shuffled, 200) == expected).all()
    assert (np.diff(np.unique(expected, return_index=True)[1]) > 0).all()


def test_unwrap_restores_a_molecule_wrapped_atom_by_atom() -> None:
    rng = np.random.default_rng(1)
    whole = np.concatenate([chain(150, rng), chain(40, rng)])
    bonds = np.array([[i, i + 1] for i in range(189) if i != 149])
    # Closing a ring of three adds a second path between atoms; both must agree.
    bonds = np.concatenate([bonds, [[10, 12]]])
    wrapped = whole + rng.integers(-3, 4, whole.shape) @ BOX
    restored = unwrap(wrapped, BOX, rng.permutation(bonds))
    for part in (slice(0, 150), slice(150, 190)):
        np.testing.assert_allclose(restored[part] - restored[part][0], whole[part] - whole[part][0], atol=ROUNDING_NM)
        assert (restored[part][0] == wrapped[part][0]).all()


def test_without_unwrapping_bonds_stay_broken() -> None:
    """The twin of the test above: the wrapped molecule itself does not pass it."""
    rng = np.random.default_rng(1)
    whole = chain(150, rng)
    wrapped = whole + rng.integers(-3, 4, whole.shape) @ BOX
    assert np.abs((wrapped - wrapped[0]) - (whole - whole[0])).max() > 0.5


def test_unwrap_moves_nothing_in_vacuum() -> None:
    positions = np.random.default_rng(2).normal(size=(5, 3))
    assert (unwrap(positions, None, np.array([[0, 1]])) == positions).all()


def test_segment_with_our_topology_opens_in_mdtraj(data: Path, tmp_path: Path) -> None:
    molecules = read_structure(data / "chignolin_1uao_model1.pdb")
    n = molecules.size
    frame = Frame(
        step=0, time=0.0, positions=molecules.positions, velocities=np.zeros((n, 3)), forces_used=np.zeros((n, 3)),
        potential_used=0.0, kinetic=0.0, conserved=0.0, entries=0, box=np.zeros((3, 3)), region_epoch=0,
        disagreement=np.zeros(n),
    )  # fmt: skip
    particles = Particles(
        numbers=molecules.numbers, masses=molecules.masses, topology_json=topology_json(molecules), periodic=False,
        degrees_of_freedom=3 * n,
    )  # fmt: skip
    write_segment(tmp_path / "0.h5", stack([frame], "model"), particles)
    loaded = mdtraj.load(str(tmp_path / "0.h5"))
    assert loaded.topology == molecules.topology
    assert loaded.topology.n_bonds == len(molecules.bonds)


def test_arrays_of_wrong_shape_are_refused() -> None:
    with pytest.raises(StructureError, match="molecule_of"):
        Molecules(
            topology=None, numbers=np.ones(2, dtype=np.int64), masses=np.ones(2), positions=np.zeros((2, 3)), box=None,
            bonds=np.zeros((0, 2), dtype=np.int64), molecule_of=np.zeros(1, dtype=np.int64),
            residue_of=np.zeros(2, dtype=np.int64), fragment_of=np.zeros(2, dtype=np.int64),
            formal_charge=np.zeros(2, dtype=np.int64),
        )  # fmt: skip
