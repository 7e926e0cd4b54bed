"""L1 … L4: the force error that is left where nothing was labelled, against the number of labels.

Labels are spread evenly in time over the first 5/8 of a series and the error is that of the last 3/8; of a finely
spaced series the label is the first frame, or eight frames over 42 fs. Nothing here was chosen by the last part.
"""

from pathlib import Path

import numpy as np
from common import ETHANOL, FINE, WATER, anchors_for, base, energy_mae, force_rmse, read, spread, train
from figures import Figure

#: Numbers of labels, and goals: of the data in the project, eV/Å, and of any other molecule, ratios to the untrained.
COUNTS = (5, 10, 20, 40)
GOALS = {ETHANOL: (0.054, 0.049, 0.043, 0.033), WATER: (None, 0.072, None, 0.060)}
RATIOS = (0.90, 0.80, 0.70, 0.58)
#: Windows after the label of a fine series, fs.
SOON, LATER, AFTER, LATE = (2.0, 14.0), (16.0, 30.0), (56.0, 150.0), (150.5, np.inf)


def fine(path: Path, temperature_K: float | None = None) -> list[Figure]:
    """L1 and L2: one label, and eight over 42 fs, and what comes after them."""
    series, own = read(path, temperature_K), path == FINE
    windows = {name: _within(series.time_fs, span) for name, span in _WINDOWS.items()}
    before = {name: force_rmse(base(), series, frames) for name, frames in windows.items()}
    one = train(series, [0], anchors=anchors_for(series, (), frames=False)).ensemble
    eight = [int(np.argmin(np.abs(series.time_fs - t))) for t in range(0, 48, 6)]
    many = train(series, eight, anchors=anchors_for(series, (), frames=False)).ensemble
    found = []
    for number, model, limits in (
        ("L1", one, {"2-14 fs": (0.025, 0.80), "16-30 fs": (0.036, None), "> 150 fs": (before["> 150 fs"], 1.02)}),
        ("L2", many, {"56-150 fs": (0.030, 0.58), "> 150 fs": (0.050, 1.02)}),
    ):
        for name, (value, ratio) in limits.items():
            after = force_rmse(model, series, windows[name])
            limit = value if own else None if ratio is None else ratio * before[name]
            found.append(_figure(f"{number}.{_slug(name)}", f"{series.name}: {name}", after, before[name], limit))
    return found


_WINDOWS = {"2-14 fs": SOON, "16-30 fs": LATER, "56-150 fs": AFTER, "> 150 fs": LATE}


def _within(times: np.ndarray, span: tuple[float, float]) -> list[int]:
    return np.flatnonzero((times >= span[0]) & (times <= span[1])).tolist()


def coarse(path: Path, number: str, temperature_K: float | None = None, *, quick: bool = False) -> list[Figure]:
    """L3 and L4: error on the last part of a series against the number of labels from the first part."""
    series = read(path, temperature_K)
    test, found = series.test, []
    before, energy = force_rmse(base(), series, test), energy_mae(base(), series, test)
    goals = GOALS.get(path, tuple(ratio * before for ratio in RATIOS))
    for count, goal in zip(COUNTS[:1] if quick else COUNTS, goals, strict=False):
        labelled = spread(count, series.first)
        fit = train(series, labelled)
        after = force_rmse(fit.ensemble, series, test)
        what = f"{series.name}: {len(labelled)} labels, force RMSE"
        found.append(_figure(f"{number}.{count}", what, after, before, goal))
        found.append(Figure(id=f"{number}.{count}.epochs", what="optimiser steps", value=fit.epochs, unit=""))
        error = energy_mae(fit.ensemble, series, test)
        limit = 0.8 if path == WATER and count == 40 else None
        found.append(
            Figure(
                id=f"{number}.{count}.energy",
                what=f"energy MAE (untrained {energy:.2f})",
                value=error,
                unit="meV/atom",
                goal="" if limit is None else f"≤ {limit:g}",
                met=None if limit is None else error <= limit,
            )
        )
    return found


def warm(path: Path) -> list[Figure]:
    """Iterations of each update as labels accumulate one by one, each training from the model before (Fig. 7)."""
    series = read(path)
    model, steps = base(), []
    for count in range(1, 13):
        fit = train(series, list(range(count)), start=model)
        model = fit.ensemble
        steps.append(fit.epochs)
    ends = f"first four updates {steps[:4]}, last four"
    return [Figure(id="L3.iterations", what=f"{series.name}, one by one: {ends}", value=np.mean(steps[-4:]), unit="")]


def _figure(name: str, what: str, after: float, before: float, limit: float | None) -> Figure:
    return Figure(
        id=name,
        what=f"{what} (untrained {before:.4f}, ratio {after / before:.3f})",
        value=after,
        unit="eV/Å",
        goal="" if limit is None else f"≤ {limit:.4f}",
        met=None if limit is None else after <= limit,
    )


def _slug(name: str) -> str:
    return name.replace(" fs", "").replace("> ", "after-")
