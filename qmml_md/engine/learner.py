"""What a run knows beyond its present model: labels, images, anchors; training on them, and judging what came out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble
from ..ensemble.weights import load, store
from ..errors import LabelError, RegionError
from ..learning.anchors import FEATURE_BYTES, AnchorPool, base_anchors
from ..learning.base_set import anchor_set, probe_set
from ..learning.boundary import simulated
from ..learning.evidence import Evidence, record_of
from ..learning.feature_store import FeatureStore
from ..learning.features import Features, of_atoms
from ..learning.finetune import Fit, finetune
from ..learning.gate import Verdict, judge
from ..learning.images import Anchor, Image, make_image
from ..learning.novelty import Novelty, make_novelty
from ..learning.training_set import TrainingSet
from ..records.rows import LabelRow
from ..records.run_directory import RunDirectory
from ..reference.label import Label, Reference, check_one_level
from ..region.cluster import Cluster
from ..system.molecules import Floats, Molecules
from .journal import Timings
from .labelling import Labelling
from .memory import give_back
from .shadow import Shadows


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A trained model and what the gate said of it.

    Attributes:
        ensemble: the candidate, loaded from what was saved.
        model_id: SHA-256 of its weights file.
        fit: how training went.
        verdict: of the gate.
        training_set: what it was trained on, by where it came from.
        wall_time: s.
    """

    ensemble: AniEnsemble
    model_id: str
    fit: Fit
    verdict: Verdict
    training_set: TrainingSet
    wall_time: float

    def data(self) -> dict[str, Any]:
        """What the run's database keeps of it."""
        judged = self.verdict.plain()
        del judged["accepted"]
        return {
            "epochs": self.fit.epochs,
            "learning_curve": [list(row) for row in self.fit.curve],
            "labels": [label.key for label in self.training_set.trained_on()],
            **judged,
            "training_set": self.training_set.provenance(),
            "wall_time_s": self.wall_time,
        }


class Learner:
    """Everything a run knows beyond its present model.

    Attributes:
        pool: unlabelled clusters.
        labels: every label that is trained on, in order.
        held_out: every label that never is, in order: the gate's evidence.
        base: the model that the run began with; anchors hold to it.
        shadows: the last refused candidate.
        labelling: where labels come from.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        base: AniEnsemble,
        base_id: str,
        reference: Callable[[], Reference],
        timings: Timings,
        rng: np.random.Generator,
        molecules: Molecules,
        *,
        run_id: str = "",
    ) -> None:
        self._config = config
        self._run = run
        self._timings = timings
        self._rng = rng
        self.base, self._base_id = base, base_id
        self.labelling = Labelling(run, reference(), timings, run_id)
        self._kept = FeatureStore(FEATURE_BYTES)
        self._features: dict[str, Features] = {}
        self._shapes: set[tuple[bytes, bytes]] = set()
        self.labels: list[Label] = []
        self.held_out: list[Label] = []
        self.shadows = Shadows(run, config.ensemble.precision)
        larger = molecules.size > config.region.max_qm_atoms
        self.pool = AnchorPool(base, config.learning.anchor_frames, hold_bulk=larger, features=self._kept)
        self._novelty: Novelty | None = None
        self._base_set: list[Anchor] | None = None

    @property
    def known(self) -> int:
        """Number of labels, held out or not."""
        return len(self.labels) + len(self.held_out)

    def features(self) -> list[Features]:
        """Features of every label, held out or not, without their derivatives and without link atoms."""
        return list(self._features.values())

    def recall(self, keys: Sequence[str], held_out: Sequence[str] = ()) -> None:
        """Take labels of an earlier part of the run from the store, in order.

        Args:
            keys: of the labels that were trained on.
            held_out: of those that were not, and never will be.

        Raises:
            RunDirectoryError: one is missing.
            MixedLabels: one is not of the run's level of theory.
        """
        for key, apart in [*((key, False) for key in keys), *((key, True) for key in held_out)]:
            self.remember(self.labelling.store.need(key), held_out=apart)

    def offer_anchor(self, cluster: Cluster) -> None:
        """Consider an unlabelled cluster as an anchor; not one that was labelled."""
        if cluster.geometry not in self._shapes:
            self.pool.offer(cluster, self._rng)

    def committed(self) -> None:
        """What was learned is true now.

        Raises:
            RunDirectoryError: what was kept until then cannot be removed.
        """
        self.labelling.committed()

    def close(self) -> None:
        """End the process that computes labels."""
        self.labelling.close()

    def train(self, current: AniEnsemble, rows: Sequence[LabelRow]) -> Update:
        """Fine-tune on all labels so far, save, load what was saved, and judge that.

        Args:
            current: the model in use.
            rows: of all labels, scored before training on them.
        """
        began = time.perf_counter()
        settings, seen = self._config.learning, self.training_set(rows)
        with self._timings.measure("training"):
            weights = seen.weights(current.members) if settings.bootstrap else None
            anchors, bulk = self.pool.anchors(), self.pool.bulk()
            if self._base_set is None:
                self._base_set = base_anchors(self.base)
            fit = finetune(
                current, self._images(), anchors, settings, self._rng, bulk, weights, self._base_set, self.base
            )
            model_id, new = store(fit.ensemble, self._run.models)
            candidate = load(str(self._run.model(model_id)), self._config.ensemble.precision)
        with self._timings.measure("gate"):
            evidence = Evidence(
                labels=self.labels,
                held_out=self.held_out,
                unlabelled=self.pool.held_out.kept,
                record=record_of(rows, self._base_id),
                probes=probe_set(self.base.card),
            )
            verdict = judge(candidate, current, self.base, evidence, settings)
        if not verdict.accepted:
            self.shadows.keep(model_id, candidate, new=new)
        give_back()
        return Update(
            ensemble=candidate,
            model_id=model_id,
            fit=fit,
            verdict=verdict,
            training_set=seen,
            wall_time=time.perf_counter() - began,
        )

    def training_set(self, rows: Sequence[LabelRow]) -> TrainingSet:
        """What the next training sees. Labels that this run did not take are replayed from an earlier one.

        Args:
            rows: of the labels that this run took.

        Raises:
            ValueError: a held-out label would be trained on.
        """
        own = {row.key for row in rows}
        found = TrainingSet(
            labels=[label for label in self.labels if label.key in own],
            replayed=[label for label in self.labels if label.key not in own],
            reservoir=tuple(self.pool.training.kept),
            base=anchor_set(self.base.card),
            seed=self._config.dynamics.seed,
        )
        leaked = found.leaks(self.held_out)
        if leaked:
            raise ValueError(f"held-out labels would be trained on: {', '.join(key[:12] for key in leaked)}")
        return found

    def _images(self) -> list[Image]:
        """Everything that is trained on."""
        weight = self._config.learning.boundary_weight
        return [make_image(self.base, x, self._all_features(x), boundary_weight=weight) for x in self.labels]

    def _all_features(self, label: Label) -> Features:
        return self._kept.get(self.base, label.cluster.numbers, label.cluster.positions)

    def novelty(self, label: Label) -> Floats:
        """How far each atom of a label is from what was trained on, shape (m,)."""
        if self._novelty is None:
            self._novelty = make_novelty([self._features[known.key] for known in self.labels])
        return self._novelty.score(self._all_features(label))

    def model(self, model_id: str) -> AniEnsemble:
        """A model that the run moved on before."""
        return load(str(self._run.model(model_id)), self._config.ensemble.precision)

    def knows(self, label: Label) -> bool:
        """Whether this label is trained on or held out already."""
        return label.key in self._features

    def remember(self, label: Label, *, held_out: bool) -> None:
        """Train on this label from now on, or never.

        Raises:
            MixedLabels: it is not of the run's level of theory, embedding included.
        """
        if label.key in self._features:
            return
        check_one_level([self.labelling.level, label.level])
        self._shapes.add(label.cluster.geometry)
        for pool in (self.pool.training, self.pool.held_out):
            # What is labelled is no longer to be held at what the starting model said.
            pool.kept[:] = [cluster for cluster in pool.kept if cluster.geometry not in self._shapes]
        features = self._all_features(label)
        # Choosing and novelty ask for the features alone; their derivatives are a hundred times as large.
        # Link atoms are none of the simulation: what is like them is not known for that.
        self._features[label.key] = of_atoms(features, simulated(label.cluster))
        if held_out:
            self.held_out.append(label)
            return
        self._novelty = None
        self.labels.append(label)


def failure(error: LabelError | RegionError) -> str:
    """One line about a label that could not be computed."""
    return f"{type(error).__name__}: {error.what}"
