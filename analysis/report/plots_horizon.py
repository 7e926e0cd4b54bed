"""The figure that justifies the interval between looks: how the error rises with the time since the last label."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..horizon import Visits, fit_horizon, visits_of
from .figures import BLUE, GREEN, MUTED, ORANGE, RED, legend, mark_updates, panels
from .story import Story


def horizon(story: Story) -> Figure | None:
    """Error over that of the starting model against the time since the last label, and N over the run."""
    if not story.labels:
        return None
    visits = visits_of(story.labels, story.models[0].id, story.config.dynamics.timestep_fs)
    figure, (top, bottom) = panels([2.6, 1.8], share_x=False)
    _scores(top, visits)
    _intervals(bottom, story)
    return figure


def _scores(axes: Axes, visits: Visits) -> None:
    fitted = fit_horizon(visits)
    count = len(visits.time)
    if count:
        axes.plot(visits.time, visits.ratio, "o", color=BLUE, markersize=5, alpha=0.75, label="labels")
    axes.axhline(1.0, color=MUTED, linestyle=":", linewidth=1.2, label="no gain")
    if fitted is not None:
        time = np.linspace(0.0, 1.05 * max(float(visits.time.max()), fitted.time), 200)
        axes.plot(time, 1.0 - fitted.gain * np.exp2(-time / fitted.time), color=ORANGE, label="fit")
        bound = "≥ " if fitted.bounded else ""
        axes.axvline(
            fitted.time, color=RED, linestyle=(0, (6, 2)), linewidth=1.3, label=f"horizon {bound}{fitted.time:.0f} fs"
        )
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("time since the last label (fs)")
    axes.set_ylabel("force RMSE / untrained")
    seen = f"{count} label{'' if count == 1 else 's'} after an update"
    axes.set_title(seen + ("" if fitted else ": no horizon can be told"))
    legend(axes)


def _intervals(axes: Axes, story: Story) -> None:
    steps, used, wanted = intervals(story)
    times = [story.time_of(step) for step in steps]
    axes.step(times, used, where="post", color=GREEN, label="N")
    known = [(time, half) for time, half in zip(times, wanted, strict=True) if half is not None]
    if known:
        axes.plot(*zip(*known, strict=True), "_", color=RED, markersize=9, label="half the horizon then")
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("steps between looks")
    mark_updates(axes, story.accepted_times(), story.refused_times())
    legend(axes)


def intervals(story: Story) -> tuple[list[int], list[int], list[float | None]]:
    """Steps at which N changed, N from there on, and half the horizon that was known then.

    The first is the beginning of the run, the last its end.
    """
    steps, used = [0], [story.config.region.check_every_steps]
    wanted: list[float | None] = [None]
    for event in story.events:
        if event.kind == "interval":
            steps.append(event.step)
            used.append(int(event.data["interval"]))
            horizon_then = event.data.get("horizon")
            wanted.append(None if horizon_then is None else 0.5 * float(horizon_then))
    last = int(story.audit["frames"][-1]["step"])
    return [*steps, max(last, steps[-1])], [*used, used[-1]], [*wanted, None]
