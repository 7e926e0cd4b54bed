"""The figures of the report that show the trajectory: energies, forces, temperature, and where the time went."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...config import THERMOSTATS
from .figures import (
    BLUE,
    CLASS_COLOURS,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    legend,
    mark_updates,
    panels,
)
from .story import Story


def energies(story: Story) -> Figure:
    """K and U_used; H̃ and H_f on a scale of their own; all as changes since the first frame."""
    time = story.series("time_ps")
    figure, (top, middle, bottom) = panels([2.1, 1.9, 1.7])
    for name, label, colour in (("kinetic", "kinetic K", GREEN), ("potential_used", "potential U used", PURPLE)):
        when, values = _broken(story, name) if name == "potential_used" else (time, story.series(name))
        top.plot(when, values - values[0], color=colour, label=label, marker="o", markersize=2.2)
    top.set_title("What moved")
    middle.plot(time, _change(story, "conserved"), color=BLUE, label="conserved H̃ = K + U − Σ exchanges")
    _trend(middle, story, "conserved", BLUE)
    middle.set_title("What must stay flat")
    bottom.plot(time, _change(story, "final_total"), color=RED, label="K + U of the final model, H_f")
    bottom.set_title("Seen with the final model")
    for axes in (top, middle, bottom):
        axes.set_ylabel("change (kJ/mol)")
        mark_updates(axes, story.accepted_times(), story.refused_times() if axes is top else [])
        _mark_takeovers(axes, story)
        legend(axes)
    bottom.set_xlabel("time (ps)")
    return figure


def _mark_takeovers(axes: Axes, story: Story) -> None:
    """Shade ramps from one model to the next, and mark where a discarded stretch was run again."""
    for k, (begin, end) in enumerate(story.ramps()):
        axes.axvspan(begin, end, color=ORANGE, alpha=0.18, linewidth=0, label=None if k else "ramp")
    again = [story.time_of(step) for _, step in story.rewinds()]
    if again:
        transform = axes.get_xaxis_transform()
        axes.plot(again, [0.97] * len(again), "<", color=PURPLE, markersize=6, transform=transform, clip_on=False,
                  label="run again from here")  # fmt: skip


def _broken(story: Story, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a column with a gap wherever the model changed: no line may bridge a jump."""
    frames = story.audit["frames"]
    gaps = [i for i in range(1, len(frames)) if frames[i]["model"] != frames[i - 1]["model"]]
    return np.insert(story.series("time_ps"), gaps, np.nan), np.insert(story.series(name), gaps, np.nan)


def _change(story: Story, name: str) -> np.ndarray:
    series = story.series(name)
    result: np.ndarray = series - series[0]
    return result


def _trend(axes: Axes, story: Story, name: str, colour: str) -> None:
    line = story.audit["drift"][name]
    if line["value"] is None:
        return
    time, change = story.series("time_ps"), _change(story, name)
    middle = np.nanmean(time)
    fit = np.nanmean(change) + line["value"] * (time - middle)
    axes.plot(time, fit, color=colour, linewidth=1.0, linestyle=":", label="fitted slope")
    if line["half_width"] is not None:
        half = line["half_width"] * np.abs(time - middle)
        axes.fill_between(time, fit - half, fit + half, color=colour, alpha=0.12, linewidth=0)


def force_errors(story: Story) -> Figure:
    """Difference of the forces that moved the atoms to the final model's, against the tolerances."""
    tolerances = story.audit["tolerances"]
    figure, (top, bottom) = panels([2.5, 1.9])
    for name, colour in CLASS_COLOURS.items():
        when, series = _broken(story, f"force_rmse_{name}")
        if np.isfinite(series).any():
            top.plot(when, series, color=colour, label=name, linewidth=1.3, marker="o", markersize=2.2)
    top.plot(*_broken(story, "force_rmse"), color=INK, label="all atoms", linewidth=2.0, marker="o", markersize=2.6)
    bottom.plot(*_broken(story, "force_maxresid"), color=INK, label="largest component", marker="o", markersize=2.6)
    for axes, key, title in (
        (top, "force_rmse_eV_per_A", "RMSE"),
        (bottom, "force_maxresid_eV_per_A", "Largest component"),
    ):
        axes.axhline(tolerances[key], color=ORANGE, linewidth=1.4, linestyle=(0, (6, 2)), label="tolerance")
        axes.set_ylabel("difference (eV/Å)")
        axes.set_title(title)
        axes.set_ylim(bottom=0.0)
        mark_updates(axes, story.accepted_times(), [])
        _mark_first_out(axes, story)
        legend(axes)
    bottom.set_xlabel("time (ps)")
    return figure


def _mark_first_out(axes: Axes, story: Story) -> None:
    step = story.audit["first_out_of_tolerance"]
    if step is not None:
        when = story.time_of(step)
        axes.axvline(when, color=RED, linewidth=1.2)
        axes.plot([when], [1.0], "v", color=RED, markersize=8, transform=axes.get_xaxis_transform(), clip_on=False)
        axes.plot([], [], "v", color=RED, markersize=7, label="first out of tolerance")


def temperature(story: Story) -> Figure:
    """Instantaneous temperature."""
    figure, (axes,) = panels([2.1])
    axes.plot(story.series("time_ps"), story.series("temperature_K"), color=GREEN, label="instantaneous")
    target = story.config.dynamics.temperature_K
    thermostat = story.config.dynamics.integrator in THERMOSTATS
    meaning = "thermostat" if thermostat else "initial velocities drawn at"
    axes.axhline(target, color=ORANGE, linestyle=(0, (6, 2)), linewidth=1.4, label=f"{meaning} {target:g} K")
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("temperature (K)")
    mark_updates(axes, story.accepted_times(), [])
    legend(axes)
    return figure


def timings(story: Story) -> Figure | None:
    """Wall time of each part of the run and of its audit."""
    parts = {name: seconds for name, (seconds, _) in story.timings.items() if seconds > 0.0}
    parts.setdefault("audit", float(story.audit["wall_time_s"]))
    ordered = sorted(parts.items(), key=lambda item: item[1])
    total = sum(parts.values())
    figure, (axes,) = panels([0.34 * len(ordered) + 0.7])
    bars = axes.barh([name for name, _ in ordered], [seconds for _, seconds in ordered], color=BLUE, height=0.62)
    texts = [f"{seconds:.3g} s · {100 * seconds / total:.0f} %" for _, seconds in ordered]
    axes.bar_label(bars, texts, padding=5, color=MUTED)
    axes.margins(x=0.14)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xlabel("wall time (s)")
    return figure
