"""One learning cycle: label a cluster, score it before training, train, judge, and hand over the new model."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble, self_energy_hartree
from ..ensemble.weights import load, store
from ..errors import LabelError, RegionError, RunDirectoryError
from ..learning.anchors import AnchorPool
from ..learning.finetune import Fit, Image, finetune, make_image
from ..learning.gate import Verdict, cluster_energy_and_forces, judge
from ..records.rows import LabelRow
from ..records.run_directory import RunDirectory
from ..reference.label import Label, Reference
from ..reference.store import LabelStore, StoredReference
from ..region.cluster import Cluster
from ..region.policy import Region
from ..system.molecules import Floats, Molecules
from ..units import EV_PER_HARTREE
from .journal import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A trained model and what the gate said of it.

    Attributes:
        ensemble: the candidate, loaded from what was saved.
        model_id: SHA-256 of its weights file.
        fit: how training went.
        verdict: of the gate.
        wall_time: s.
    """

    ensemble: AniEnsemble
    model_id: str
    fit: Fit
    verdict: Verdict
    wall_time: float

    def data(self, keys: list[str]) -> dict[str, Any]:
        """What the run's database keeps of it."""
        return {
            "epochs": self.fit.epochs,
            "learning_curve": [list(row) for row in self.fit.curve],
            "labels": keys,
            "force_rmse": self.verdict.force_rmse,
            "force_maxresid": self.verdict.force_maxresid,
            "anchor_shift": None if np.isnan(self.verdict.anchor_shift) else self.verdict.anchor_shift,
            "reasons": list(self.verdict.reasons),
            "wall_time_s": self.wall_time,
        }


class Learner:
    """Everything a run knows beyond its present model.

    Attributes:
        pool: unlabelled clusters.
        labels: every label so far, in order.
        base: the model that the run began with; anchors hold to it.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        base: AniEnsemble,
        reference: Reference,
        timings: Timings,
        rng: np.random.Generator,
        molecules: Molecules,
    ) -> None:
        self._config = config
        self._run = run
        self._timings = timings
        self._rng = rng
        self.base = base
        self._store = LabelStore(run.labels)
        self._reference = StoredReference(reference, self._store)
        self._images: list[Image] = []
        self.labels: list[Label] = []
        larger = molecules.size > config.region.max_qm_atoms
        self.pool = AnchorPool(base, config.learning.anchor_frames, hold_bulk=larger)

    def recall(self, keys: list[str]) -> None:
        """Take labels of an earlier part of the run from the store, in order.

        Raises:
            RunDirectoryError: one is missing.
        """
        for key in keys:
            label = self._store.get(key)
            if label is None:
                raise RunDirectoryError(
                    f"{self._run.labels} has lost the label {key[:12]} that the run was trained on",
                    cure="restore labels.db from a copy of the run directory",
                )
            self.remember(label)

    def label(self, cluster: Cluster) -> tuple[Label, bool]:
        """The label of a cluster, and whether it came from the store.

        Raises:
            LabelError: it could not be computed.
        """
        found = self._reference.known(cluster)
        if found is not None:
            return found, True
        with self._timings.measure("qm"):
            return self._reference.compute(cluster), False

    def score(
        self, label: Label, model: AniEnsemble, model_id: str, sigma: Floats, region: Region, step: int, reused: bool
    ) -> LabelRow:
        """The prequential score: the error of ``model`` on a label that it has not been trained on.

        Args:
            label: the new label.
            model: the model that moves the atoms.
            model_id: its identity.
            sigma: disagreement of all atoms, eV/Å, shape (n,).
            region: the region that the label was cut from.
            step: step now.
            reused: whether the label came from the store.
        """
        energy, forces = cluster_energy_and_forces(model, label.cluster)
        wrong = forces - label.forces
        untrained = cluster_energy_and_forces(self.base, label.cluster)[1] - label.forces
        reference = label.energy - self_energy_hartree(model.card, label.cluster.numbers) * EV_PER_HARTREE
        parents = label.cluster.parent
        return LabelRow(
            key=label.key,
            step=step,
            model=model_id,
            region_epoch=region.epoch,
            data={
                "parents": parents.tolist(),
                "core": np.isin(parents, region.core).tolist(),
                "sigma": [float(sigma[p]) if p >= 0 else None for p in parents],
                "error": np.linalg.norm(wrong, axis=1).tolist(),
                "force_rmse": float(np.sqrt((wrong**2).mean())),
                "force_rmse_start": float(np.sqrt((untrained**2).mean())),
                "force_maxresid": float(np.abs(wrong).max()),
                "energy_error_eV": energy - reference,
                "wall_time_s": label.wall_time,
                "rung": label.rung,
                "reused": reused,
            },
        )

    def train(self, label: Label, current: AniEnsemble) -> Update:
        """Fine-tune on all labels so far, save, load what was saved, and judge that."""
        began = time.perf_counter()
        with self._timings.measure("training"):
            self.remember(label)
            settings = self._config.learning
            fit = finetune(current, self._images, self.pool.anchors(), settings, self._rng, self.pool.bulk())
            model_id, new = store(fit.ensemble, self._run.models)
            path = self._run.model(model_id)
            candidate = load(str(path), self._config.ensemble.precision)
            verdict = judge(candidate, current, self.labels, self.pool.held_out.kept, settings)
        if not verdict.accepted and new:
            # No atom ever moved on it; the run keeps only models that did.
            path.unlink()
            path.with_suffix(".json").unlink()
        return Update(
            ensemble=candidate,
            model_id=model_id,
            fit=fit,
            verdict=verdict,
            wall_time=time.perf_counter() - began,
        )

    def model(self, model_id: str) -> AniEnsemble:
        """A model that the run moved on before."""
        return load(str(self._run.model(model_id)), self._config.ensemble.precision)

    def remember(self, label: Label) -> None:
        """Train on this label from now on."""
        if all(known.key != label.key for known in self.labels):
            self.labels.append(label)
            self._images.append(make_image(self.base, label))


def failure(error: LabelError | RegionError) -> str:
    """One line about a label that could not be computed."""
    return f"{type(error).__name__}: {error.what}"
