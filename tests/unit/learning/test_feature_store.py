"""The store of features: exact to the bit, bounded in memory, and gone from the disk when it is gone."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from qmml_md.ensemble import weights
from qmml_md.learning.feature_store import FeatureStore, content_key, pack, unpack
from qmml_md.learning.features import Features, featurise

MINI = Path(__file__).parents[2] / "data" / "ani_mini.safetensors"


def bits(features: Features) -> tuple[bytes, ...]:
    """Everything that features hold."""
    return tuple(t.numpy().tobytes() for t in (features.elements, features.aev, features.jacobian))


def computed(model, atoms) -> Features:
    return featurise(model, atoms.numbers, atoms.positions)


@pytest.fixture(params=["single", "double"])
def model(request):
    return weights.load(str(MINI), request.param)


def test_packing_is_exact_and_drops_absent_elements(model, frames) -> None:
    features = computed(model, frames[0])
    packed = pack(features)
    assert bits(unpack(packed)) == bits(features)
    # Ethanol holds no nitrogen: of H C N O, that is 8 of 32 radial columns and 4 of 10 pairs of 8 angular ones.
    absent = 8 + 4 * 8
    assert len(packed.columns) <= features.aev.shape[1] - absent
    assert packed.bytes < features.bytes


def test_a_column_that_is_zero_only_in_its_values_is_kept(model, frames) -> None:
    """The sabotage of the law above: a value of zero with a slope, or a negative zero, must not be lost."""
    features = computed(model, frames[0])
    empty = int((features.aev == 0).all(0).nonzero().flatten()[0])
    jacobian = features.jacobian.clone()
    jacobian.reshape(9, -1, 27)[0, empty, 0] = 1.0
    sloped = Features(elements=features.elements, aev=features.aev, jacobian=jacobian)
    assert bits(unpack(pack(sloped))) == bits(sloped)
    aev = features.aev.clone()
    aev[0, empty] = -0.0
    negative = Features(elements=features.elements, aev=aev, jacobian=features.jacobian)
    assert bits(unpack(pack(negative))) == bits(negative)


@pytest.mark.parametrize("clusters_in_memory", [0, 1, 3, 100])
def test_what_comes_back_is_equal_to_the_bit_wherever_it_was(model, frames, clusters_in_memory: int) -> None:
    one = pack(computed(model, frames[0])).bytes
    # Frames differ in columns that reach beyond a cutoff: half a cluster of room on top.
    store = FeatureStore(int((clusters_in_memory + 0.5) * one) if clusters_in_memory else 0)
    fresh = [bits(computed(model, atoms)) for atoms in frames[:6]]
    for _ in range(3):
        for atoms, expected in zip(frames[:6], fresh, strict=True):
            assert bits(store.get(model, atoms.numbers, atoms.positions)) == expected
            assert store.bytes_in_memory <= store.limit_bytes
    assert len(store) == 6
    store.close()


def test_the_least_recently_used_goes_first(model, frames, monkeypatch: pytest.MonkeyPatch) -> None:
    one = max(pack(computed(model, atoms)).bytes for atoms in frames[:3])
    store = FeatureStore(int(2.5 * one))

    def get(i: int) -> None:
        store.get(model, frames[i].numbers, frames[i].positions)

    for i in (0, 1, 0, 2):
        get(i)
    on_disk = [i for i in range(3) if content_key(model, frames[i].numbers, frames[i].positions) in store._on_disk]
    assert on_disk == [1]
    store.close()


def test_nothing_is_computed_twice(model, frames, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(*args):
        calls.append(1)
        return featurise(*args)

    monkeypatch.setattr("qmml_md.learning.feature_store.featurise", counting)
    store = FeatureStore(0)
    for _ in range(2):
        for atoms in frames[:3]:
            store.get(model, atoms.numbers, atoms.positions)
    assert len(calls) == 3
    store.close()


def test_keys_tell_everything_apart_that_features_depend_on(mini, frames) -> None:
    atoms, single = frames[0], weights.load(str(MINI), "single")
    nudged = atoms.positions.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], 9.0)
    keys = {
        content_key(mini, atoms.numbers, atoms.positions),
        content_key(single, atoms.numbers, atoms.positions),
        content_key(mini, atoms.numbers, nudged),
        content_key(mini, np.where(atoms.numbers == 8, 7, atoms.numbers), atoms.positions),
    }
    assert len(keys) == 4
    with torch.no_grad():
        next(single.parameters()).add_(1.0)
    assert content_key(single, atoms.numbers, atoms.positions) in keys  # weights do not matter


def test_the_folder_goes_with_the_store(mini, frames, tmp_path: Path) -> None:
    store = FeatureStore(0, tmp_path)
    store.get(mini, frames[0].numbers, frames[0].positions)
    (folder,) = tmp_path.iterdir()
    assert any(folder.iterdir())
    del store
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    closed = FeatureStore(0, tmp_path)
    closed.get(mini, frames[0].numbers, frames[0].positions)
    closed.close()
    assert list(tmp_path.iterdir()) == []
    assert len(closed) == 0
    # A closed store is an empty one.
    assert bits(closed.get(mini, frames[0].numbers, frames[0].positions)) == bits(computed(mini, frames[0]))
    closed.close()


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="limit_bytes"):
        FeatureStore(-1)


def test_returned_features_can_be_changed_without_harm(mini, frames) -> None:
    store = FeatureStore(10**9)
    atoms = frames[0]
    for _ in range(2):
        got = store.get(mini, atoms.numbers, atoms.positions)
        assert bits(got) == bits(computed(mini, atoms))
        got.aev.zero_()
        got.jacobian.zero_()
        got.elements.zero_()
    store.close()
