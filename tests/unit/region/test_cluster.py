"""A cluster is the same molecules in the same contacts, however the simulation wrapped its atoms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md.errors import RegionError
from qmml_md.region.cluster import Cluster, cut_cluster
from qmml_md.system.images import nearest_image
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure

# Coordinates below 140 Å in a few operations of float64: rounding stays below 140 * 30 * 2.2e-16 Å.
ROUNDING_A = 1e-11
BOXES = ("vacuum", "cube", "oblique")


def distances(cluster: Cluster) -> np.ndarray:
    return np.linalg.norm(cluster.positions[:, None] - cluster.positions[None], axis=2)


def neighbourhood(molecules: Molecules, centre: int, count: int) -> np.ndarray:
    """Atoms of the ``count`` molecules nearest to an atom."""
    vectors, _ = nearest_image(molecules.positions - molecules.positions[centre], molecules.box)
    order = np.argsort(np.linalg.norm(vectors, axis=1))
    nearest = list(dict.fromkeys(molecules.molecule_of[order].tolist()))[:count]
    return np.flatnonzero(np.isin(molecules.molecule_of, nearest))


def neutral(molecules: Molecules, atoms: np.ndarray) -> dict[str, int]:
    """A multiplicity that any number of hydrogen atoms has."""
    return {"multiplicity": 1 + len(atoms) % 2}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("seed", range(5))
def test_wrapping_of_atoms_changes_no_distance(liquid, scattered, name: str, seed: int) -> None:
    molecules = liquid(name, seed)
    atoms = neighbourhood(molecules, 7 * seed, 9)
    expected = cut_cluster(molecules, molecules.positions, atoms, **neutral(molecules, atoms))
    found = cut_cluster(molecules, scattered(molecules, seed), atoms, **neutral(molecules, atoms))
    np.testing.assert_allclose(distances(found), distances(expected), atol=ROUNDING_A)
    assert (found.parent == atoms).all()


@pytest.mark.parametrize("name", ["cube", "oblique"])
def test_without_unwrapping_distances_change(liquid, scattered, name: str) -> None:
    """The twin: the scattered atoms themselves do not have the distances of the cluster."""
    molecules = liquid(name, 1)
    atoms = neighbourhood(molecules, 7, 9)
    cluster = cut_cluster(molecules, molecules.positions, atoms, **neutral(molecules, atoms))
    raw = replace(cluster, positions=scattered(molecules, 1)[atoms] * 10)
    assert np.abs(distances(raw) - distances(cluster)).max() > 1.0


def contacts(cluster: Cluster, molecules: Molecules) -> tuple[np.ndarray, np.ndarray]:
    """Shortest distance from each molecule of the cluster to any other: as placed, and over all images, Å."""
    molecule = molecules.molecule_of[cluster.parent]
    other = molecule[:, None] != molecule[None]
    vectors, _ = nearest_image((cluster.positions[None] - cluster.positions[:, None]) / 10, molecules.box)
    placed = np.where(other, distances(cluster), np.inf).min(axis=1)
    periodic = np.where(other, np.linalg.norm(vectors, axis=2) * 10, np.inf).min(axis=1)
    unique = np.unique(molecule)
    return tuple(np.array([d[molecule == k].min() for k in unique]) for d in (placed, periodic))


@pytest.mark.parametrize("name", ["cube", "oblique"])
@pytest.mark.parametrize("seed", range(5))
def test_every_molecule_keeps_its_nearest_contact(liquid, scattered, name: str, seed: int) -> None:
    """The nearest neighbour over all images is a branch of the spanning tree along which molecules are placed."""
    molecules = liquid(name, seed)
    atoms = neighbourhood(molecules, 7 * seed, 9)
    cluster = cut_cluster(molecules, scattered(molecules, seed), atoms, **neutral(molecules, atoms))
    placed, periodic = contacts(cluster, molecules)
    np.testing.assert_allclose(placed, periodic, atol=ROUNDING_A)


def test_whole_molecules_that_were_not_gathered_lose_contacts(liquid) -> None:
    """The twin: molecules made whole one by one, but left where they are, do not pass the test above."""
    molecules = liquid("cube", 3)
    atoms = neighbourhood(molecules, 21, 9)
    cluster = cut_cluster(molecules, molecules.positions, atoms, **neutral(molecules, atoms))
    # The liquid is made of whole molecules whose first atom lies in the box.
    left = replace(cluster, positions=molecules.positions[atoms] * 10)
    placed, periodic = contacts(left, molecules)
    assert (placed > periodic + 1.0).any()


@pytest.mark.parametrize("name", BOXES)
def test_order_of_atoms_does_not_matter(liquid, relabelled, name: str) -> None:
    molecules = liquid(name, 2)
    other, order = relabelled(molecules, 5)
    atoms = neighbourhood(molecules, 14, 9)
    expected = cut_cluster(molecules, molecules.positions, atoms, **neutral(molecules, atoms))
    found = cut_cluster(other, other.positions, np.flatnonzero(np.isin(order, atoms)), **neutral(molecules, atoms))
    assert (np.diff(found.parent) > 0).all()
    place = np.searchsorted(expected.parent, order[found.parent])
    np.testing.assert_allclose(distances(found), distances(expected)[np.ix_(place, place)], atol=ROUNDING_A)


def test_molecule_named_in_part_is_taken_whole(liquid) -> None:
    molecules = liquid("cube", 0)
    for atom in range(molecules.size):
        whole = np.flatnonzero(molecules.molecule_of == molecules.molecule_of[atom])
        cluster = cut_cluster(molecules, molecules.positions, np.array([atom]), **neutral(molecules, whole))
        assert cluster.parent.tolist() == whole.tolist()


def test_first_molecule_stays_where_its_first_atom_is(liquid) -> None:
    molecules = liquid("oblique", 4)
    atoms = neighbourhood(molecules, 3, 5)
    cluster = cut_cluster(molecules, molecules.positions, atoms, **neutral(molecules, atoms))
    assert cluster.positions[0] == pytest.approx(molecules.positions[atoms[0]] * 10)


def test_box_of_the_moment_counts(build) -> None:
    """Two atoms at the ends of a box are neighbours across it; in the larger box of a barostat they are less so."""
    molecules = build(np.array([[0.1, 1, 1], [1.9, 1, 1]]), np.zeros((0, 2)), np.diag([2.0, 2.0, 2.0]))
    near = cut_cluster(molecules, molecules.positions, np.arange(2))
    far = cut_cluster(molecules, molecules.positions, np.arange(2), box=np.diag([2.3, 2.0, 2.0]))
    assert distances(near)[0, 1] == pytest.approx(2.0)
    assert distances(far)[0, 1] == pytest.approx(5.0)


def test_charge_is_the_sum_of_the_formal_charges(build) -> None:
    molecules = build(np.arange(9.0).reshape(3, 3), np.zeros((0, 2)), None)
    molecules = replace(molecules, formal_charge=np.array([1, 0, -1]))
    assert cut_cluster(molecules, molecules.positions, np.array([0])).charge == 1
    assert cut_cluster(molecules, molecules.positions, np.array([2])).charge == -1
    assert cut_cluster(molecules, molecules.positions, np.array([0]), charge=-1).charge == -1


@pytest.mark.parametrize(
    ("atoms", "charge", "multiplicity", "match"),
    [
        (3, None, None, "3 electrons at charge \\+0: an odd number"),
        (2, 1, None, "1 electrons at charge \\+1: an odd number"),
        (3, None, 1, "multiplicity 1 does not fit 3 electrons"),
        (2, None, 2, "multiplicity 2 does not fit 2 electrons"),
        (2, None, 5, "multiplicity 5 does not fit 2 electrons"),
        (2, None, -1, "multiplicity -1 does not fit"),
    ],
)
def test_impossible_spin_is_refused(build, atoms, charge, multiplicity, match) -> None:
    molecules = build(np.arange(9.0).reshape(3, 3), np.zeros((0, 2)), None)
    with pytest.raises(RegionError, match=match) as caught:
        cut_cluster(molecules, molecules.positions, np.arange(atoms), charge=charge, multiplicity=multiplicity)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("atoms", "charge", "multiplicity", "expected"),
    [(2, None, None, 1), (2, None, 3, 3), (3, None, 2, 2), (3, 1, None, 1)],
)
def test_possible_spin_is_kept(build, atoms, charge, multiplicity, expected) -> None:
    molecules = build(np.arange(9.0).reshape(3, 3), np.zeros((0, 2)), None)
    cluster = cut_cluster(molecules, molecules.positions, np.arange(atoms), charge=charge, multiplicity=multiplicity)
    assert cluster.multiplicity == expected


def test_empty_region_has_no_cluster(liquid) -> None:
    molecules = liquid()
    with pytest.raises(RegionError, match="at least one atom"):
        cut_cluster(molecules, molecules.positions, np.zeros(0, dtype=np.int64))


def test_solute_and_neighbours_of_the_example_have_no_clash() -> None:
    path = Path(__file__).parents[3] / "examples" / "nma_in_water" / "nma_in_water.pdb"
    molecules = read_structure(path)
    atoms = neighbourhood(molecules, 5, 5)
    cluster = cut_cluster(molecules, molecules.positions, atoms)
    assert (cluster.size, cluster.charge, cluster.multiplicity) == (24, 0, 1)
    assert (distances(cluster) + 9 * np.eye(24)).min() > 0.9
    assert distances(cluster).max() < 15
