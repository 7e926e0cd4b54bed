"""Clusters of parts of molecules: where they are in the molecule, capped, charged, closed-shell, whatever the part."""

from dataclasses import replace

import numpy as np
import pytest

from qmml_md.errors import RegionError
from qmml_md.region.cluster import Cluster, cut_cluster
from qmml_md.region.links import cut_bonds
from qmml_md.system.bonds import COVALENT_RADII_A, TOLERANCE_A
from qmml_md.system.molecules import Molecules, unwrap

GHOST_A = 0.7
# Coordinates below 100 Å in a few operations of float64.
ROUNDING_A = 1e-11
PROTEINS = ("chignolin", "crambin")
#: Lattice in which crambin (about 3 nm) has to be made whole along its bonds: it is longer than half of it.
BOXES = {
    "cube": np.diag([4.6, 4.6, 4.6]),
    "oblique": np.array([[4.6, 0, 0], [1.5, 4.4, 0], [-2.0, 1.8, 4.5]]),
}


@pytest.fixture(params=PROTEINS)
def protein(request: pytest.FixtureRequest) -> Molecules:
    return request.getfixturevalue(request.param)


def random_parts(molecules: Molecules, closed, count: int, seed: int) -> list[np.ndarray]:
    """Unions of fragments: some around a centre, some from anywhere."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        if k % 2:
            centre = molecules.positions[rng.integers(molecules.size)]
            near = np.linalg.norm(molecules.positions - centre, axis=1) < rng.choice([0.2, 0.35, 0.5])
        else:
            near = np.isin(np.arange(molecules.size), rng.integers(molecules.size, size=rng.integers(1, 7)))
        found.append(closed(molecules, near))
    return found


def distances(cluster: Cluster) -> np.ndarray:
    return np.linalg.norm(cluster.positions[:, None] - cluster.positions[None], axis=2) + 99 * np.eye(cluster.size)


def bonds_by_contact(cluster: Cluster) -> np.ndarray:
    """Number of atoms within bonding distance of each, as any program would see the cluster."""
    radii = np.array([COVALENT_RADII_A[int(z)] for z in cluster.numbers])
    return (distances(cluster) < radii[:, None] + radii[None] + TOLERANCE_A).sum(axis=1)


def faults(cluster: Cluster, molecules: Molecules, inside: np.ndarray) -> list[str]:
    """Everything that is wrong with a cluster of part of a molecule."""
    degree = np.bincount(molecules.bonds.ravel(), minlength=molecules.size)
    real = cluster.parent >= 0
    kept = molecules.bonds[inside[molecules.bonds].all(axis=1)]
    bonds = np.bincount(kept.ravel(), minlength=molecules.size)[cluster.parent[real]]
    bonds += np.bincount(cluster.links[:, 1], minlength=real.sum())
    electrons = int(cluster.numbers.sum()) - cluster.charge
    checks = {
        "valence": (bonds == degree[cluster.parent[real]]).all(),
        "valence by contact": (bonds_by_contact(cluster)[~real] == 1).all(),
        "even electrons": electrons % 2 == 0 and cluster.multiplicity == 1,
        "charge": cluster.charge == molecules.formal_charge[inside].sum(),
        "contact": distances(cluster).min() >= GHOST_A,
        "caps": (cluster.numbers[~real] == 1).all() and (cluster.links[:, 0] == np.flatnonzero(~real)).all(),
        "one cap for each atom outside": len(set(cluster.outer.tolist())) == len(cluster.outer),
    }
    return [name for name, fine in checks.items() if not fine]


@pytest.mark.parametrize("seed", range(3))
def test_every_part_makes_a_sound_cluster(protein: Molecules, closed, seed: int) -> None:
    for inside in random_parts(protein, closed, 40, seed):
        cluster = cut_cluster(protein, protein.positions, np.flatnonzero(inside))
        assert faults(cluster, protein, inside) == []
        again = cut_cluster(protein, protein.positions, np.flatnonzero(inside)[::-1].copy())
        assert cluster.geometry == again.geometry
        assert (cluster.outer == again.outer).all()


def test_unsound_clusters_would_be_seen(chignolin: Molecules, closed) -> None:
    """The twins: a cap left out, two atoms on top of one another, a lost charge."""
    inside = closed(chignolin, chignolin.residue_of == 2)
    cluster = cut_cluster(chignolin, chignolin.positions, np.flatnonzero(inside))
    assert faults(cluster, chignolin, inside) == []
    bare = replace(
        cluster, numbers=cluster.numbers[:-1], positions=cluster.positions[:-1], parent=cluster.parent[:-1],
        links=cluster.links[:-1], outer=cluster.outer[:-1], ratios=cluster.ratios[:-1],
    )  # fmt: skip
    assert {"valence", "even electrons"} <= set(faults(bare, chignolin, inside))
    ghost = cluster.positions.copy()
    ghost[-1] = ghost[0] + 0.3
    assert "contact" in faults(replace(cluster, positions=ghost), chignolin, inside)
    assert "even electrons" in faults(replace(cluster, charge=cluster.charge + 1), chignolin, inside)


def test_charges_of_a_part_and_of_the_rest_add_up(protein: Molecules, closed) -> None:
    whole = int(protein.formal_charge.sum())
    charged = 0
    for inside in random_parts(protein, closed, 60, 7):
        if inside.all():
            continue
        parts = [
            cut_cluster(protein, protein.positions, np.flatnonzero(part)) for part in (inside, ~inside)
            if not _unfit(protein, part, closed)
        ]  # fmt: skip
        if len(parts) == 2:
            assert parts[0].charge + parts[1].charge == whole
            assert len(parts[0].links) == len(parts[1].links) == len(cut_bonds(protein, inside))
            charged += parts[0].charge != 0
    assert charged > 0


def _unfit(molecules: Molecules, inside: np.ndarray, closed) -> bool:
    """Whether what is left outside is not fit to be cut out itself."""
    return bool((closed(molecules, inside) != inside).any())


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("seed", range(2))
def test_parts_lie_as_in_the_whole_molecule_however_wrapped(crambin: Molecules, closed, box: str, seed: int) -> None:
    """Also parts that do not touch, which only the atoms between them, outside, relate."""
    rng = np.random.default_rng(seed)
    molecules = replace(crambin, box=BOXES[box])
    wrapped = molecules.positions + rng.integers(-3, 4, molecules.positions.shape) @ BOXES[box]
    for inside in random_parts(crambin, closed, 12, seed):
        expected = cut_cluster(crambin, crambin.positions, np.flatnonzero(inside))
        found = cut_cluster(molecules, wrapped, np.flatnonzero(inside))
        np.testing.assert_allclose(distances(found), distances(expected), atol=ROUNDING_A)
        np.testing.assert_allclose(found.positions[0], 10 * wrapped[found.parent[0]], atol=ROUNDING_A)
        assert (found.parent == expected.parent).all()


def test_parts_made_whole_one_by_one_would_not_lie_so(crambin: Molecules) -> None:
    """The twin: without the atoms between them, two ends of crambin are put at the nearest image, which is another."""
    box = BOXES["cube"]
    far = np.linalg.norm(crambin.positions[:, None] - crambin.positions[None], axis=2)
    i, j = np.unravel_index(far.argmax(), far.shape)
    assert far.max() > 0.5 * box[0, 0]
    inside = np.isin(crambin.fragment_of, crambin.fragment_of[[i, j]])
    kept = crambin.bonds[inside[crambin.bonds].all(axis=1)]
    apart = unwrap(crambin.positions, box, kept)
    vector = apart[j] - apart[i]
    vector -= box.diagonal() * np.round(vector / box.diagonal())
    assert np.linalg.norm(vector) < far.max() - 0.3


def test_water_beside_a_part_keeps_its_contact_across_the_box(chignolin: Molecules, closed) -> None:
    """A water at the other end of the box is, across it, next to an atom of a fragment."""
    box = np.diag([4.0, 4.0, 4.0])
    target = 60
    inside = closed(chignolin, np.arange(chignolin.size) == target)
    oxygen = chignolin.positions[target] + [0.0, 0.3, 0.0] + box[1]
    water = oxygen + np.array([[0, 0, 0], [0.0957, 0, 0], [-0.024, 0.0927, 0]])
    n = chignolin.size
    both = replace(
        chignolin, numbers=np.append(chignolin.numbers, [8, 1, 1]), masses=np.append(chignolin.masses, [16.0, 1, 1]),
        positions=np.concatenate([chignolin.positions, water]), box=box,
        bonds=np.concatenate([chignolin.bonds, [[n, n + 1], [n, n + 2]]]),
        molecule_of=np.append(chignolin.molecule_of, [1, 1, 1]),
        residue_of=np.append(chignolin.residue_of, [10, 10, 10]),
        fragment_of=np.append(chignolin.fragment_of, [chignolin.fragment_of.max() + 1] * 3),
        formal_charge=np.append(chignolin.formal_charge, [0, 0, 0]),
    )  # fmt: skip
    cluster = cut_cluster(both, both.positions, np.append(np.flatnonzero(inside), n))
    at = {int(p): k for k, p in enumerate(cluster.parent) if p >= 0}
    assert np.linalg.norm(cluster.positions[at[n]] - cluster.positions[at[target]]) == pytest.approx(3.0)
    assert cluster.size == inside.sum() + 3 + len(cluster.links)


def test_caps_follow_the_atoms_in_order_and_sit_on_their_bonds(chignolin: Molecules, closed) -> None:
    inside = closed(chignolin, chignolin.residue_of == 4)
    cluster = cut_cluster(chignolin, chignolin.positions, np.flatnonzero(inside))
    cut = cut_bonds(chignolin, inside)
    assert cluster.parent.tolist() == [*np.flatnonzero(inside).tolist(), *[-1] * len(cut)]
    assert cluster.parent[cluster.links[:, 1]].tolist() == cut[:, 0].tolist()
    assert cluster.outer.tolist() == cut[:, 1].tolist()
    hosts, outers = chignolin.positions[cut[:, 0]] * 10, chignolin.positions[cut[:, 1]] * 10
    expected = hosts + cluster.ratios[:, None] * (outers - hosts)
    np.testing.assert_allclose(cluster.positions[cluster.links[:, 0]], expected, atol=ROUNDING_A)


def test_fragment_named_in_part_is_taken_whole(chignolin: Molecules) -> None:
    for atom in range(0, chignolin.size, 7):
        whole = np.flatnonzero(chignolin.fragment_of == chignolin.fragment_of[atom])
        cluster = cut_cluster(chignolin, chignolin.positions, np.array([atom]))
        assert cluster.parent[cluster.parent >= 0].tolist() == whole.tolist()


def test_link_atom_on_top_of_another_atom_is_refused(chignolin: Molecules, closed) -> None:
    inside = closed(chignolin, chignolin.residue_of == 4)
    cluster = cut_cluster(chignolin, chignolin.positions, np.flatnonzero(inside))
    stranger = int(np.setdiff1d(np.flatnonzero(inside), cluster.parent[cluster.links[:, 1]])[0])
    for gap_A, refused in ((0.6, True), (0.8, False)):
        positions = chignolin.positions.copy()
        positions[stranger] = 0.1 * (cluster.positions[-1] + [gap_A, 0, 0])
        if refused:
            with pytest.raises(RegionError, match=r"would meet another atom .*0\.7 Å"):
                cut_cluster(chignolin, positions, np.flatnonzero(inside))
        else:
            cut_cluster(chignolin, positions, np.flatnonzero(inside))
