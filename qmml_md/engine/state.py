"""What changes while a run goes on, and how it is kept in a checkpoint."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..learning.anchors import AnchorPool
from ..records.rows import Place
from ..region.policy import Region, empty_region
from ..system.molecules import Molecules
from .barostat import BarostatState
from .checkpoint import Checkpoint


@dataclass(slots=True, kw_only=True)
class Ramp:
    """A new model that is being blended in.

    Attributes:
        model_id: of the model that comes.
        from_step: step of the first switch.
        steps: number of switches; λ is ``done / steps``.
        done: switches done.
        data: what the row of the new model will say.
    """

    model_id: str
    from_step: int
    steps: int
    done: int = 0
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class State:
    """What changes while a run goes on, beside the atoms and the model.

    Attributes:
        step: steps done.
        model_id: of the model that moves the atoms.
        heat_booked: heat of the thermostat already in the ledger, kJ/mol.
        first_conserved: H̃ of the first frame, kJ/mol.
        region: now.
        hottest: atom with the largest disagreement when last looked at.
        accepted, refused: model updates.
        failed: labels that could not be computed.
        trusted: whether the last label was met within the tolerance of a rewind, or has been learned since.
        good: number of the checkpoint of the last commit that could be trusted.
        good_step: step of that commit.
        rewinds: returns to that commit.
        ramp: the new model that is being blended in, if there is one.
        barostat: what adapts in it.
    """

    step: int = 0
    model_id: str
    heat_booked: float = 0.0
    first_conserved: float | None = None
    region: Region = field(default_factory=empty_region)
    hottest: int = 0
    accepted: int = 0
    refused: int = 0
    failed: int = 0
    trusted: bool = True
    good: int | None = None
    good_step: int = -1
    rewinds: int = 0
    ramp: Ramp | None = None
    barostat: BarostatState = field(default_factory=BarostatState)


#: Fields of ``State`` that are plain numbers and words.
PLAIN = (
    "model_id", "heat_booked", "first_conserved", "hottest", "accepted", "refused", "failed", "trusted", "good",
    "good_step", "rewinds",
)  # fmt: skip


def pack(
    state: State, label_keys: list[str], rng: np.random.Generator, pool: AnchorPool, place: Place
) -> dict[str, Any]:
    """Everything but the atoms and the clusters of the pool, as plain JSON-able data."""
    plain = asdict(replace(state, region=empty_region()))
    region = state.region
    plain["region"] = {"core": region.core.tolist(), "atoms": region.atoms.tolist(), "epoch": region.epoch}
    return {
        **plain,
        "place": asdict(place),
        "label_keys": label_keys,
        "rng": rng.bit_generator.state,
        "pool": {
            "offered": pool.offered,
            "training": [len(pool.training.kept), pool.training.seen],
            "held_out": [len(pool.held_out.kept), pool.held_out.seen],
            "snapshots": [len(pool.snapshots.kept), pool.snapshots.seen],
        },
    }


def unpack(plain: dict[str, Any], step: int) -> State:
    """The state that ``pack`` took."""
    region = Region(
        core=np.array(plain["region"]["core"], dtype=np.int64),
        atoms=np.array(plain["region"]["atoms"], dtype=np.int64),
        epoch=plain["region"]["epoch"],
    )
    ramp = None if plain["ramp"] is None else Ramp(**plain["ramp"])
    barostat = BarostatState(**plain["barostat"])
    return State(step=step, region=region, ramp=ramp, barostat=barostat, **{name: plain[name] for name in PLAIN})


def refill(pool: AnchorPool, checkpoint: Checkpoint, molecules: Molecules) -> None:
    """Put the clusters and snapshots of a checkpoint back into a pool."""
    plain = checkpoint.state["pool"]
    kept, pool.training.seen = plain["training"]
    pool.held_out.seen = plain["held_out"][1]
    pool.snapshots.seen = plain["snapshots"][1]
    pool.offered = plain["offered"]
    pool.training.kept[:] = checkpoint.clusters[:kept]
    pool.held_out.kept[:] = checkpoint.clusters[kept:]
    pool.snapshots.kept[:] = [molecules.at(*x) for x in zip(checkpoint.snapshots, checkpoint.boxes, strict=True)]
