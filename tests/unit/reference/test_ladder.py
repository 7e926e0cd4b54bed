import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qmml_md import config, units
from qmml_md.errors import ConfigError, LabelError, LabelTimeout, NotConverged
from qmml_md.reference.guesses import REMEMBERED, Density, Guesses, common_atoms, density_of, propose
from qmml_md.reference.ladder import RUNGS, Deadline, check_electrons, climb
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.pyscf_setup import build_mean_field, build_molecule
from qmml_md.region.cluster import Cluster

Make = Callable[..., Cluster]
CHEAP = config.Reference(method="hf", basis="6-31g", scf_tolerance_hartree=1e-11)

#: Covalent bonds of ozone stretched by a fifth: in the local density approximation the gap is almost closed.
OZONE = [8, 8, 8], [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [-0.8, 1.4, 0.0]]
CLOSED_GAP = config.Reference(method="lda,vwn", basis="6-31g*", grid_level=0)


def converged(cluster: Cluster) -> tuple[Any, Guesses]:
    mean_field = build_mean_field(build_molecule(cluster, CHEAP), CHEAP)
    climb(mean_field, None, ("diis",), 60)
    guesses = Guesses()
    guesses.remember(density_of(cluster, mean_field))
    return mean_field, guesses


def test_shared_atoms_are_found_by_parent_in_any_order(make_cluster: Make) -> None:
    line = [[float(3 * i), 0.0, 0.0] for i in range(4)]
    old = make_cluster([8, 1, 1, 6], line, parent=[10, 11, 12, 7])
    order = [3, 1, 0, 2]
    new = make_cluster([[8, 1, 1, 6][i] for i in order], [line[i] for i in order], parent=[7, 11, 10, 12])
    i, j = common_atoms(old, new)
    assert sorted(zip(i, j, strict=True)) == [(0, 2), (1, 1), (2, 3), (3, 0)]


def test_link_atoms_are_never_shared(make_cluster: Make) -> None:
    cluster = make_cluster([6, 1, 1], [[0, 0, 0], [1, 0, 0], [0, 1, 0]], parent=[4, -1, -1], links=[[1, 0], [2, 0]])
    assert [list(index) for index in common_atoms(cluster, cluster)] == [[0], [0]]


def test_an_atom_of_another_element_is_not_shared(make_cluster: Make) -> None:
    old = make_cluster([6, 1], [[0, 0, 0], [1, 0, 0]], parent=[1, 2])
    new = make_cluster([6, 9], [[0, 0, 0], [1, 0, 0]], parent=[1, 2])
    assert [list(index) for index in common_atoms(old, new)] == [[0], [0]]


def test_an_atom_in_another_periodic_image_is_not_shared_but_a_moved_cluster_is(two_waters: Cluster) -> None:
    shifted = replace(two_waters, positions=two_waters.positions + 5.0)
    assert len(common_atoms(two_waters, shifted)[0]) == 6
    jumped = shifted.positions.copy()
    jumped[5] += [18.6, 0.0, 0.0]
    assert list(common_atoms(two_waters, replace(shifted, positions=jumped))[0]) == [0, 1, 2, 3, 4]


def test_disjoint_clusters_share_nothing(water: Cluster) -> None:
    mean_field, guesses = converged(water)
    other = replace(water, parent=np.array([7, 8, 9]))
    assert len(common_atoms(water, other)[0]) == 0
    assert guesses.best(other) is None
    assert propose(guesses.best(other), other, mean_field) is None


def test_best_guess_shares_most_atoms_and_is_the_newest(water: Cluster, two_waters: Cluster) -> None:
    def density(cluster: Cluster) -> Density:
        return Density(cluster=cluster, offsets=np.arange(cluster.size + 1), matrix=np.eye(cluster.size))

    guesses = Guesses()
    older = replace(two_waters)
    for cluster in (older, two_waters, water):
        guesses.remember(density(cluster))
    best = guesses.best(two_waters)
    assert best is not None
    assert best.cluster is two_waters
    assert guesses.best(replace(two_waters, multiplicity=3)) is None  # its matrices have another shape
    for _ in range(REMEMBERED):
        guesses.remember(density(water))
    best = guesses.best(two_waters)
    assert best is not None
    assert best.cluster is water  # memory is bounded


@pytest.mark.parametrize("multiplicity", [1, 3])
def test_guess_for_permuted_atoms_is_the_permuted_density(water: Cluster, multiplicity: int) -> None:
    cluster = replace(water, multiplicity=multiplicity)
    mean_field, guesses = converged(cluster)
    order = np.array([2, 0, 1])
    shuffled = replace(cluster, numbers=water.numbers[order], positions=water.positions[order], parent=order)
    target = build_mean_field(build_molecule(shuffled, CHEAP), CHEAP)
    guess = propose(guesses.best(shuffled), shuffled, target)
    # Every block is known, so that the guess is the answer already.
    assert abs(target.energy_tot(guess) - mean_field.e_tot) < 10 * CHEAP.scf_tolerance_hartree
    # The twin: with the blocks left in their old places it is nowhere near.
    assert abs(target.energy_tot(mean_field.make_rdm1()) - mean_field.e_tot) > 1.0


@pytest.mark.parametrize("multiplicity", [1, 3])
def test_guess_from_part_of_a_cluster_has_all_electrons(water: Cluster, two_waters: Cluster, multiplicity: int) -> None:
    _, guesses = converged(replace(water, multiplicity=multiplicity))
    wanted = replace(two_waters, multiplicity=multiplicity)
    target = build_mean_field(build_molecule(wanted, CHEAP), CHEAP)
    guess = propose(guesses.best(wanted), wanted, target)
    electrons = np.einsum("...ij,ji->...", guess, target.get_ovlp())
    # Sums of 26² products of numbers of order one.
    assert np.abs(electrons - (20 if multiplicity == 1 else np.array([11, 9]))).max() < 1e-11
    # The twin: the atomic density that the rest is filled with has not.
    atomic = target.get_init_guess(target.mol, "minao")
    counted = np.einsum("...ij,ji->...", atomic, target.get_ovlp())
    assert np.abs(counted - electrons).max() > 1e-11


@pytest.mark.parametrize("shared", [3, 6])
def test_guess_is_nearer_to_the_answer_than_superposed_atoms(two_waters: Cluster, shared: int) -> None:
    # The energy is variational: what lies above the converged one measures how far a projector is off.
    part = replace(
        two_waters,
        numbers=two_waters.numbers[:shared],
        positions=two_waters.positions[:shared],
        parent=two_waters.parent[:shared],
    )
    _, guesses = converged(part)
    moved = replace(two_waters, positions=two_waters.positions + np.random.default_rng(3).normal(0, 0.02, (6, 3)))
    answer, _ = converged(moved)
    distance = [
        abs(answer.energy_tot(start) - answer.e_tot)
        for start in (propose(guesses.best(moved), moved, answer), answer.get_init_guess(answer.mol, "minao"))
    ]
    assert distance[0] < distance[1]


def test_a_spin_without_electrons_is_left_empty(make_cluster: Make) -> None:
    atom = make_cluster([1], [[0.0, 0.0, 0.0]], multiplicity=2)
    mean_field, guesses = converged(atom)
    target = build_mean_field(build_molecule(atom, CHEAP), CHEAP)
    guess = propose(guesses.best(atom), atom, target)
    assert np.abs(guess - mean_field.make_rdm1()).max() < 1e-8
    assert np.abs(guess[1]).max() == 0.0


def test_rungs_agree_to_the_scf_tolerance(water: Cluster) -> None:
    # Energy: the last step, and ten times it in PySCF's closing diagonalisation. Force: first order in a density error
    # whose square, times a gap of 0.5 hartree, is the energy error.
    energy_tolerance = 10 * CHEAP.scf_tolerance_hartree * units.EV_PER_HARTREE
    force_tolerance = 2 * np.sqrt(CHEAP.scf_tolerance_hartree / 0.5) * units.EV_PER_ANGSTROM_PER_HARTREE_PER_BOHR
    labels = [PyscfReference(CHEAP, 1, rungs=(rung,)).label(water) for rung in RUNGS[1:]]
    with_past = PyscfReference(CHEAP, 1)
    with_past.label(replace(water, positions=water.positions * 1.02))
    labels.append(with_past.label(water))
    assert [label.rung for label in labels] == [*RUNGS[1:], "guess"]
    for label in labels[1:]:
        assert abs(label.energy - labels[0].energy) < energy_tolerance
        assert np.abs(label.forces - labels[0].forces).max() < force_tolerance


def test_a_guess_saves_cycles(two_waters: Cluster) -> None:
    moved = replace(two_waters, positions=two_waters.positions + np.random.default_rng(3).normal(0, 0.01, (6, 3)))
    _, guesses = converged(two_waters)
    cycles = []
    for past in (Guesses(), guesses):
        mean_field = build_mean_field(build_molecule(moved, CHEAP), CHEAP)
        climb(mean_field, propose(past.best(moved), moved, mean_field), RUNGS, 60)
        cycles.append(mean_field.cycles)
    assert cycles[1] < cycles[0]


def test_where_diis_gives_up_a_later_rung_converges(make_cluster: Make) -> None:
    ozone = make_cluster(*OZONE)
    with pytest.raises(NotConverged, match="diis"):
        PyscfReference(CLOSED_GAP, 1, rungs=("diis",)).label(ozone)
    label = PyscfReference(CLOSED_GAP, 1).label(ozone)
    assert label.rung in ("level-shift", "second-order")
    second = PyscfReference(CLOSED_GAP, 1, rungs=("second-order",)).label(ozone)
    # Both are the same state: next to a closed gap the energies agree to ten times their usual tolerance, in eV.
    assert abs(second.energy - label.energy) < 100 * CLOSED_GAP.scf_tolerance_hartree * units.EV_PER_HARTREE


def test_failure_names_every_rung_and_leaves_no_guess(water: Cluster) -> None:
    hopeless = CHEAP.model_copy(update={"max_cycles": 1})
    reference = PyscfReference(hopeless, 1)
    for _ in range(2):  # the second time, a density left behind would show as the rung "guess"
        with pytest.raises(NotConverged, match=r"tried: diis \(1 cycles\), level-shift \(1 cycles\), second-order"):
            reference.label(water)


def test_unknown_or_empty_ladder_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown rungs"):
        PyscfReference(CHEAP, 1, rungs=("diis", "prayer"))
    with pytest.raises(ConfigError, match="cannot make a start"):
        PyscfReference(CHEAP, 1, rungs=("guess",))


def test_time_limit_stops_a_label_in_the_scf_and_leaves_no_guess(water: Cluster) -> None:
    reference = PyscfReference(CHEAP.model_copy(update={"time_limit_s": 1e-6}), 1)
    for _ in range(2):
        with pytest.raises(LabelTimeout, match="in the SCF") as caught:
            reference.label(water)
        assert "reference.time_limit_s" in caught.value.cure


def test_deadline_passes_before_and_raises_after() -> None:
    Deadline(limit_s=60.0, start=time.monotonic()).check("early")
    with pytest.raises(LabelTimeout, match="before the gradient"):
        Deadline(limit_s=60.0, start=time.monotonic() - 61.0).check("before the gradient")


@pytest.mark.parametrize(
    ("numbers", "charge", "multiplicity"),
    [([8, 1], 0, 1), ([8, 1, 1], 0, 2), ([8, 1, 1], 1, 1), ([1], 1, 1), ([1], 0, 4), ([1, 1], 0, 5)],
)
def test_electrons_that_do_not_fit_are_refused(
    make_cluster: Make, numbers: list[int], charge: int, multiplicity: int
) -> None:
    cluster = make_cluster(numbers, np.eye(len(numbers), 3), charge=charge, multiplicity=multiplicity)
    with pytest.raises(LabelError, match="cannot have multiplicity") as caught:
        check_electrons(cluster)
    assert "reference.multiplicity" in caught.value.cure


@pytest.mark.parametrize(("numbers", "charge", "multiplicity"), [([8, 1], 0, 2), ([8, 1], -1, 1), ([8, 8], 0, 3)])
def test_electrons_that_fit_pass(make_cluster: Make, numbers: list[int], charge: int, multiplicity: int) -> None:
    check_electrons(make_cluster(numbers, np.eye(len(numbers), 3), charge=charge, multiplicity=multiplicity))
