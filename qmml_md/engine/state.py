"""What changes while a run goes on, and how it is kept in a checkpoint."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import RunDirectoryError
from ..learning.anchors import AnchorPool
from ..records.limits import sound
from ..records.rows import Place
from ..region.memory import Memory, memory_of, plain_memory
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
class Rhythm:
    """When the run looks at the disagreement.

    Attributes:
        interval: N now, steps.
        next_look: step of the next look.
        looked: step of the last look; the stretch begins after it.
        quiet: looks in a row that found nothing hot.
        unlabelled: looks in a row without a label.
        asleep: whether learning sleeps.
    """

    interval: int
    next_look: int = 0
    looked: int = -1
    quiet: int = 0
    unlabelled: int = 0
    asleep: bool = False


@dataclass(slots=True, kw_only=True)
class State:
    """What changes while a run goes on, beside the atoms and the model.

    Attributes:
        step: steps done.
        model_id: of the model that moves the atoms.
        heat_booked: heat of the thermostat already in the ledger, kJ/mol.
        first_conserved: H̃ of the first frame, kJ/mol.
        region: now.
        memory: what the policy of the region remembers of the looks so far.
        hottest: atom with the largest disagreement when last looked at.
        accepted, refused: model updates.
        failed: labels that could not be computed.
        trusted: whether the last label was met within the tolerance of a rewind, or has been learned since.
        good: number of the checkpoint of the last commit that could be trusted.
        good_step: step of that commit.
        rewinds: returns to that commit.
        ramp: the new model that is being blended in, if there is one.
        barostat: what adapts in it.
        rhythm: when the run looks.
        triggers: occasions at which labels were computed; every so many are held out.
        label_step: step of the last labels that the model in use has learned from; None before the first.
        shadow: identity of the last refused candidate; None where the newest candidate is the model in use.
        attended: whether everything that is due at this step is done.
        explosions: returns to a commit since the dynamics got beyond the step at which they last exploded.
        exploded_at: that step; −1 if they never did.
    """

    step: int = 0
    model_id: str
    rhythm: Rhythm
    heat_booked: float = 0.0
    first_conserved: float | None = None
    region: Region = field(default_factory=empty_region)
    memory: Memory = field(default_factory=Memory)
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
    triggers: int = 0
    label_step: int | None = None
    shadow: str | None = None
    attended: bool = False
    explosions: int = 0
    exploded_at: int = -1


#: Fields of ``State`` that are plain numbers and words.
PLAIN = (
    "model_id", "heat_booked", "first_conserved", "hottest", "accepted", "refused", "failed", "trusted", "good",
    "good_step", "rewinds", "triggers", "label_step", "shadow",
)  # fmt: skip
#: The same, with what they were before a checkpoint held them.
ADDED = {"attended": True, "explosions": 0, "exploded_at": -1}


def pack(
    state: State,
    labels: tuple[list[str], list[str]],
    rng: np.random.Generator,
    pool: AnchorPool,
    place: Place,
) -> dict[str, Any]:
    """Everything but the atoms and the clusters of the pool, as plain JSON-able data.

    Args:
        state: of the run.
        labels: keys of the labels that were trained on, and of those held out.
        rng: the random stream of the run.
        pool: of unlabelled clusters.
        place: how much is true.
    """
    plain = asdict(replace(state, region=empty_region()))
    plain["region"], plain["memory"] = _plain_region(state.region), plain_memory(state.memory)
    return {
        **plain,
        "place": asdict(place),
        "label_keys": labels[0],
        "held_out_keys": labels[1],
        "rng": rng.bit_generator.state,
        "pool": {
            "offered": pool.offered,
            "training": [len(pool.training.kept), pool.training.seen],
            "held_out": [len(pool.held_out.kept), pool.held_out.seen],
            "snapshots": [len(pool.snapshots.kept), pool.snapshots.seen],
        },
    }


def unpack(plain: dict[str, Any], step: int) -> State:
    """The state that ``pack`` took.

    Raises:
        RunDirectoryError: an earlier version of this program took it.
    """
    missing = sorted({*PLAIN, "rhythm", "memory", "held_out_keys"} - plain.keys())
    if missing:
        raise RunDirectoryError(
            f"the checkpoint of step {step} lacks {', '.join(missing)}: an earlier version of qmml-md wrote it",
            cure="finish the run with that version, or begin anew where it stands with `qmml run --from RUN@STEP`",
        )
    with sound(f"the checkpoint of step {step}"):
        region, memory = _region_of(plain["region"]), memory_of(plain["memory"])
        ramp = None if plain["ramp"] is None else Ramp(**plain["ramp"])
        barostat, rhythm = BarostatState(**plain["barostat"]), Rhythm(**plain["rhythm"])
    rest = {name: plain[name] for name in PLAIN} | {name: plain.get(name, then) for name, then in ADDED.items()}
    return State(step=step, region=region, memory=memory, ramp=ramp, barostat=barostat, rhythm=rhythm, **rest)


def _plain_region(region: Region) -> dict[str, Any]:
    """As JSON has it."""
    clusters = [atoms.tolist() for atoms in region.clusters]
    core, atoms = region.core.tolist(), region.atoms.tolist()
    return {"core": core, "atoms": atoms, "epoch": region.epoch, "clusters": clusters, "cold": region.cold}


def _region_of(plain: dict[str, Any]) -> Region:
    """The region that ``_plain_region`` took."""
    core, atoms, *clusters = (
        np.array(rows, dtype=np.int64) for rows in (plain["core"], plain["atoms"], *plain["clusters"])
    )
    return Region(core=core, atoms=atoms, epoch=plain["epoch"], clusters=tuple(clusters), cold=plain["cold"])


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
