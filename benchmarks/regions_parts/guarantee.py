"""R5: what do atoms teach whose surroundings are not whole in the cluster, and how much should they count?

Another surface is the truth, so that labels cost nothing and the whole system has true forces, too. Four members of
ANI-1x learn from isolated clusters of it; ``learning.boundary_weight`` is what atoms count that miss something within
the cutoff. The error that matters is that of the forces in the *whole* system, on later frames: on all atoms, and on
those that clusters were cut around. There are two truths, part of the way to ANI-1ccx (*smooth*) and to the other four
members (*rough*), both as far away as quantum chemistry is. The weight is chosen on the first frame after those that
labels come from, and the error is reported on the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from figures import Figure
from scenes import Scene, forces, peptide, surface, water

from qmml_md.config import Learning
from qmml_md.ensemble.model import AniEnsemble
from qmml_md.ensemble.weights import build, load, precision_of, tensors_of
from qmml_md.learning.anchors import base_anchors
from qmml_md.learning.boundary import atom_weights
from qmml_md.learning.bulk import Bulk, make_bulk
from qmml_md.learning.features import featurise
from qmml_md.learning.finetune import finetune
from qmml_md.learning.images import Anchor, Image, make_anchor
from qmml_md.learning.measure import measure
from qmml_md.learning.training_set import bootstrap
from qmml_md.region.cluster import Cluster, cut_cluster
from qmml_md.region.policy import ThresholdPolicy
from qmml_md.region.sampling import region_around
from qmml_md.system.molecules import Molecules

WEIGHTS = (0.0, 0.1, 0.3, 1.0)
SIZES = (24, 80)
#: Labels of one training, anchors beside them, optimiser steps: a run's, but for what saves time.
LABELS, ANCHORS, EPOCHS, ANCHORS_PER_STEP = 5, 8, 60, 4
#: Force RMSE between learner and truth, eV/Å: that of ANI-1x against its level of theory.
AWAY_EV_PER_A = 0.07
#: A buffer that always fills the cluster.
WIDE_A = 15.0

#: A truth: models and what each weighs.
Truth = tuple[tuple[float, AniEnsemble], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What one training sees, whatever boundary atoms count, and where its error is measured.

    Attributes:
        clusters: that were labelled.
        images: of them, all atoms in full.
        anchors: unlabelled clusters of the same size.
        bulk: whole systems.
        core: atoms that clusters were cut around, shape (n,).
    """

    clusters: list[Cluster]
    images: list[Image]
    anchors: list[Anchor]
    bulk: list[Bulk]
    core: np.ndarray


def figures(*, quick: bool) -> list[Figure]:
    """Errors in the whole system for each size and weight, and the weight that the first frames choose."""
    if quick:
        return _figures([peptide(4, 2)], (24,), (0.0, 1.0), 1, ("rough",), epochs=5)
    scenes = [peptide(16, 25), water(4, 40)]
    return _figures(scenes, SIZES, WEIGHTS, 1, ("smooth", "rough"), epochs=EPOCHS)


def _figures(
    scenes: Sequence[Scene], sizes: Sequence[int], weights: Sequence[float], sets: int, truths: Sequence[str],
    *, epochs: int
) -> list[Figure]:  # fmt: skip
    found, ratios = [], []
    for scene in scenes:
        for size in sizes:
            for name in truths:
                rows = [trials(scene, truth_of(scene, name), size, weights, seed, epochs) for seed in range(sets)]
                table = np.mean([row for _, row in rows], axis=0)
                ratios.append(table)
                what = f"{scene.name}, {size} atoms, {name}: complete {np.mean([c for c, _ in rows]):.3f}; all, core"
                for weight, (_, every, core) in zip(weights, table, strict=True):
                    number = f"R5.{scene.name}.{size}.{name}.{weight:g}"
                    found.append(Figure(id=number, what=f"{what} {core:.3f}", value=every, unit="after/before"))
    chosen, every, core = np.exp(np.mean(np.log(ratios), axis=0)).T
    best = int(np.argmin(chosen))
    for weight, one, other in zip(weights, every, core, strict=True):
        what = f"boundary weight {weight:g}: geometric mean over all; core {other:.3f}"
        found.append(Figure(id=f"R5.mean.{weight:g}", what=what, value=one, unit="after/before"))
    what = f"the weight that the first frames choose ({chosen[best]:.3f}); 1 gives {chosen[-1]:.3f}"
    return [*found, Figure(id="R5.chosen", what=what, value=weights[best], unit="1")]


def trials(
    scene: Scene, truth: Truth, size: int, weights: Sequence[float], seed: int, epochs: int
) -> tuple[float, np.ndarray]:
    """Share of complete atoms; and for each weight the error after over that before: choosing, all, core."""
    lesson = _lesson(scene, truth, size, np.random.default_rng([seed, size]))
    first = len(scene.frames) // 2
    choose, report = [first], [len(scene.frames) - 1]
    before = [_errors(_learner(), scene, truth, frames, lesson.core) for frames in (choose, report)]
    rows = []
    for weight in weights:
        model = _train(lesson, weight, seed, epochs)
        after = [_errors(model, scene, truth, frames, lesson.core) for frames in (choose, report)]
        rows.append([after[0][0] / before[0][0], after[1][0] / before[1][0], after[1][1] / before[1][1]])
    return float(np.mean(np.concatenate([c.complete for c in lesson.clusters]))), np.array(rows)


def members(of: AniEnsemble, chosen: Sequence[int]) -> AniEnsemble:
    """Some members, as an ensemble of their own."""
    card = replace(of.card, name=f"{of.card.name} {tuple(chosen)}", members=len(chosen))
    return build(card, {k: t[list(chosen)].clone() for k, t in tensors_of(of).items()}, precision_of(of))


def _train(lesson: Lesson, weight: float, seed: int, epochs: int) -> AniEnsemble:
    images = [
        replace(image, weights=torch.tensor(atom_weights(cluster, weight), dtype=image.forces.dtype))
        for image, cluster in zip(lesson.images, lesson.clusters, strict=True)
    ]
    settings = Learning(max_epochs=epochs, anchors_per_step=ANCHORS_PER_STEP)
    drawn = bootstrap([str(i) for i in range(len(images))], _learner().members, seed)
    rng = np.random.default_rng(seed)
    return finetune(
        _learner(), images, lesson.anchors, settings, rng, lesson.bulk, drawn, base_anchors(_learner()), _learner()
    ).ensemble


def _lesson(scene: Scene, truth: Truth, size: int, rng: np.random.Generator) -> Lesson:
    early = scene.frames[: len(scene.frames) // 2]
    centres = rng.choice(scene.centres, LABELS, replace=False)
    clusters = [cluster_at(early[i * len(early) // LABELS], int(atom), size) for i, atom in enumerate(centres)]
    unlabelled = [
        cluster_at(early[int(rng.integers(len(early)))], int(atom), size) for atom in rng.choice(scene.centres, ANCHORS)
    ]
    features = [featurise(_learner(), c.numbers, c.positions) for c in clusters]
    energies, true = _labels(truth, [*clusters, *unlabelled])
    fragments = scene.frames[0].fragment_of
    return Lesson(
        clusters=clusters,
        images=[
            Image(features=f, energy=e, forces=torch.tensor(t, dtype=f.aev.dtype), weights=torch.ones(f.atoms))
            for f, e, t in zip(features, energies, true, strict=False)
        ],
        anchors=[make_anchor(_learner(), featurise(_learner(), c.numbers, c.positions)) for c in unlabelled],
        bulk=[_bulk(scene, k) for k in range(min(2, len(early)))],
        core=np.isin(fragments, fragments[centres]),
    )


def cluster_at(frame: Molecules, atom: int, size: int) -> Cluster:
    """The cluster around an atom that a run of this size would label, with its guarantee."""
    policy = ThresholdPolicy(enter_eV_per_A=1.0, stay_eV_per_A=1.0, buffer_A=WIDE_A, max_atoms=size)
    region = region_around(atom, frame, policy)
    return cut_cluster(frame, frame.positions, region.atoms, cutoff_A=surface().cutoff)


def _labels(truth: Truth, clusters: list[Cluster]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Energies and forces of the truth; what of the energy is the composition's is taken out, as by a migration."""
    said = measure([_learner(), *(model for _, model in truth)], clusters)
    parts = [weight for weight, _ in truth]
    energies = sum(w * m.energies for w, m in zip(parts, said[1:], strict=True))
    elements = np.array([[(c.numbers == z).sum() for z in surface().card.numbers] for c in clusters], dtype=float)
    shift, *_ = np.linalg.lstsq(elements, energies - said[0].energies, rcond=None)
    true = [sum(w * m.forces[i] for w, m in zip(parts, said[1:], strict=True)) for i in range(len(clusters))]
    return energies - elements @ shift, true


def _errors(model: AniEnsemble, scene: Scene, truth: Truth, frames: Sequence[int], core: np.ndarray) -> np.ndarray:
    """Force RMSE in the whole system, on all atoms and on the core, eV/Å."""
    wrong = np.array([forces(model, scene.frames[k]) - _true(scene, truth, k) for k in frames])
    return np.sqrt([np.mean(wrong**2), np.mean(wrong[:, core] ** 2)])


_KNOWN: dict[tuple[str, int, int], np.ndarray] = {}


def _true(scene: Scene, truth: Truth, k: int) -> np.ndarray:
    key = (scene.name, k, id(truth))
    if key not in _KNOWN:
        _KNOWN[key] = np.sum([weight * forces(model, scene.frames[k]) for weight, model in truth], axis=0)
    return _KNOWN[key]


_BULK: dict[tuple[str, int], Bulk] = {}


def _bulk(scene: Scene, k: int) -> Bulk:
    if (scene.name, k) not in _BULK:
        _BULK[scene.name, k] = make_bulk(_learner(), scene.frames[k])
    return _BULK[scene.name, k]


@lru_cache(maxsize=1)
def _learner() -> AniEnsemble:
    return members(surface(), range(4))


@lru_cache(maxsize=8)
def truth_of(scene: Scene, name: str) -> Truth:
    """Part of the way from the learner to another model."""
    far = load("ani1ccx") if name == "smooth" else members(surface(), range(4, 8))
    frame = scene.frames[0]
    away = np.sqrt(np.mean((forces(far, frame) - forces(_learner(), frame)) ** 2))
    part = AWAY_EV_PER_A / float(away)
    return ((1.0 - part, _learner()), (part, far))
