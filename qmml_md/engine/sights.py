"""Places that a label could be computed for: where doubt is largest in each frame of the stretch just run, and now."""

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import LabelError, RegionError
from ..learning.features import featurise
from ..learning.selection import Candidate, choose
from ..reference.cost import estimate
from ..region.cluster import Cluster, cut_cluster
from ..region.policy import Region, empty_region
from ..region.sampling import random_atom, region_around
from ..system.molecules import Floats, Molecules
from .parts import Parts
from .state import State
from .whole import in_whole

#: Cost of what cannot be labelled, s.
BEYOND_ANY_BUDGET_S = 1e12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """One place of one frame, counted among all atoms.

    Attributes:
        step: of the frame.
        sigma: disagreement of all atoms then, eV/Å, shape (n,).
        region: around the place.
        cluster: to be labelled.
    """

    step: int
    sigma: Floats
    region: Region
    cluster: Cluster

    @property
    def doubt(self) -> float:
        """Largest disagreement of the place, eV/Å."""
        return float(self.sigma[self.region.core].max())


def places_now(parts: Parts, state: State, now: Molecules, sigma: Floats) -> list[Sight]:
    """The hot places of the region now, hottest first; without any, what is around the most doubtful atom, and seeds.

    Args:
        parts: of the run.
        state: of the run.
        now: positions and box.
        sigma: disagreement of what is on the ensemble, eV/Å, shape (a + l,).

    Raises:
        RegionError: charge and multiplicity do not fit a place.
    """
    found = state.region.hot_places
    if not found:
        found = (region_around(state.hottest, parts.part(now), parts.policy), *state.region.places)
    return [_sight(parts, state.step, now, sigma, region) for region in found]


def places_before(parts: Parts, *, hot_only: bool) -> list[Sight]:
    """The most doubtful place of each remembered frame of the stretch.

    Args:
        parts: of the run.
        hot_only: leave out frames in which no atom reaches the threshold down to which a core atom stays core.

    Returns:
        In the order of time; a frame is left out where charge and multiplicity do not fit.
    """
    found = []
    for step, then in parts.stretch:
        sigma, part = parts.doubt(then), parts.part(then)
        if hot_only and sigma[parts.policy.hottest(sigma)] < parts.policy.stay_eV_per_A:
            continue
        hot = parts.policy.hot_places(sigma, empty_region(), part.positions, part, count=1)
        region = hot[0] if hot else region_around(parts.policy.hottest(sigma), part, parts.policy)
        try:
            found.append(_sight(parts, step, then, sigma, region))
        except RegionError:
            # One place less to choose from. The place of now is what must be labelled, and its failure is told.
            continue
    return found


def random_places(parts: Parts, state: State, now: Molecules, sigma: Floats, count: int) -> list[Sight]:
    """Random atoms of random frames of the stretch and of now, no frame twice while there are others.

    Args:
        parts: of the run.
        state: of the run.
        now: positions and box.
        sigma: disagreement of what is on the ensemble now, eV/Å, shape (a + l,).
        count: how many.

    Raises:
        RegionError: charge and multiplicity do not fit a place.
    """
    frames = [*parts.stretch, (state.step, now)]
    order = [int(i) for _ in range(-(-count // len(frames))) for i in parts.rng.permutation(len(frames))][:count]
    found = []
    for i in order:
        step, then = frames[i]
        region = region_around(random_atom(parts.kinds, parts.rng), parts.part(then), parts.policy)
        doubt = sigma if step == state.step else parts.doubt(then)
        found.append(_sight(parts, step, then, doubt, region))
    return found


def pick(parts: Parts, sights: list[Sight], *, count: int, first: bool) -> list[Sight]:
    """Choose what to label: disagreement and diversity, within the budget of a trigger.

    Args:
        parts: of the run.
        sights: all places, that of now first.
        count: most labels.
        first: whether the first place is taken whatever the others are; it is free.
    """
    budget, cost = parts.config.region.label_budget_s, _cost(parts)
    if len(sights) <= 1 or (first and count == 1):
        return sights[:count]
    with parts.journal.timings.measure("selection"):
        base = parts.learner.base
        features = [featurise(base, each.cluster.numbers, each.cluster.positions) for each in sights]
        known = parts.learner.features()
        taken = sights[:1] if first else []
        if first and budget is not None:
            budget = max(0.0, budget - cost(sights[0].cluster))
        candidates = [
            Candidate(step=each.step, cluster=each.cluster, doubt=each.doubt, features=one)
            for each, one in zip(sights, features, strict=True)
        ]
        # The place that is taken stays among the candidates: choosing looks at all that a label stands for.
        labelled = [*known, *features[: len(taken)]]
        chosen = choose(candidates, labelled, count=count - len(taken), budget_s=budget, cost=cost)
    return [*taken, *(sights[i] for i in chosen)]


def _cost(parts: Parts) -> Callable[[Cluster], float]:
    def seconds(cluster: Cluster) -> float:
        try:
            return estimate(cluster.numbers, parts.config.reference).seconds
        except LabelError:
            # What cannot be labelled is never worth it; the label itself would say why.
            return BEYOND_ANY_BUDGET_S

    return seconds


def _sight(parts: Parts, step: int, frame: Molecules, sigma: Floats, region: Region) -> Sight:
    settings, part = parts.config.reference, parts.part(frame)
    cluster = cut_cluster(
        part,
        part.positions,
        region.atoms,
        charge=settings.charge,
        multiplicity=settings.multiplicity,
        cutoff_A=parts.learner.base.card.cutoff_A,
    )
    return Sight(
        step=step,
        sigma=parts.of_whole(sigma),
        region=parts.whole_region(region),
        cluster=in_whole(
            cluster,
            parts.simulated,
            parts.charges,
            frame.positions,
            frame.box,
            cutoff_A=settings.embedding_cutoff_A,
        ),
    )
