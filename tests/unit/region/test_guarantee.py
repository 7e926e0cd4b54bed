"""The cutoff guarantee: complete atoms feel in their cluster exactly what they feel in the simulation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md.ensemble.model import AniEnsemble, evaluate
from qmml_md.ensemble.weights import load
from qmml_md.region.cluster import cut_cluster
from qmml_md.region.guarantee import complete_atoms, unseen_across
from qmml_md.region.links import cut_bonds, link_ratios
from qmml_md.system.images import nearest_image
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure

ROOT = Path(__file__).parents[3]
OBLIQUE = np.array([[2.4, 0, 0], [0.9, 2.2, 0], [-0.8, 1.0, 2.3]])


@pytest.fixture(scope="module")
def nma() -> Molecules:
    """N-methylacetamide in water, a box of 18.7 Å."""
    return read_structure(ROOT / "examples" / "nma_in_water" / "nma_in_water.pdb")


@pytest.fixture(scope="module")
def ensemble() -> AniEnsemble:
    return load(str(ROOT / "tests" / "data" / "ani_mini.safetensors"), "double")


def around(molecules: Molecules, centre: int, reach: float, closed) -> np.ndarray:
    vectors, _ = nearest_image(molecules.positions - molecules.positions[centre], molecules.box)
    return closed(molecules, np.linalg.norm(vectors, axis=1) < reach)


def by_definition(molecules: Molecules, positions: np.ndarray, inside: np.ndarray, cutoff_A: float) -> np.ndarray:
    """Atom by atom, over all images in reach: nothing foreign within the cutoff."""
    cut = cut_bonds(molecules, inside)
    bond, _ = nearest_image(positions[cut[:, 1]] - positions[cut[:, 0]], molecules.box)
    caps = positions[cut[:, 0]] + link_ratios(molecules.numbers, cut)[:, None] * bond
    foreign = np.concatenate([positions[~inside], caps])
    result = []
    for atom in np.flatnonzero(inside):
        vectors, _ = nearest_image(foreign - positions[atom], molecules.box)
        result.append((np.linalg.norm(vectors, axis=1) >= 0.1 * cutoff_A).all())
    return np.array(result)


@pytest.mark.parametrize("box", ["file", "oblique", "none"])
@pytest.mark.parametrize("reach", [0.45, 0.6, 0.9])
def test_complete_atoms_are_those_of_the_definition(nma: Molecules, closed, box: str, reach: float) -> None:
    molecules = nma if box == "file" else replace(nma, box=OBLIQUE if box == "oblique" else None)
    rng = np.random.default_rng(1)
    wrapped = molecules.positions
    if molecules.box is not None:
        wrapped = wrapped + rng.integers(-2, 3, wrapped.shape) @ molecules.box
    some = 0
    for centre in (0, 100, 333, 500):
        inside = around(molecules, centre, reach, closed)
        for cutoff_A in (3.0, 5.2):
            found = complete_atoms(molecules, wrapped, inside, molecules.box, cutoff_A)
            assert (found == by_definition(molecules, wrapped, inside, cutoff_A)).all()
            some += found.sum()
    assert some > 0


def test_complete_atoms_of_a_protein_see_no_cap(crambin: Molecules, closed) -> None:
    for centre in (30, 200, 411):
        inside = around(crambin, centre, 0.9, closed)
        cluster = cut_cluster(crambin, crambin.positions, np.flatnonzero(inside), cutoff_A=5.2)
        assert cluster.complete is not None
        assert (cluster.complete[: inside.sum()] == by_definition(crambin, crambin.positions, inside, 5.2)).all()
        assert not cluster.complete[cluster.links].any()
        assert 0 < cluster.complete.sum() < cluster.size


def test_complete_atoms_do_not_notice_link_atoms(crambin: Molecules, closed, ensemble) -> None:
    """Move the link atoms: the features of complete atoms stay, those of others change."""
    cutoff_A = ensemble.card.cutoff_A
    inside = around(crambin, 200, 0.9, closed)
    cluster = cut_cluster(crambin, crambin.positions, np.flatnonzero(inside), cutoff_A=cutoff_A)
    no_sulfur = np.where(cluster.numbers == 16, 8, cluster.numbers)
    complete = np.flatnonzero(cluster.complete)
    caps = cluster.links[:, 0]
    moved = cluster.positions.copy()
    moved[caps] += 0.05
    # Sums of the same terms of order one; the neighbour list may take them in another order.
    before, after = (_features(ensemble, no_sulfur, x) for x in (cluster.positions, moved))
    assert np.abs(after[complete] - before[complete]).max() < 1e-13
    others = np.setdiff1d(np.arange(cluster.size), complete)
    assert np.abs(after[others] - before[others]).max() > 1e-3


def _features(ensemble: AniEnsemble, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    import torch

    elements = torch.tensor([{1: 0, 6: 1, 7: 2, 8: 3}[int(z)] for z in numbers])
    return ensemble.features(elements, torch.tensor(positions), None).detach().numpy()


def test_forces_are_those_of_the_simulation_where_all_neighbours_are_complete(nma, closed, ensemble) -> None:
    """A force is the gradient of the energies of all atoms within one cutoff: it reaches two."""
    cutoff_A = ensemble.card.cutoff_A
    molecules = replace(nma, box=None)
    centre = int(np.linalg.norm(nma.positions - nma.positions.mean(axis=0), axis=1).argmin())
    inside = around(molecules, centre, 0.93, closed)
    cluster = cut_cluster(molecules, molecules.positions, np.flatnonzero(inside), cutoff_A=cutoff_A)
    near = np.linalg.norm(cluster.positions[:, None] - cluster.positions[None], axis=2) < cutoff_A
    core = ~(near & ~cluster.complete[None]).any(axis=1)
    assert core.sum() >= 1
    there = evaluate(ensemble, molecules.numbers, molecules.positions, None).forces[cluster.parent]
    here = evaluate(ensemble, cluster.numbers, cluster.positions * 0.1, None).forces
    # Sums of some 100 terms of up to 1e4 kJ/mol/nm in double precision.
    assert np.abs(here - there)[core].max() < 1e-8
    assert np.abs(here - there)[~cluster.complete].max() > 1.0


def test_atoms_that_meet_across_the_box_are_not_complete() -> None:
    """Two atoms 1.6 nm apart in a box of 2 nm: in the box 0.4 nm, in the cluster not."""
    box = np.diag([2.0, 2.0, 2.0])
    placed = np.array([[0.0, 0, 0], [0.8, 0, 0], [1.6, 0, 0]])
    assert unseen_across(placed, box, 5.0).tolist() == [False, True, False]
    assert unseen_across(placed, box, 3.9).tolist() == [True, True, True]
    assert unseen_across(placed, None, 5.0).tolist() == [True, True, True]
    assert unseen_across(placed[:2], box, 5.0).tolist() == [True, True]


def test_whole_system_in_vacuum_is_complete(chignolin: Molecules) -> None:
    cluster = cut_cluster(chignolin, chignolin.positions, np.arange(chignolin.size), cutoff_A=5.2)
    assert cluster.complete is not None
    assert cluster.complete.all()
    assert cut_cluster(chignolin, chignolin.positions, np.arange(chignolin.size)).complete is None
