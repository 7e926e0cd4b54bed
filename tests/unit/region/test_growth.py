"""Laws of growth across bonds: whole units, link atoms within the limit and fit, buffer dropped before core."""

from dataclasses import replace

import numpy as np
import pytest

from qmml_md.errors import RegionError
from qmml_md.region.cluster import cut_cluster
from qmml_md.region.layout import Layout, lay_out
from qmml_md.region.links import cut_bonds, unfit_outers
from qmml_md.region.policy import Region, ThresholdPolicy, empty_region
from qmml_md.system.fragments import fragments_of
from qmml_md.system.molecules import Molecules, molecules_of

POLICY = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=3.0, max_atoms=30)
#: Bond lengths C–C and C–H, nm, and the tetrahedral angle.
CC, CH, ANGLE = 0.153, 0.109, np.radians(109.4712)


def alkane(carbons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An unbranched alkane, all trans: numbers, positions (nm) and bonds; each carbon is followed by its hydrogens."""
    step, rise = CC * np.sin(ANGLE / 2), CC * np.cos(ANGLE / 2)
    numbers, positions, bonds = [], [], []
    at = []
    for k in range(carbons):
        at.append(len(numbers))
        place, up = np.array([k * step, rise * (k % 2), 0.0]), 1.0 if k % 2 else -1.0
        out = np.array([0.0, up * CH * np.cos(ANGLE / 2), 0.0])
        side = np.array([0.0, 0.0, CH * np.sin(ANGLE / 2)])
        around = [place + out + side, place + out - side]
        if k in (0, carbons - 1):
            along = -1.0 if k == 0 else 1.0
            around.append(place + CH * np.array([along * np.sin(ANGLE / 2), -up * np.cos(ANGLE / 2), 0.0]))
        numbers += [6] + [1] * len(around)
        positions += [place, *around]
        bonds += [[at[k], at[k] + 1 + i] for i in range(len(around))]
        bonds += [[at[k - 1], at[k]]] if k else []
    return np.array(numbers), np.array(positions), np.array(bonds)


def system(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], box: np.ndarray | None = None) -> Molecules:
    """Molecules side by side; every molecule is two residues, cut in the middle of its atoms."""
    starts = np.cumsum([0, *(len(numbers) for numbers, _, _ in parts)])
    numbers = np.concatenate([part[0] for part in parts])
    bonds = np.concatenate([part[2] + start for part, start in zip(parts, starts, strict=False)])
    halves = [2 * i + (np.arange(len(part[0])) >= len(part[0]) // 2 + 1) for i, part in enumerate(parts)]
    return Molecules(
        topology=None, numbers=numbers, masses=np.ones(len(numbers)), box=box, bonds=bonds,
        positions=np.concatenate([part[1] for part in parts]), molecule_of=molecules_of(bonds, len(numbers)),
        residue_of=np.concatenate(halves), fragment_of=fragments_of(numbers, bonds),
        formal_charge=np.zeros(len(numbers), dtype=np.int64),
    )  # fmt: skip


def melt(seed: int, count: int = 9, carbons: int = 8) -> Molecules:
    """Alkanes in a grid, each turned and shifted at random, in an oblique box."""
    rng, parts = np.random.default_rng(seed), []
    numbers, positions, bonds = alkane(carbons)
    for k in range(count):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        offset = np.array([1.4 * (k % 3), 1.4 * (k // 3), 0.0]) + rng.normal(scale=0.05, size=3)
        parts.append((numbers, (positions - positions.mean(axis=0)) @ turn.T + offset, bonds))
    return system(parts, np.array([[4.2, 0, 0], [0.9, 4.2, 0], [-0.6, 0.4, 1.5]]))


def carbon(k: int) -> int:
    """Index of a carbon of an alkane."""
    return 0 if k == 0 else 4 + 3 * (k - 1)


def choose(policy: ThresholdPolicy, hot: dict[int, float], molecules: Molecules) -> Region:
    sigma = np.full(molecules.size, 0.1)
    sigma[list(hot)] = list(hot.values())
    return policy.select(sigma, empty_region(), molecules.positions, molecules)


def wrongs(region: Region, molecules: Molecules, layout: Layout, limit: int) -> list[str]:
    """What is wrong with a region."""
    inside = np.isin(np.arange(molecules.size), region.atoms)
    found = []
    if (inside != np.isin(layout.block_of, layout.block_of[region.atoms])).any():
        found.append("broken block")
    if len(region.atoms) + len(cut_bonds(molecules, inside)) > limit:
        found.append("too many")
    if len(unfit_outers(molecules, molecules.positions, inside, molecules.box)):
        found.append("unfit link atom")
    return found


@pytest.mark.parametrize("unit", ["auto", "fragments", "residues"])
@pytest.mark.parametrize("limit", [14, 20, 30])
def test_link_atoms_count_and_are_fit(unit: str, limit: int) -> None:
    molecules = melt(1)
    layout = lay_out(molecules, max_atoms=limit, unit=unit)
    policy = replace(POLICY, max_atoms=limit, layout=layout)
    linked = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sigma = rng.exponential(0.17, molecules.size)
        # A residue of twelve to fourteen atoms and its link atom is more than 14.
        try:
            region = policy.select(sigma, empty_region(), molecules.positions, molecules)
        except RegionError:
            assert (unit, limit) == ("residues", 14)
            continue
        assert wrongs(region, molecules, layout, limit) == []
        cluster = cut_cluster(molecules, molecules.positions, region.atoms)
        assert cluster.size <= limit
        assert np.argmax(sigma) in region.core
        linked += len(cluster.links) > 0
    # With 30 a whole molecule of 26 atoms is the unit.
    assert linked >= 8 or (unit, limit) == ("auto", 30)


def test_without_counting_link_atoms_the_limit_breaks() -> None:
    """The twin: a layout that does not know of the bonds between its blocks."""
    molecules = melt(1)
    layout = lay_out(molecules, max_atoms=19)
    blind = replace(layout, block_neighbours=tuple(() for _ in layout.block_neighbours))
    found = []
    for seed in range(10):
        sigma = np.random.default_rng(seed).exponential(0.17, molecules.size)
        policy = replace(POLICY, max_atoms=19, layout=blind)
        region = policy.select(sigma, empty_region(), molecules.positions, molecules)
        found += wrongs(region, molecules, layout, 19)
    assert "too many" in found


def test_units_of_each_kind() -> None:
    """Two alkanes of four and eight carbons, 14 and 26 atoms, with a limit of 20."""
    molecules = system([alkane(4), alkane(8)])
    counts = {kind: len(lay_out(molecules, max_atoms=20, unit=kind).unit_blocks) for kind in
              ("molecules", "auto", "fragments", "residues")}  # fmt: skip
    assert counts == {"molecules": 2, "auto": 1 + 8, "fragments": 4 + 8, "residues": 4}
    # A residue takes every fragment that it touches: the first 14 of 26 atoms end in the middle of a CH2.
    layout = lay_out(molecules, max_atoms=20, unit="residues")
    sizes = [sum(layout.block_sizes[b] for b in blocks) for blocks in layout.unit_blocks]
    assert sizes[2] + sizes[3] == 26 + 3
    # Molecules of the solvent are whole in every kind.
    for kind in ("fragments", "residues"):
        whole = lay_out(molecules, max_atoms=20, unit=kind, solvent=np.array([0]))
        assert sum(whole.block_sizes[b] for b in whole.unit_blocks[whole.unit_of[0]]) == 14


@pytest.mark.parametrize("hops", range(6))
def test_bonds_reach_whatever_the_distance(hops: int) -> None:
    molecules = system([alkane(13)])
    layout = lay_out(molecules, max_atoms=60, unit="fragments")
    policy = replace(POLICY, buffer_A=0.0, buffer_bonds=hops, max_atoms=60, layout=layout)
    region = choose(policy, {carbon(6): 0.9}, molecules)
    inside = sorted(set(molecules.fragment_of[region.atoms].tolist()))
    # Fragments are carbons; from a carbon k bonds reach the k-th carbon. Without bonds (the twin) it stays alone.
    assert inside == list(range(max(0, 6 - hops), min(12, 6 + hops) + 1))


def test_bonds_are_counted_from_core_atoms() -> None:
    molecules = system([alkane(13)])
    hydrogen = carbon(6) + 1
    region = choose(replace(POLICY, buffer_A=0.0, buffer_bonds=1), {hydrogen: 0.9}, molecules)
    assert set(molecules.fragment_of[region.atoms].tolist()) == {6}
    region = choose(replace(POLICY, buffer_A=0.0, buffer_bonds=2), {hydrogen: 0.9}, molecules)
    assert set(molecules.fragment_of[region.atoms].tolist()) == {5, 6, 7}


def test_buffer_goes_before_core_and_the_farther_before_the_nearer() -> None:
    """Hot at carbons 6 and 8; the limit falls, one atom after the other."""
    molecules = system([alkane(13)])
    layout = lay_out(molecules, max_atoms=20)
    seen = []
    for limit in range(39, 4, -1):
        region = choose(replace(POLICY, max_atoms=limit, layout=layout), {carbon(6): 0.9, carbon(8): 0.8}, molecules)
        assert wrongs(region, molecules, layout, limit) == []
        carbons = set(molecules.fragment_of[region.atoms].tolist())
        if not seen or carbons != seen[-1]:
            seen.append(carbons)
    # 3 Å from carbons 6 and 8 is 4 to 10. 4 and 10 are equally far, as are 5 and 9: the higher number goes first. 7 is
    # nearest to both, and the hot 8 goes last.
    assert seen == [
        {4, 5, 6, 7, 8, 9, 10}, {4, 5, 6, 7, 8, 9}, {5, 6, 7, 8, 9}, {5, 6, 7, 8}, {6, 7, 8},
        # 6 and 8 have ten atoms, link atoms included, but two of these stand in for 7, which would be the eleventh.
        {6},
        # With nine 8 does not even join, and the cold 5 takes the room.
        {5, 6}, {6},
    ]  # fmt: skip


def test_two_link_atoms_in_one_place_call_for_the_atom_between() -> None:
    """Carbons 6 and 8 are hot, 7 must stay outside: both cannot be capped in its place, and the later one leaves."""
    molecules = system([alkane(13)])
    shut = lay_out(molecules, max_atoms=20, excluded=np.array([carbon(7)]))
    policy = replace(POLICY, layout=shut, buffer_A=2.6)
    region = choose(policy, {carbon(6): 0.9, carbon(8): 0.8}, molecules)
    assert set(molecules.fragment_of[region.atoms].tolist()) == {4, 5, 6}
    assert wrongs(region, molecules, shut, 30) == []
    # The twin: had it stayed, cutting would be refused.
    both = np.isin(molecules.fragment_of, [4, 5, 6, 8])
    assert unfit_outers(molecules, molecules.positions, both, None).tolist() == [carbon(7)]


def test_start_that_does_not_fit_with_its_link_atoms_is_refused() -> None:
    molecules = system([alkane(13)])
    fits = choose(replace(POLICY, max_atoms=5), {carbon(6): 0.9}, molecules)
    assert len(fits.atoms) == 3
    with pytest.raises(RegionError, match="has 3 atoms and 2 link atoms, the region at most 4") as caught:
        choose(replace(POLICY, max_atoms=4), {carbon(6): 0.9}, molecules)
    assert "region.max_qm_atoms" in caught.value.cure


@pytest.mark.parametrize("seed", range(5))
def test_wrapping_and_order_of_atoms_change_nothing(scattered, seed: int) -> None:
    molecules = melt(seed)
    sigma = np.random.default_rng(seed).exponential(0.2, molecules.size)
    expected = POLICY.select(sigma, empty_region(), molecules.positions, molecules)
    again = POLICY.select(sigma, empty_region(), molecules.positions, molecules)
    assert again.atoms.tolist() == expected.atoms.tolist()
    wrapped = POLICY.select(sigma, empty_region(), scattered(molecules, seed), molecules)
    assert wrapped.atoms.tolist() == expected.atoms.tolist()
    order = np.random.default_rng(seed + 50).permutation(molecules.size)
    place = np.argsort(order)
    bonds = place[molecules.bonds]
    other = replace(
        molecules, numbers=molecules.numbers[order], positions=molecules.positions[order], bonds=bonds,
        molecule_of=molecules_of(bonds, molecules.size), residue_of=molecules.residue_of[order],
        fragment_of=fragments_of(molecules.numbers[order], bonds),
    )  # fmt: skip
    found = POLICY.select(sigma[order], empty_region(), other.positions, other)
    assert sorted(order[found.atoms].tolist()) == expected.atoms.tolist()
    assert sorted(order[found.core].tolist()) == expected.core.tolist()


def test_equal_distances_do_not_depend_on_wrapping(scattered) -> None:
    """Every pair of neighbours of a lattice is equally far but for rounding; the number decides in all images."""
    side = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 0.3
    lattice = [(np.array([1]), place[None], np.zeros((0, 2), dtype=np.int64)) for place in side]
    molecules = system(lattice, np.diag([1.8, 1.8, 1.8]))
    policy = replace(POLICY, buffer_A=4.3, max_atoms=4)
    sigma = np.full(molecules.size, 0.1)
    sigma[100] = 0.9
    expected = policy.select(sigma, empty_region(), molecules.positions, molecules)
    # Six neighbours at 3 Å: the three of the lowest numbers.
    assert expected.atoms.tolist() == [64, 94, 99, 100]
    for seed in range(20):
        found = policy.select(sigma, empty_region(), scattered(molecules, seed), molecules)
        assert found.atoms.tolist() == expected.atoms.tolist()
