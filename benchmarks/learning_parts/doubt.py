"""L7: is the force error foretold? Every third label a model is trained; each label is foretold before it is seen."""

from pathlib import Path

import numpy as np
from common import ETHANOL, FINE, WATER, base, read, train
from figures import Figure

from qmml_md.ensemble.disagreement import disagreement, member_forces
from qmml_md.learning.calibration import Sample, prequential
from qmml_md.learning.novelty import make_novelty
from qmml_md.units import NM_PER_ANGSTROM

#: Force error that counts as large, eV/Å, and labels between trainings.
TARGET, EVERY = 0.3, 3


def figures(*, quick: bool, paths: tuple[Path, ...] | None = None, temperature_K: float | None = None) -> list[Figure]:
    """Coverage, misses, false alarms and rank correlation along each series, learning as a run does."""
    found = []
    for path in paths or (ETHANOL, WATER, FINE):
        series = read(path, temperature_K)
        scores = prequential(samples(path, 9 if quick else len(series.labels), temperature_K), TARGET)
        name = {ETHANOL: "ethanol", WATER: "water", FINE: "fine"}.get(path, "series")
        inside = 0.85 <= scores.coverage <= 0.95
        for key, value, goal, met in (
            ("coverage", scores.coverage, "0.85 … 0.95", inside),
            ("missed", scores.miss_rate, "≤ 0.02", scores.miss_rate <= 0.02),
            ("false_alarms", scores.false_alarm_rate, "", None),
            ("spearman", scores.spearman, "", None),
        ):
            what = f"{series.name}: {key.replace('_', ' ')} of the 90 % bound"
            found.append(Figure(id=f"L7.{name}.{key}", what=what, value=value, unit="", goal=goal, met=met))
    return found


def samples(path: Path, count: int, temperature_K: float | None = None) -> list[Sample]:
    """Every label before it is trained on."""
    series = read(path, temperature_K)
    model, found = base(), []
    for i in range(count):
        if i and i % EVERY == 0:
            model = train(series, list(range(i)), start=model).ensemble
        label, known = series.labels[i], [image.features for image in series.images[: i - i % EVERY]]
        forces = member_forces(model, label.cluster.numbers, label.cluster.positions * NM_PER_ANGSTROM, None)
        found.append(
            Sample(
                sigma=disagreement(forces),
                error=np.linalg.norm(forces.mean(axis=0) - label.forces, axis=1),
                elements=label.cluster.numbers,
                novelty=make_novelty(known).score(series.images[i].features),
            )
        )
    return found
