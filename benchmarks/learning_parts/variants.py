"""What was tried instead, on the first part of each series alone: labels from its first 3/5, error on the other 2/5.

The first row is what a run does. All others take the whole step instead of part of it, and change one thing more. The
last 3/8 of a series is not looked at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from common import ETHANOL, WATER, anchors_for, base, force_rmse, read, spread, train
from figures import Figure

from qmml_md.config import Learning
from qmml_md.learning import finetune, loss

#: Name, settings that differ from the defaults, constants of ``finetune`` and ``loss`` that differ.
VARIANTS: tuple[tuple[str, dict[str, Any], dict[str, float]], ...] = (
    ("as in a run", {"require_tolerance": False}, {}),
    ("the whole step", {}, {}),
    ("all weights trained", {}, {"TRAINED_FRACTION": 1.0}),
    ("a tenth of the weights, rate x 2", {"learning_rate": 6e-4}, {"TRAINED_FRACTION": 0.1}),
    ("members apart", {}, {"MEAN_FRACTION": 0.0}),
    ("the mean alone", {}, {"MEAN_FRACTION": 1.0}),
    ("no bootstrap", {"bootstrap": False}, {}),
    ("no anchors", {"anchor_weight": 0.0}, {}),
    ("anchors x 3", {"anchor_weight": 0.3}, {}),
    ("anchors x 10", {"anchor_weight": 1.0}, {}),
    ("energy weight 1", {"energy_weight": 1.0}, {}),
    ("energy weight 300", {"energy_weight": 300.0}, {}),
    ("rate 1e-4", {"learning_rate": 1e-4}, {}),
    ("rate 1e-3", {"learning_rate": 1e-3}, {}),
    ("600 epochs", {"max_epochs": 600}, {}),
    (
        "all weights, members apart, no anchors, 600 epochs",
        {"anchor_weight": 0.0, "max_epochs": 600, "bootstrap": False},
        {"TRAINED_FRACTION": 1.0, "MEAN_FRACTION": 0.0},
    ),
)
COUNTS = {ETHANOL: (1, 5, 10, 30), WATER: (1, 10, 24)}


def figures() -> list[Figure]:
    """Force error over that of the untrained model, by variant; what is printed are geometric means over the counts."""
    found = []
    for number, (name, settings, constants) in enumerate(VARIANTS):
        rows, ratios = [], []
        for path, counts in COUNTS.items():
            series = read(path)
            middle = int(series.first * 3 / 5) if path == ETHANOL else 24
            test = list(range(middle, series.first))
            before = force_rmse(base(), series, test)
            with _constants(constants):
                chosen = Learning(**{"require_tolerance": True, **settings})
                models = [_model(path, spread(n, middle), chosen) for n in counts]
            errors = [force_rmse(model, series, test) / before for model in models]
            rows.append(f"{series.name} {', '.join(f'{n}: {e:.3f}' for n, e in zip(counts, errors, strict=True))}")
            ratios += errors
        value = float(np.exp(np.mean(np.log(ratios))))
        found.append(Figure(id=f"V.{number:02d}", what=f"{name}: {'; '.join(rows)}", value=value, unit=""))
    return found


def _model(path: Any, labelled: list[int], settings: Learning) -> Any:
    series = read(path)
    return train(series, labelled, anchors=anchors_for(series, labelled), settings=settings).ensemble


@contextmanager
def _constants(values: dict[str, float]) -> Iterator[None]:
    places = [(loss if name == "MEAN_FRACTION" else finetune, name) for name in values]
    before = [getattr(module, name) for module, name in places]
    try:
        for (module, name), value in zip(places, values.values(), strict=True):
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)
