"""Training outside a run: the labels and anchors of a finished run, the same training and the same gate.

The run is only read. What it held out stays out and judges.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import Config, Learning
from ..config_file import load_config
from ..ensemble.model import AniEnsemble, self_energy_hartree, set_threads
from ..ensemble.weights import load, store
from ..errors import RunDirectoryError
from ..learning.anchors import AnchorPool, base_anchors
from ..learning.base_set import probe_set
from ..learning.evidence import Evidence, pooled_rmse, record_of
from ..learning.finetune import Fit, finetune
from ..learning.gate import Verdict, cluster_energy_and_forces, judge
from ..learning.images import make_image
from ..learning.training_set import bootstrap
from ..records.rows import LabelRow, ModelRow
from ..records.run_directory import RunDirectory
from ..reference.label import Label, check_one_level
from ..reference.store import LabelStore
from ..units import EV_PER_HARTREE
from .checkpoint import Checkpoint, read_checkpoint
from .inputs import read_simulated
from .state import refill

#: Told what is being done.
Stage = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """Everything of a run that training needs.

    Attributes:
        run: where it was read from.
        config: of the run.
        base: the model that the run began with; anchors hold to it.
        final: the model that the run ended on.
        base_id: identity of ``base``.
        labels: to be trained on, in order.
        held_out: never to be trained on, in order.
        pool: unlabelled clusters and snapshots of the last checkpoint.
        rows: prequential scores, in order.
    """

    run: RunDirectory
    config: Config
    base: AniEnsemble
    final: AniEnsemble
    base_id: str
    labels: list[Label]
    held_out: list[Label]
    pool: AnchorPool
    rows: list[LabelRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a model does on some labels.

    Attributes:
        force_rmse, force_maxresid: eV/Å; NaN where there is no label.
        energy_mae: mean absolute energy error per atom, eV/atom; NaN where there is no label.
    """

    force_rmse: float
    force_maxresid: float
    energy_mae: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """The outcome of training outside a run.

    Attributes:
        fit: the trained model, as it is to be saved, and how training went.
        model_id: SHA-256 of its weights file.
        verdict: of the gate, on the model loaded from what was saved.
        scores: by group of labels (`trained`, `held out`) and model (`start`, `final`, `new`).
        wall_time: s.
    """

    fit: Fit
    model_id: str
    verdict: Verdict
    scores: dict[str, dict[str, Score]]
    wall_time: float


def read_material(root: Path) -> Material:
    """Read labels, anchors and models of a run.

    Raises:
        RunDirectoryError: there is no run, no commit, no label to train on, or something of it is missing.
    """
    run = RunDirectory(root)
    database = run.open_database()
    try:
        last, rows, models = database.last_checkpoint(), database.labels(), database.models()
    finally:
        database.close()
    if last is None or not models:
        raise RunDirectoryError(f"the run in {root} ended before its first commit", cure="start it again")
    config, checkpoint = load_config(run.config), read_checkpoint(run.checkpoint(last.id), last.sha256)
    set_threads(config.ensemble.threads)
    base, final = (_model(run, config, each) for each in (models[0], models[-1]))
    trained, held_out = label_keys(checkpoint, rows)
    if not trained:
        raise RunDirectoryError(
            f"the run in {root} has no label to train on",
            cure="lower region.enter_eV_per_A or raise reference.max_labels, and run again",
        )
    return Material(
        run=run,
        config=config,
        base=base,
        final=final,
        base_id=models[0].id,
        labels=stored_labels(run, trained),
        held_out=stored_labels(run, held_out),
        pool=_pool(config, run, base, checkpoint),
        rows=rows,
    )


def label_keys(checkpoint: Checkpoint, rows: Sequence[LabelRow]) -> tuple[list[str], list[str]]:
    """Keys of the labels that a run learned from, those of earlier runs included, and of those that it held out."""
    apart = dict.fromkeys(checkpoint.state.get("held_out_keys", ()))
    apart |= dict.fromkeys(row.key for row in rows if row.data.get("held_out"))
    known = dict.fromkeys([*checkpoint.state["label_keys"], *(row.key for row in rows)])
    return [key for key in known if key not in apart], list(apart)


def stored_labels(run: RunDirectory, keys: Sequence[str]) -> list[Label]:
    """Labels of a run by their keys.

    Raises:
        RunDirectoryError: the store is missing, or has lost one.
    """
    store = LabelStore(run.labels)
    return [store.need(key) for key in keys]


def train_offline(
    material: Material, *, from_final: bool = False, epochs: int | None = None, stage: Stage = lambda what: None
) -> Offline:
    """Train on all labels of a run that were not held out, and let the gate judge the result.

    The gate compares with the run's final model: that is what the new one would replace.

    Args:
        material: of the run.
        from_final: begin from the final model instead of the first.
        epochs: most optimiser steps; by default as the run's configuration says.
        stage: told what is being done.

    Raises:
        MixedLabels: labels are of several levels of theory, or some embedded and some not.
    """
    began = time.perf_counter()
    check_one_level(label.level for label in (*material.labels, *material.held_out))
    config, pool, settings = material.config, material.pool, _settings(material.config, epochs)
    rng = np.random.default_rng(np.random.SeedSequence([config.dynamics.seed, len(material.labels)]))
    stage(f"features of {len(material.labels)} labels and {len(pool.training.kept)} anchors")
    start = material.final if from_final else material.base
    weight, anchors, bulk = settings.boundary_weight, pool.anchors(), pool.bulk()
    images = [make_image(material.base, x, boundary_weight=weight) for x in material.labels]
    keys = [label.key for label in material.labels]
    weights = bootstrap(keys, start.members, config.dynamics.seed) if settings.bootstrap else None
    stage(f"training on {len(images)} labels, {settings.max_epochs} epochs at most")
    fit = finetune(start, images, anchors, settings, rng, bulk, weights, base_anchors(material.base), material.base)
    stage(f"{fit.epochs} epochs done; measuring what was saved")
    with tempfile.TemporaryDirectory() as folder:
        model_id, _ = store(fit.ensemble, Path(folder))
        candidate = load(str(Path(folder) / f"{model_id}.safetensors"), config.ensemble.precision)
    evidence = Evidence(
        labels=material.labels,
        held_out=material.held_out,
        unlabelled=pool.held_out.kept,
        record=record_of(material.rows, material.base_id),
        probes=probe_set(material.base.card),
    )
    models = {"start": material.base, "final": material.final, "new": candidate}
    groups = {"trained": material.labels, "held out": material.held_out}
    return Offline(
        fit=fit,
        model_id=model_id,
        verdict=judge(candidate, material.final, material.base, evidence, settings),
        scores={group: {name: score(m, labels) for name, m in models.items()} for group, labels in groups.items()},
        wall_time=time.perf_counter() - began,
    )


def score(model: AniEnsemble, labels: Sequence[Label]) -> Score:
    """How a model does on labels, by the route that moves atoms."""
    forces, energies = [], []
    for label in labels:
        energy, found = cluster_energy_and_forces(model, label.cluster)
        reference = label.energy - self_energy_hartree(model.card, label.cluster.numbers) * EV_PER_HARTREE
        forces.append(found - label.forces)
        energies.append(abs(energy - reference) / label.cluster.size)
    return Score(
        force_rmse=pooled_rmse(forces),
        force_maxresid=max((float(np.abs(wrong).max()) for wrong in forces), default=float("nan")),
        energy_mae=float(np.mean(energies)) if energies else float("nan"),
    )


def _settings(config: Config, epochs: int | None) -> Learning:
    return config.learning if epochs is None else config.learning.model_copy(update={"max_epochs": epochs})


def _model(run: RunDirectory, config: Config, row: ModelRow) -> AniEnsemble:
    path = run.model(row.id)
    if not path.exists():
        raise RunDirectoryError(f"the model {path} is missing", cure="restore it from a copy of the run")
    return load(str(path), config.ensemble.precision)


def _pool(config: Config, run: RunDirectory, base: AniEnsemble, checkpoint: Checkpoint) -> AnchorPool:
    """Anchors as the run had them at its last commit."""
    molecules = read_simulated(config, run.root).part.molecules
    pool = AnchorPool(base, config.learning.anchor_frames, hold_bulk=molecules.size > config.region.max_qm_atoms)
    refill(pool, checkpoint, molecules)
    return pool
