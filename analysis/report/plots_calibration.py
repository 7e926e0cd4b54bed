"""The figure of the calibration: what was foretold of each atom against the error that its label revealed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..calibration import PROMISED, Foretold, foretold, scores, target_of
from .figures import BLUE, GREEN, MUTED, ORANGE, RED, SKY, legend, panels, plain_log_ticks
from .story import Story

#: Coverage that counts as kept.
KEPT = (0.85, 0.95)


def calibration(story: Story) -> Figure | None:
    """Bound and expected error against true error, and coverage as labels came."""
    if not story.labels:
        return None
    told, target = foretold(story.labels), target_of(story.config.region)
    figure, (top, bottom) = panels([4.4, 1.9], share_x=False)
    _atoms(top, told, target)
    _coverage(bottom, story, told)
    return figure


def _atoms(axes: Axes, told: Sequence[Foretold], target: float) -> None:
    axes.set_xlabel("foretold force error (eV/Å)")
    axes.set_ylabel("true force error (eV/Å)")
    if not told:
        axes.set_title("No label was foretold")
        return
    expected, bound, error = (np.concatenate([getattr(one, k) for one in told]) for k in ("expected", "bound", "error"))
    axes.scatter(expected, error, s=12, color=MUTED, alpha=0.35, linewidths=0, label="expected error")
    inside = error <= bound
    for chosen, colour, label in ((inside, SKY, "bound, kept"), (~inside, RED, "bound, broken")):
        axes.scatter(bound[chosen], error[chosen], s=22, color=colour, alpha=0.75, linewidths=0, label=label)
    told_range, seen = np.concatenate([expected, bound, [target]]), np.concatenate([error[error > 0.0], [target]])
    across, up = ((float(values.min()) / 1.4, float(values.max()) * 1.4) for values in (told_range, seen))
    axes.plot(across, across, color=MUTED, linewidth=1.0, linestyle=":")
    for line in (axes.axvline, axes.axhline):
        line(target, color=ORANGE, linewidth=1.0, linestyle=(0, (6, 2)))
    axes.plot([], [], color=ORANGE, linestyle=(0, (6, 2)), label="target")
    axes.set(xscale="log", yscale="log", xlim=across, ylim=up)
    plain_log_ticks(axes.xaxis)
    plain_log_ticks(axes.yaxis)
    found = scores(told, target)
    axes.set_title(f"{found.coverage:.0%} within the bound · {found.miss_rate:.1%} missed · {found.atoms} atoms")
    axes.legend(loc="upper left")


def _coverage(axes: Axes, story: Story, told: Sequence[Foretold]) -> None:
    time = [story.time_of(one.step) for one in told]
    each = np.array([one.coverage for one in told])
    atoms = np.array([len(one.error) for one in told], dtype=np.float64)
    axes.axhspan(*KEPT, color=GREEN, alpha=0.15, linewidth=0, label="85 … 95 %")
    axes.axhline(PROMISED, color=GREEN, linewidth=1.0, linestyle=":")
    if len(told):
        axes.plot(time, each, "o", color=SKY, markersize=4, label="each label")
        axes.plot(time, np.cumsum(each * atoms) / np.cumsum(atoms), color=BLUE, label="all so far")
    axes.set_ylim(0.0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("within the bound")
    legend(axes)
