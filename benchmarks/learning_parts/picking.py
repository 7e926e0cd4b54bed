"""L8: labels that are needed for equal error on the last part, picked by the rule of a run against random picking."""

from pathlib import Path

import numpy as np
from common import ETHANOL, WATER, base, force_rmse, read, train
from figures import Figure

from qmml_md.ensemble.disagreement import disagreement, member_forces
from qmml_md.learning.selection import pick_from_pool
from qmml_md.units import NM_PER_ANGSTROM

COUNTS = (3, 5, 8, 12, 18, 26, 36)
#: Random drawings, and the number of random labels whose error is to be reached with fewer.
SEEDS, REFERENCE = 4, 18


def figures(*, quick: bool, paths: tuple[Path, ...] | None = None, temperature_K: float | None = None) -> list[Figure]:
    """The number of picked labels over that of random ones, at the error of 18 random labels."""
    found = []
    counts, seeds = ((2, 3), 1) if quick else (COUNTS, SEEDS)
    for path in (ETHANOL,) if quick else paths or (ETHANOL, WATER):
        series = read(path, temperature_K)
        features = [image.features for image in series.images[: series.first]]
        doubt = np.array([_doubt(series.labels[i].cluster) for i in range(series.first)])
        order = pick_from_pool(features, doubt, counts[-1])
        usable = [n for n in counts if n <= series.first]
        picked = [force_rmse(train(series, order[:n]).ensemble, series, series.test) for n in usable]
        random = np.mean([_random(series, usable, seed) for seed in range(seeds)], axis=0)
        target = float(np.interp(min(REFERENCE, usable[-1]), usable, random))
        ratio = needed(usable, picked, target) / min(REFERENCE, usable[-1])
        rows = ", ".join(f"{n}: {p:.4f}/{r:.4f}" for n, p, r in zip(usable, picked, random, strict=True))
        name = {ETHANOL: "ethanol", WATER: "water"}.get(path, "series")
        what = f"{series.name}: labels picked / random at equal error ({rows})"
        found.append(Figure(id=f"L8.{name}", what=what, value=ratio, unit="", goal="≤ 0.60", met=ratio <= 0.60))
    return found


def needed(counts: list[int], errors: list[float], target: float) -> float:
    """Fewest labels at which the error is down to the target, on the line between counts; infinity if it never is."""
    for k, error in enumerate(errors):
        if error <= target:
            if k == 0:
                return float(counts[0])
            share = (errors[k - 1] - target) / (errors[k - 1] - error)
            return float(counts[k - 1] + share * (counts[k] - counts[k - 1]))
    return float("inf")


def _doubt(cluster) -> float:
    sigma = disagreement(member_forces(base(), cluster.numbers, cluster.positions * NM_PER_ANGSTROM, None))
    return float(sigma.max())


def _random(series, counts: list[int], seed: int) -> list[float]:
    order = np.random.default_rng(seed).permutation(series.first).tolist()
    return [force_rmse(train(series, order[:n], seed=seed).ensemble, series, series.test) for n in counts]
