"""Periodic liquids made of molecules of several sizes, at positions without any symmetry."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qmml_md.region.links import unfit_outers
from qmml_md.system.molecules import Molecules, molecules_of
from qmml_md.system.structures import read_structure

Liquid = Callable[..., Molecules]

BOXES = {
    "vacuum": None,
    "cube": np.diag([2.0, 2.0, 2.0]),
    "oblique": np.array([[2.0, 0, 0], [0.8, 1.8, 0], [-0.7, 0.8, 1.9]]),
}


def make_liquid(name: str = "cube", seed: int = 0, molecules: int = 60) -> Molecules:
    """Chains of one to five atoms of hydrogen, each within the box, of bond length 0.1 nm."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, molecules)
    positions, bonds = [], []
    for size in sizes:
        steps = rng.normal(size=(size, 3))
        steps *= 0.1 / np.linalg.norm(steps, axis=1)[:, None]
        first = len(positions)
        positions += list(
            rng.random(3) @ (np.diag([2.0] * 3) if BOXES[name] is None else BOXES[name]) + steps.cumsum(0)
        )
        bonds += [[first + k, first + k + 1] for k in range(size - 1)]
    return liquid_of(np.array(positions), np.array(bonds), BOXES[name])


def liquid_of(positions: np.ndarray, bonds: np.ndarray, box: np.ndarray | None) -> Molecules:
    """Hydrogen atoms with given bonds."""
    n = len(positions)
    pairs = np.array(bonds, dtype=np.int64).reshape(-1, 2)
    whole = molecules_of(pairs, n)
    return Molecules(
        topology=None, numbers=np.ones(n, dtype=np.int64), masses=np.ones(n), positions=positions, box=box,
        bonds=pairs, molecule_of=whole, residue_of=whole, fragment_of=whole, formal_charge=np.zeros(n, dtype=np.int64),
    )  # fmt: skip


@pytest.fixture
def liquid() -> Liquid:
    """A function that makes a liquid: (name of the box, seed, number of molecules)."""
    return make_liquid


@pytest.fixture
def build() -> Callable[[np.ndarray, np.ndarray, np.ndarray | None], Molecules]:
    """A function that makes Molecules of given positions, bonds and box."""
    return liquid_of


def scatter(molecules: Molecules, seed: int) -> np.ndarray:
    """The same positions with every atom moved by its own whole box vectors."""
    if molecules.box is None:
        return molecules.positions
    rng = np.random.default_rng(seed)
    return molecules.positions + rng.integers(-3, 4, molecules.positions.shape) @ molecules.box


@pytest.fixture
def scattered() -> Callable[[Molecules, int], np.ndarray]:
    """A function that wraps atoms at random: (molecules, seed)."""
    return scatter


def relabel(molecules: Molecules, seed: int) -> tuple[Molecules, np.ndarray]:
    """The same liquid with its atoms in another order: new[k] is old[order[k]]."""
    order = np.random.default_rng(seed).permutation(molecules.size)
    place = np.argsort(order)
    return liquid_of(molecules.positions[order], place[molecules.bonds], molecules.box), order


@pytest.fixture
def relabelled() -> Callable[[Molecules, int], tuple[Molecules, np.ndarray]]:
    """A function that reorders atoms: (molecules, seed)."""
    return relabel


STRUCTURES = Path(__file__).parents[2] / "data" / "structures"


@pytest.fixture(scope="session")
def chignolin() -> Molecules:
    """Ten residues, in vacuum."""
    return read_structure(STRUCTURES / "chignolin_1uao_model1.pdb")


@pytest.fixture(scope="session")
def crambin() -> Molecules:
    """46 residues with three disulfide bridges, in vacuum."""
    return read_structure(STRUCTURES / "crambin_1ejg_with_hydrogens.pdb", periodic=False)


def close(molecules: Molecules, inside: np.ndarray) -> np.ndarray:
    """Whole fragments, and those more that link atoms ask for, shape (n,)."""
    inside = np.isin(molecules.fragment_of, molecules.fragment_of[inside])
    while len(more := unfit_outers(molecules, molecules.positions, inside, molecules.box)):
        inside |= np.isin(molecules.fragment_of, molecules.fragment_of[more])
    return inside


@pytest.fixture(scope="session")
def closed() -> Callable[[Molecules, np.ndarray], np.ndarray]:
    """A function that completes a set of atoms until it can be cut out: (molecules, inside)."""
    return close
