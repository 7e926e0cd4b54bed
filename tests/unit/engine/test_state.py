"""What a checkpoint keeps of a run comes back as it was, and what an earlier version kept is refused by name."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from qmml_md.engine.state import Ramp, Rhythm, State, pack, unpack
from qmml_md.ensemble import weights
from qmml_md.errors import RunDirectoryError
from qmml_md.learning.anchors import AnchorPool
from qmml_md.records.rows import Place
from qmml_md.region.memory import Memory, plain_memory
from qmml_md.region.policy import Region

WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "ani_mini.safetensors"


@pytest.fixture
def state() -> State:
    """Nothing at its default."""
    return State(
        step=70,
        model_id="a",
        rhythm=Rhythm(interval=11, next_look=77, looked=66, quiet=3, unlabelled=2, asleep=True),
        heat_booked=0.1,
        first_conserved=-3.5,
        region=Region(
            core=np.array([1, 2]),
            atoms=np.array([0, 1, 2]),
            epoch=4,
            cold=1,
            clusters=(np.array([0, 1]), np.array([2])),
        ),
        memory=Memory(
            averaged=np.random.default_rng(5).random(4) / 3.0,
            residence=np.array([0, 3, 1, 0]),
            time_fs=0.1 + 0.2,
            surface="a",
        ),
        hottest=2,
        accepted=3,
        refused=1,
        failed=2,
        trusted=False,
        good=5,
        good_step=60,
        rewinds=1,
        ramp=Ramp(model_id="b", from_step=66, steps=8, done=4, data={"x": 1}),
        triggers=6,
        label_step=66,
        shadow="c",
    )


def packed(state: State) -> dict:
    """Through JSON, as in a checkpoint."""
    pool = AnchorPool(weights.load(str(WEIGHTS)), 4)
    place = Place(entries=1, segments=2, models=3)
    return json.loads(json.dumps(pack(state, (["k", "l"], ["m"]), np.random.default_rng(1), pool, place)))


def plain(state: State) -> dict:
    row, region = asdict(state), state.region
    arrays = [x.tolist() for x in (region.core, region.atoms, *region.clusters)]
    # Equal lists of numbers are equal to the bit.
    return {**row, "region": [arrays, region.epoch, region.cold], "memory": plain_memory(state.memory)}


def test_a_state_comes_back_as_it_was(state: State) -> None:
    kept = packed(state)
    assert (kept["label_keys"], kept["held_out_keys"]) == (["k", "l"], ["m"])
    assert plain(unpack(kept, 70)) == plain(state)
    # A field that a checkpoint forgot would come back at its default.
    for name in ("triggers", "label_step", "shadow"):
        assert plain(unpack({**kept, name: None}, 70)) != plain(state)


@pytest.mark.parametrize("name", ["rhythm", "memory", "held_out_keys", "shadow"])
def test_the_checkpoint_of_an_earlier_version_is_refused(state: State, name: str) -> None:
    kept = packed(state)
    del kept[name]
    with pytest.raises(RunDirectoryError, match=f"lacks {name}: an earlier version"):
        unpack(kept, 70)
