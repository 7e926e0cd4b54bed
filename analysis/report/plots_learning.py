"""The figures of the report that show the region and what was learned from it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from .figures import BLUE, GRID, INK, MUTED, ORANGE, PURPLE, RED, SKY, legend, mark_updates, panels, plain_log_ticks
from .story import Story

MOST_ROWS = 32


def disagreement(story: Story) -> Figure | None:
    """Disagreement of the ensemble against its true force error, atom by atom, before training."""
    sigma, error, core = pooled(story)
    if len(sigma) == 0:
        return None
    figure, (axes,) = panels([4.6], width=6.4)
    for chosen, colour, label in ((~core, SKY, "buffer"), (core, RED, "core")):
        axes.scatter(sigma[chosen], error[chosen], s=26, color=colour, label=f"{label} atoms", alpha=0.75, linewidths=0)
    low, high = _range(np.concatenate([sigma, error]))
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1.0, linestyle=":", label="error = disagreement")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    plain_log_ticks(axes.xaxis)
    plain_log_ticks(axes.yaxis)
    axes.set_xlabel("disagreement σ of the ensemble (eV/Å)")
    axes.set_ylabel("true force error |F_QM − F_ML| (eV/Å)")
    axes.set_title(spearman_text(sigma, error))
    axes.legend(loc="lower right")
    return figure


def pooled(story: Story) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """σ, true error (eV/Å) and whether core, of all atoms of all labels that have both numbers."""
    rows = [
        (s, e, c)
        for label in story.labels
        for s, e, c in zip(label.data["sigma"], label.data["error"], label.data["core"], strict=True)
        if s is not None and e is not None and s > 0.0 and e > 0.0
    ]
    sigma, error, core = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.empty(0),) * 3
    return sigma, error, core.astype(bool)


def spearman_text(sigma: np.ndarray, error: np.ndarray) -> str:
    """Rank correlation in words; none for fewer than three atoms or a constant."""
    if len(sigma) < 3 or np.ptp(sigma) == 0.0 or np.ptp(error) == 0.0:
        return f"{len(sigma)} atoms: too few to rank"
    return f"Spearman ρ = {stats.spearmanr(sigma, error).statistic:.2f} over {len(sigma)} atoms"


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()) / 1.4, float(values.max()) * 1.4


def region(story: Story) -> Figure | None:
    """Who was core and who was buffer, when; disagreement against the thresholds."""
    rows, columns = spans(story)
    if not rows:
        return None
    figure, (top, bottom) = panels([0.24 * len(rows) + 0.7, 1.9])
    for y, name in enumerate(rows):
        for start, length, core in columns[name]:
            top.broken_barh([(start, length)], (y - 0.4, 0.8), color=RED if core else SKY, linewidth=0)
    top.set_yticks(range(len(rows)), rows, fontsize=8.5)
    top.set_ylim(len(rows) - 0.4, -0.6)
    top.grid(visible=False, axis="y")
    for label, colour in (("holds a core atom", RED), ("buffer", SKY)):
        top.plot([], [], "s", color=colour, markersize=8, label=label)
    labelled = [story.time_of(row.step) for row in story.labels]
    if labelled:
        transform = top.get_xaxis_transform()
        top.plot(labelled, [0.0] * len(labelled), "^", color=INK, markersize=6, transform=transform, clip_on=False,
                 label="quantum label")  # fmt: skip
    legend(top)
    _thresholds(bottom, story)
    return figure


def _thresholds(axes: Axes, story: Story) -> None:
    time, largest = story.series("time_ps"), story.series("max_disagreement")
    known = np.isfinite(largest)
    axes.plot(time[known], largest[known], color=PURPLE, marker="o", markersize=3, label="largest σ of any atom")
    chosen = story.config.region
    axes.axhline(chosen.enter_eV_per_A, color=RED, linestyle=(0, (6, 2)), linewidth=1.3, label="enter")
    axes.axhline(chosen.stay_eV_per_A, color=ORANGE, linestyle=(0, (2, 2)), linewidth=1.3, label="stay")
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("disagreement (eV/Å)")
    axes.set_xlabel("time (ps)")
    mark_updates(axes, story.accepted_times(), story.refused_times())
    legend(axes)


def spans(story: Story) -> tuple[list[str], dict[str, list[tuple[float, float, bool]]]]:
    """Rows of the timeline (molecules; atoms if there is one molecule) and for each (start, length, core) in ps."""
    who = story.names
    one = len(who.molecules) == 1
    labels = who.atoms if one else who.molecules
    owner = range(len(who.atoms)) if one else who.molecule_of
    last = story.audit["frames"][-1]["step"]
    ends = [row.step for row in story.regions[1:]] + [last]
    found: dict[int, list[tuple[float, float, bool]]] = {}
    for row, end in zip(story.regions, ends, strict=False):
        start, stop = story.time_of(row.step), story.time_of(end)
        if stop <= start:
            # A region that came with the last frame has no duration to draw.
            continue
        cores = {owner[i] for i in row.core}
        for k in sorted({owner[i] for i in row.atoms}):
            found.setdefault(k, []).append((start, stop - start, k in cores))
    longest = sorted(found, key=lambda k: -sum(length for _, length, _ in found[k]))[:MOST_ROWS]
    order = sorted(longest, key=lambda k: (found[k][0][0], k))
    names = {k: labels[k] if labels.count(labels[k]) == 1 else f"{labels[k]} ({k})" for k in order}
    return [names[k] for k in order], {names[k]: found[k] for k in order}


def prequential(story: Story) -> Figure | None:
    """Error of the model on each label before it was trained on it."""
    if not story.labels:
        return None
    figure, (axes,) = panels([2.3])
    time = [story.time_of(row.step) for row in story.labels]
    axes.plot(time, [row.data["force_maxresid"] for row in story.labels], "^", color=SKY, label="largest component")
    axes.plot(time, [row.data["force_rmse"] for row in story.labels], "o-", color=BLUE, label="RMSE")
    start = [row.data.get("force_rmse_start", np.nan) for row in story.labels]
    axes.plot(time, start, "s:", color=MUTED, label="RMSE of the starting model")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("force error (eV/Å)")
    mark_updates(axes, story.accepted_times(), story.refused_times())
    legend(axes)
    return figure


def learning(story: Story) -> Figure | None:
    """Fit of each update to its labels against the optimiser's epochs; refused ones dashed."""
    attempts = [attempt for attempt in story.attempts if len(attempt.curve)]
    if not attempts:
        return None
    figure, both = panels([2.2, 2.2])
    chosen = story.config.learning
    columns = ((1, chosen.force_rmse_eV_per_A, "RMSE"), (2, chosen.force_maxresid_eV_per_A, "Largest component"))
    for axes, (column, tolerance, title) in zip(both, columns, strict=True):
        for k, attempt in enumerate(attempts):
            fade = 0.35 + 0.65 * (k + 1) / len(attempts)
            dashes = "-" if attempt.accepted else (0, (3, 2))
            axes.plot(
                attempt.curve[:, 0], attempt.curve[:, column], color=BLUE if attempt.accepted else RED, alpha=fade,
                linestyle=dashes, linewidth=1.5,
            )  # fmt: skip
        axes.axhline(tolerance, color=ORANGE, linestyle=(0, (6, 2)), linewidth=1.4, label="tolerance")
        axes.plot([], [], color=BLUE, label="accepted (later ones darker)")
        if any(not attempt.accepted for attempt in attempts):
            axes.plot([], [], color=RED, linestyle=(0, (3, 2)), label="refused")
        axes.set(yscale="log", title=title, ylabel="on the labels (eV/Å)")
        plain_log_ticks(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, which="minor", axis="y", color=GRID, linewidth=0.4)
        legend(axes)
    both[-1].set_xlabel("epochs of the optimiser")
    return figure
