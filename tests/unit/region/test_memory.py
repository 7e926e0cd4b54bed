"""Laws of what the policy remembers: an average over time, not over looks; least residence; the same after a resume."""

import json
from dataclasses import replace

import numpy as np
import pytest

from qmml_md.region.memory import Memory, average, memory_of, plain_memory
from qmml_md.region.policy import Region, ThresholdPolicy, empty_region
from qmml_md.system.molecules import Molecules

POLICY = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=3.0, max_atoms=24)
TAU_FS = 20.0
ZERO, ONE = np.zeros(3), np.ones(3)


def averaged(times: list[float], sigmas: list[np.ndarray], tau: float = TAU_FS) -> np.ndarray:
    """The average after looks at some times, fs."""
    memory = Memory()
    for time, sigma in zip(times, sigmas, strict=True):
        memory = Memory(averaged=average(memory, sigma, time, "a", tau), time_fs=time, surface="a")
    return memory.averaged


def one_atom(build) -> Molecules:
    return build(np.array([[0.0, 0, 0], [5.0, 0, 0]]), np.zeros((0, 2)), None)


def looks(policy: ThresholdPolicy, molecules: Molecules, sigmas: list[list[float]], every_fs: float = 5.0):
    """Regions of one look after the other, and the last memory."""
    region, memory, found = empty_region(), Memory(), []
    for step, sigma in enumerate(sigmas):
        region, memory = policy.look(
            np.array(sigma), memory, region, molecules.positions, molecules, time_fs=step * every_fs, surface="a"
        )
        found.append(region)
    return found, memory


@pytest.mark.parametrize("times", [[0, 30], [0, 1, 2, 30], [0, 29, 30], [0, *range(1, 31)]])
def test_a_step_is_followed_with_the_time_constant_however_often_one_looks(times: list[float]) -> None:
    found = averaged(times, [ZERO] + [ONE] * (len(times) - 1))
    # 1 − exp(−t/τ) exactly; a product of up to thirty rounded factors.
    assert found == pytest.approx(1.0 - np.exp(-30.0 / TAU_FS), rel=1e-13)


def test_an_average_over_looks_would_depend_on_the_interval() -> None:
    """The twin: a fixed weight for each look, as if all intervals were 10 fs."""
    weight, ends = 1.0 - np.exp(-10.0 / TAU_FS), []
    for times in ([0, 30], [0, 1, 2, 30]):
        value = 0.0
        for _ in times[1:]:
            value += weight * (1.0 - value)
        ends.append(value)
    assert abs(ends[0] - ends[1]) > 0.1


def test_the_first_look_begins_the_average_and_a_new_model_begins_it_anew() -> None:
    assert averaged([0], [ONE]).tolist() == ONE.tolist()
    known = Memory(averaged=ONE, time_fs=0.0, surface="a")
    assert average(known, ZERO, 1.0, "a", TAU_FS)[0] == pytest.approx(np.exp(-1.0 / TAU_FS), rel=1e-15)
    assert average(known, ZERO, 1.0, "b", TAU_FS).tolist() == ZERO.tolist()


def test_without_a_time_constant_nothing_is_averaged_nor_kept(build) -> None:
    molecules = one_atom(build)
    found, memory = looks(POLICY, molecules, [[0.9, 0.1], [0.1, 0.1]])
    assert [len(region.core) for region in found] == [1, 0]
    assert len(memory.averaged) == 0


def test_a_spike_does_not_move_the_region_but_what_lasts_does(build) -> None:
    molecules, smooth = one_atom(build), replace(POLICY, smoothing_fs=TAU_FS)
    spike = [[0.3, 0.1], [0.9, 0.1], [0.3, 0.1]]
    assert all(len(region.core) == 0 for region in looks(smooth, molecules, spike)[0])
    # The twin: without the average it does.
    assert [len(region.core) for region in looks(POLICY, molecules, spike)[0]] == [0, 1, 0]
    lasting, _ = looks(smooth, molecules, [[0.3, 0.1]] + [[0.9, 0.1]] * 10)
    # 0.9 − 0.6 e^(−t/τ) reaches 0.6 at t = τ ln 2 = 13.9 fs: at the third look after the step, 15 fs.
    assert [len(region.core) for region in lasting] == [0, 0, 0] + [1] * 8


@pytest.mark.parametrize("least", [1, 2, 4])
def test_an_atom_is_core_for_the_least_number_of_looks(build, least: int) -> None:
    molecules, policy = one_atom(build), replace(POLICY, min_residence_checks=least)
    found, memory = looks(policy, molecules, [[0.9, 0.1]] + [[0.1, 0.1]] * 6)
    # With least = 1, the twin, it leaves at the next look.
    assert [len(region.core) for region in found] == [1] * least + [0] * (7 - least)
    assert memory.residence.tolist() == [0, 0]


def test_a_hotter_place_does_not_push_out_what_has_not_stayed_long_enough(build) -> None:
    molecules = one_atom(build)
    sigmas = [[0.7, 0.1]] + [[0.5, 3.0]] * 4
    found, _ = looks(replace(POLICY, min_residence_checks=3), molecules, sigmas)
    assert [region.core.tolist() for region in found] == [[0], [0], [0], [1], [1]]
    found, _ = looks(POLICY, molecules, sigmas)
    assert [region.core.tolist() for region in found] == [[0], [1], [1], [1], [1]]


def test_neighbours_that_have_not_stayed_long_enough_join_before_hotter_ones(build) -> None:
    """Three atoms in a row and room for two: the second one holds its place against the third, which is nearer."""
    molecules = build(np.array([[0.0, 0, 0], [0.25, 0, 0], [-0.2, 0, 0]]), np.zeros((0, 2)), None)
    sigmas = [[0.9, 0.7, 0.1]] + [[0.9, 0.1, 0.8]] * 3
    found, _ = looks(replace(POLICY, max_atoms=2, min_residence_checks=3), molecules, sigmas)
    assert [region.atoms.tolist() for region in found] == [[0, 1], [0, 1], [0, 1], [0, 2]]
    found, _ = looks(replace(POLICY, max_atoms=2), molecules, sigmas)
    assert [region.atoms.tolist() for region in found] == [[0, 1], [0, 2], [0, 2], [0, 2]]


def test_hysteresis_counts_the_average(build) -> None:
    """Between the thresholds an atom stays if it was core, and does not enter if it was not."""
    molecules = one_atom(build)
    found, _ = looks(replace(POLICY, smoothing_fs=TAU_FS), molecules, [[0.7, 0.5]] + [[0.45, 0.5]] * 20)
    assert all(region.core.tolist() == [0] for region in found)


def through_json(memory: Memory) -> Memory:
    return memory_of(json.loads(json.dumps(plain_memory(memory))))


def same(one: Region, other: Region) -> bool:
    return one.epoch == other.epoch and np.array_equal(one.core, other.core) and np.array_equal(one.atoms, other.atoms)


def resumed(liquid, keep) -> tuple[bool, bytes, bytes]:
    """Twelve looks, and the same with the memory put away and taken back after each."""
    molecules = liquid("cube", 3)
    policy = replace(POLICY, smoothing_fs=7.0, min_residence_checks=3, clusters_per_frame=2)
    rng, regions, memories, equal = np.random.default_rng(1), [empty_region()] * 2, [Memory()] * 2, True
    for step in range(12):
        sigma, time = rng.exponential(0.2, molecules.size), step * 0.1 + rng.random()
        for k in range(2):
            regions[k], memories[k] = policy.look(
                sigma, memories[k], regions[k], molecules.positions, molecules, time_fs=time, surface="a"
            )
        memories[1] = keep(memories[1])
        equal &= same(*regions)
    return equal, memories[0].averaged.tobytes(), memories[1].averaged.tobytes()


def test_what_is_kept_comes_back_to_the_bit(liquid) -> None:
    equal, straight, back = resumed(liquid, through_json)
    assert equal
    assert straight == back


def test_a_memory_that_is_kept_in_single_precision_is_another_one(liquid) -> None:
    """The twin."""
    _, straight, back = resumed(
        liquid, lambda memory: replace(memory, averaged=memory.averaged.astype(np.float32).astype(np.float64))
    )
    assert straight != back
