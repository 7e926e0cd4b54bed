"""L5: random subsets of one to five labels; does any update that the gate lets pass worsen the error on the last part?

The gate sees what a run would show it: labels that were trained on, unlabelled clusters, the base set, and held-out
labels: the newest four of the first part. Beside it stands the gate of a run's first triggers, which has none.
"""

from pathlib import Path

import numpy as np
from common import ETHANOL, FINE, WATER, Series, base, force_rmse, read, train
from figures import Figure

from qmml_md.config import Learning
from qmml_md.ensemble.model import AniEnsemble
from qmml_md.learning.base_set import probe_set
from qmml_md.learning.evidence import Evidence
from qmml_md.learning.gate import judge

#: Subsets by series, labels held out for the gate, and the promise.
SUBSETS, HELD_OUT, PROMISE = {ETHANOL: 25, WATER: 20, FINE: 10}, 4, 1.02


def figures(*, quick: bool, paths: tuple[Path, ...] | None = None, temperature_K: float | None = None) -> list[Figure]:
    """Worst accepted ratio, and how many good updates were let pass, with held-out labels and without."""
    counts = SUBSETS if paths is None else dict.fromkeys(paths, 50)
    rows = [row for path, count in counts.items() for row in _subsets(read(path, temperature_K), 2 if quick else count)]
    ratio, seen, blind = (np.array(column) for column in zip(*rows, strict=True))
    good, found = ratio <= 1.0, []
    for name, accepted in (("held_out", seen.astype(bool)), ("blind", blind.astype(bool))):
        worst = float(ratio[accepted].max(initial=0.0))
        broken = int((ratio[accepted] > PROMISE).sum())
        what = f"{'held-out evidence' if name == 'held_out' else 'no held-out label'}: {accepted.sum()} of {len(rows)}"
        found += [
            Figure(
                id=f"L5.{name}.worst",
                what=f"{what} accepted, {broken} break the promise; worst ratio",
                value=worst,
                unit="",
                goal=f"≤ {PROMISE}",
                met=worst <= PROMISE,
            ),
            Figure(
                id=f"L5.{name}.good",
                what=f"accepted of the {good.sum()} that lower the error",
                value=float(accepted[good].mean()) if good.any() else float("nan"),
                unit="",
            ),
        ]
    return [
        Figure(id="L5.all", what="all updates, accepted or not; worst ratio", value=float(ratio.max()), unit=""),
        *found,
    ]


def _subsets(series: Series, count: int) -> list[tuple[float, bool, bool]]:
    rng = np.random.default_rng(5)
    pool, held_out = series.first - HELD_OUT, list(range(series.first - HELD_OUT, series.first))
    before, found = force_rmse(base(), series, series.test), []
    for number in range(count):
        labelled = np.sort(rng.choice(pool, size=1 + number % 5, replace=False)).tolist()
        model = train(series, labelled, seed=number).ensemble
        ratio = force_rmse(model, series, series.test) / before
        found.append((ratio, *(_accepted(model, series, labelled, apart) for apart in (held_out, []))))
    return found


def _accepted(model: AniEnsemble, series: Series, labelled: list[int], held_out: list[int]) -> bool:
    evidence = Evidence(
        labels=[series.labels[i] for i in labelled],
        held_out=[series.labels[i] for i in held_out],
        unlabelled=series.unlabelled[3::4],
        probes=probe_set(base().card),
    )
    return judge(model, base(), base(), evidence, Learning()).accepted
