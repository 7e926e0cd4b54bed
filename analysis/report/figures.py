"""The look of the figures, and how they become files and inline SVG.

Matplotlib's object interface is used without pyplot, so that nothing is global. Axes, text and grid are drawn in three
placeholder colours; inline they become the page's own variables and follow its light or dark scheme. Data are drawn in
the palette of Okabe and Ito, which stays distinct for the colour-blind.
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"
INK, MUTED, GRID = "#1b2129", "#68717d", "#dfe3e8"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
CLASS_COLOURS = {"core": RED, "buffer": SKY, "rest": GREEN}

STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 9.5,
    "figure.constrained_layout.use": True,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the look of the report."""
    with mpl.rc_context():
        # A reader's own matplotlibrc must not change a report.
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def panels(heights: Iterable[float], *, width: float = 9.0, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of panels one above the other, with the given heights in inches."""
    sizes = list(heights)
    figure = Figure(figsize=(width, sum(sizes)))
    grid = figure.subplots(len(sizes), 1, sharex=share_x, squeeze=False, height_ratios=sizes)
    return figure, [row[0] for row in grid]


def legend(axes: Axes, columns: int = 6) -> None:
    """Put the legend above the panel, at its right end."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderaxespad=0.1, handlelength=1.4)


def plain_log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def mark_updates(axes: Axes, accepted: Iterable[float], refused: Iterable[float]) -> None:
    """Mark accepted updates by a dashed line and refused ones by a cross at the foot of the panel."""
    for time in accepted:
        axes.axvline(time, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    times = list(refused)
    if times:
        transform = axes.get_xaxis_transform()
        axes.plot(times, [0.03] * len(times), "x", color=MUTED, markersize=5, transform=transform, clip_on=False)


def save_svg(figure: Figure, path: Path, name: str) -> None:
    """Write a figure as a file that stands alone on white; equal figures give equal files."""
    path.write_text(_svg(figure, name, facecolor="white"), encoding="utf-8")


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an SVG element for a page: no fixed size, unique ids, colours of the page."""
    text = _svg(figure, name, transparent=True)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _svg(figure: Figure, name: str, **options: Any) -> str:
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "qmml-md"}, **options)
    text = buffer.getvalue()
    # Matplotlib makes ids from hashes of coordinates, which the layout solver gives only up to the last bit.
    for number, old in enumerate(dict.fromkeys(re.findall(r'id="([a-z][0-9a-f]{10})"', text))):
        text = text.replace(old, f"shared-{number}")
    return text
