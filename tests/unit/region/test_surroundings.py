"""Charges around a cluster: whole residues, at the nearest image, nothing lost at a cut bond."""

from itertools import product

import numpy as np
import pytest

from qmml_md.errors import RegionError
from qmml_md.region.cluster import Cluster, Surroundings
from qmml_md.region.surroundings import ForceFieldCharges, in_system, surround
from qmml_md.system.molecules import unwrap

WATER = np.array([[0.0, 0.0, 0.0], [0.0957, 0.0, 0.0], [-0.024, 0.0927, 0.0]])
BOXES = {
    "cube": np.diag([1.9, 1.9, 1.9]),
    "oblique": np.array([[1.9, 0.0, 0.0], [0.6, 1.8, 0.0], [-0.5, 0.7, 1.7]]),
}
SIDE = 6


def waters(box: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ForceFieldCharges]:
    """Waters on a loose grid, each turned at random; the first is ML."""
    cells = np.array(list(product(range(SIDE), repeat=3))) / SIDE
    turns = np.linalg.qr(rng.normal(size=(len(cells), 3, 3)))[0]
    positions = (cells @ box)[:, None] + WATER @ turns + rng.normal(scale=0.02, size=(len(cells), 1, 3))
    n = 3 * len(cells)
    first = np.arange(0, n, 3)
    field = ForceFieldCharges(
        charges=np.tile([-0.834, 0.417, 0.417], len(cells)),
        ml=np.arange(n) < 3,
        bonds=np.concatenate([np.stack([first, first + k], axis=1) for k in (1, 2)]),
        residue_of=np.arange(n) // 3,
    )
    return positions.reshape(-1, 3), field


def cluster_at(positions_nm: np.ndarray, parent: list[int], *, numbers: list[int], charge: int = 0) -> Cluster:
    return Cluster(
        numbers=np.array(numbers),
        positions=positions_nm * 10.0,
        parent=np.array(parent),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=charge,
        multiplicity=1,
    )


def wrapped(positions: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Each atom by itself into the box, so that molecules are torn apart."""
    fractional = positions @ np.linalg.inv(box)
    return (fractional - np.floor(fractional)) @ box


def is_whole(around: Surroundings, field: ForceFieldCharges) -> bool:
    """Whether residues are there with all their atoms."""
    present = np.isin(np.arange(len(field.charges)), around.parent)
    touched = np.isin(field.residue_of, field.residue_of[around.parent])
    return bool((present == (touched & ~field.ml)).all())


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("cutoff_A", [4.0, 7.0])
def test_those_within_the_cutoff_come_whole_and_at_their_nearest_image(kind: str, cutoff_A: float) -> None:
    box = BOXES[kind]
    positions, field = waters(box, np.random.default_rng(3))
    cluster = cluster_at(positions[:3], [0, 1, 2], numbers=[8, 1, 1])
    around = surround(cluster, field, wrapped(positions, box), box, cutoff_A=cutoff_A)
    # By brute force: every image of every molecule, two cells in each direction.
    images = np.array(list(product(range(-2, 3), repeat=3))) @ box
    apart = np.linalg.norm(
        10 * (positions[None, :, None] + images[:, None, None]) - cluster.positions, axis=-1
    ).min(axis=-1)  # fmt: skip
    least = apart.reshape(len(images), -1, 3).min(axis=(0, 2))
    least[0] = np.inf
    expected = np.flatnonzero(np.repeat(least <= cutoff_A, 3))
    assert around.parent.tolist() == expected.tolist()
    assert is_whole(around, field)
    found = np.linalg.norm(around.positions[:, None] - cluster.positions, axis=-1).min(axis=1).reshape(-1, 3)
    # Adding and taking off box vectors rounds at 1e-15 of 20 Å.
    assert np.abs(found.min(axis=1) - least[least <= cutoff_A]).max() < 1e-12
    assert np.array_equal(around.charges, field.charges[expected])
    shape = np.linalg.norm(around.positions.reshape(-1, 3, 3) - around.positions.reshape(-1, 3, 3)[:, :1], axis=-1)
    assert np.abs(shape - 10 * np.linalg.norm(WATER, axis=1)).max() < 1e-12


def test_a_residue_that_lacks_an_atom_is_noticed() -> None:
    positions, field = waters(BOXES["cube"], np.random.default_rng(3))
    cluster = cluster_at(positions[:3], [0, 1, 2], numbers=[8, 1, 1])
    around = surround(cluster, field, positions, BOXES["cube"], cutoff_A=5.0)
    torn = Surroundings(
        positions=around.positions[1:], charges=around.charges[1:], parent=around.parent[1:], own=around.own
    )
    assert is_whole(around, field)
    assert not is_whole(torn, field)


def test_wrapping_and_moving_everything_change_nothing() -> None:
    box = BOXES["oblique"]
    positions, field = waters(box, np.random.default_rng(4))
    cluster = cluster_at(positions[:3], [0, 1, 2], numbers=[8, 1, 1])
    one = surround(cluster, field, positions, box, cutoff_A=6.0)
    again = surround(cluster, field, positions, box, cutoff_A=6.0)
    assert one.positions.tobytes() == again.positions.tobytes()
    torn = surround(cluster, field, wrapped(positions + 0.31, box) - 0.31, box, cutoff_A=6.0)
    by = np.array([3.1, -0.7, 11.0])
    shifted = cluster_at(positions[:3] + by, [0, 1, 2], numbers=[8, 1, 1])
    moved = surround(shifted, field, positions + by, box, cutoff_A=6.0)
    for other, expected in ((torn, one.positions), (moved, one.positions + 10 * by)):
        assert other.parent.tolist() == one.parent.tolist()
        assert np.abs(other.positions - expected).max() < 1e-11


def test_without_a_box_there_is_one_image() -> None:
    positions, field = waters(BOXES["cube"], np.random.default_rng(5))
    around = surround(
        cluster_at(positions[:3], [0, 1, 2], numbers=[8, 1, 1]), field, positions, None, cutoff_A=100.0
    )  # fmt: skip
    assert around.parent.tolist() == list(range(3, len(positions)))
    assert np.array_equal(around.positions, positions[3:] * 10.0)


def test_atoms_of_the_networks_are_no_charges() -> None:
    positions, field = waters(BOXES["cube"], np.random.default_rng(6))
    more = ForceFieldCharges(
        charges=field.charges, ml=np.arange(len(positions)) < 300, bonds=field.bonds, residue_of=field.residue_of
    )
    cluster = cluster_at(positions[:3], [0, 1, 2], numbers=[8, 1, 1])
    around = surround(cluster, more, positions, BOXES["cube"], cutoff_A=12.0)
    assert around.parent.min() >= 300
    assert around.own.tolist() == [-0.834, 0.417, 0.417]


#: H3C–C–C–O in a plane with a hydrogen on each middle carbon: atom 0 is ML (with hydrogens 6, 7, 8), the rest is not.
CHAIN = np.array(
    [
        [0.0, 0.0, 0.0], [0.15, 0.0, 0.0], [0.2, 0.14, 0.0], [0.34, 0.15, 0.0], [0.18, -0.06, 0.08],
        [0.16, 0.2, 0.08], [-0.04, 0.1, 0.0], [-0.04, -0.05, 0.09], [-0.04, -0.05, -0.09],
    ]
)  # fmt: skip
CHARGES = np.array([-0.11, 0.21, 0.12, -0.6, 0.07, 0.13, 0.06, 0.06, 0.06])
BONDS = np.array([[0, 1], [1, 2], [2, 3], [1, 4], [2, 5], [0, 6], [0, 7], [0, 8]])
ML = [0, 6, 7, 8]


def chain_field(ml: list[int]) -> ForceFieldCharges:
    n = len(CHAIN)
    return ForceFieldCharges(
        charges=CHARGES, ml=np.isin(np.arange(n), ml), bonds=BONDS, residue_of=np.zeros(n, dtype=np.int64)
    )


def chain_cluster() -> Cluster:
    """The methyl group and a hydrogen in the place of atom 1."""
    cap = CHAIN[0] + 0.109 / 0.15 * (CHAIN[1] - CHAIN[0])
    return cluster_at(np.concatenate([CHAIN[ML], [cap]]), [0, 6, 7, 8, -1], numbers=[6, 1, 1, 1, 1])


def multipoles(positions_A: np.ndarray, charges: np.ndarray) -> np.ndarray:
    """Charge and dipole, e and e·Å."""
    return np.concatenate([[charges.sum()], charges @ positions_A])


def test_charge_and_dipole_survive_the_shift() -> None:
    field = chain_field(ML)
    around = surround(chain_cluster(), field, CHAIN, None, cutoff_A=0.1, boundary=np.array([[4, 1]]))
    before = multipoles(CHAIN[~field.ml] * 10.0, CHARGES[~field.ml])
    # The pairs are ±8 times the share, at 4 Å: 1e-15 each.
    assert np.abs(multipoles(around.positions, around.charges) - before).max() < 1e-14
    assert around.parent.tolist() == [2, 3, 4, 5, -1, -1, -1, -1]
    assert around.charges[:4] == pytest.approx([0.12 + 0.105, -0.6, 0.07 + 0.105, 0.13], abs=1e-15)
    without = multipoles(around.positions[:4], around.charges[:4])
    assert without[0] == pytest.approx(before[0], abs=1e-14)
    # What the pairs are for: the shares moved by 1.5 and 1.0 Å.
    assert np.linalg.norm(without[1:] - before[1:]) > 0.05


def test_a_cut_bond_brings_its_neighbours_in_whatever_the_cutoff() -> None:
    field = ForceFieldCharges(
        charges=CHARGES, ml=chain_field(ML).ml, bonds=BONDS, residue_of=np.array([0, 0, 1, 1, 0, 1, 0, 0, 0])
    )
    around = surround(chain_cluster(), field, CHAIN, None, cutoff_A=0.1, boundary=np.array([[4, 1]]))
    assert around.parent.tolist() == [2, 3, 4, 5, -1, -1, -1, -1]


def test_without_a_boundary_the_outer_atom_stays_a_charge() -> None:
    around = surround(chain_cluster(), chain_field(ML), CHAIN, None, cutoff_A=5.0)
    assert around.parent.tolist() == [1, 2, 3, 4, 5]


def test_charge_that_can_go_nowhere_is_refused() -> None:
    with pytest.raises(RegionError, match="atom 1 is bonded to the ML part and to nothing"):
        surround(
            chain_cluster(), chain_field([0, 2, 3, 4, 5, 6, 7, 8]), CHAIN, None,
            cutoff_A=5.0, boundary=np.array([[4, 1]]),
        )  # fmt: skip


def test_the_clusters_own_charges_sum_up_to_its_charge_where_bonds_are_cut() -> None:
    around = surround(chain_cluster(), chain_field(ML), CHAIN, None, cutoff_A=5.0, boundary=np.array([[4, 1]]))
    assert around.own[:4].tolist() == CHARGES[ML].tolist()
    assert around.own.sum() == pytest.approx(0.0, abs=1e-15)
    # Without caps the force field has the last word, whatever the charge that was asked for.
    anion = cluster_at(CHAIN, list(range(9)), numbers=[6, 6, 6, 8, 1, 1, 1, 1, 1], charge=-1)
    whole = surround(anion, chain_field(list(range(9))), CHAIN, None, cutoff_A=5.0)
    assert whole.own.tolist() == CHARGES.tolist()
    assert len(whole.charges) == 0


def test_a_cluster_of_a_part_is_found_in_the_whole() -> None:
    # Part: system atoms 4, 6, 9 and the caps of bonds 6–7 and 9–10; cluster: 6, its cap, 9, and a link atom.
    cluster = cluster_at(np.eye(4, 3), [1, 3, 2, -1], numbers=[6, 1, 6, 1])
    outer, links = np.array([4, 6, 9, -1, -1]), np.array([[6, 7], [9, 10]])
    parents, boundary = in_system(cluster, outer, links)
    assert parents.tolist() == [6, -1, 9, -1]
    assert boundary.tolist() == [[1, 7]]


def test_a_cap_across_the_edge_of_the_box_shifts_the_same() -> None:
    box = np.diag([2.0, 2.0, 2.0])
    field, cluster = chain_field(ML), chain_cluster()
    boundary = np.array([[4, 1]])
    one = surround(cluster, field, CHAIN, box, cutoff_A=5.0, boundary=boundary)
    torn = surround(cluster, field, wrapped(CHAIN - 0.17, box) + 0.17, box, cutoff_A=5.0, boundary=boundary)
    assert np.abs(one.positions - torn.positions).max() < 1e-12
    assert np.abs(unwrap(CHAIN, box, BONDS)[[2, 3, 4, 5]] * 10 - one.positions[:4]).max() < 1e-12


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RegionError, match=r"9 charges with ml \(3,\)"):
        ForceFieldCharges(
            charges=CHARGES, ml=np.zeros(3, dtype=bool), bonds=BONDS, residue_of=np.zeros(9, dtype=np.int64)
        )
