"""The report: one self-contained page for a person, from the last audit and the tables of the run."""

import math
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ...errors import AuditError
from ...records.run_directory import RunDirectory
from . import plots, plots_calibration, plots_horizon, plots_learning
from .figures import inline_svg, save_svg, style
from .glance import glance, headlines, hindsight_rows, label_rows, ledger_rows, update_rows
from .story import Story, read_story

#: Name, function, title and caption of each figure, in the order of the page.
FIGURES: tuple[tuple[str, Callable[[Story], Figure | None], str, str], ...] = (
    (
        "energies",
        plots.energies,
        "Energies",
        "Changes since the first frame. Dashed lines are accepted updates of the model, crosses refused ones. H̃ has "
        "every booked exchange taken out and must be flat; the band is the 95 % interval of its slope. H_f moves where "
        "the final model disagrees with the one that moved the atoms, and where heat is exchanged. Shaded parts are "
        "ramps from one model to the next.",
    ),
    (
        "force_errors",
        plots.force_errors,
        "Forces used against the final model",
        "Zero where the final model itself moved the atoms. Elsewhere they were moved by models that the run has since "
        "replaced; gaps are changes of model.",
    ),
    (
        "region",
        plots_learning.region,
        "Where quantum mechanics looked",
        "Rows are molecules that were ever part of Region A (atoms, where there is one molecule), in the order in "
        "which they came. Below, the largest disagreement of any atom, and the thresholds for entering and staying.",
    ),
    (
        "disagreement",
        plots_learning.disagreement,
        "Disagreement against true error",
        "Atoms of all labelled clusters, scored before the model was trained on them. Disagreement ranks atoms; it is "
        "no error bar until it is calibrated.",
    ),
    (
        "calibration",
        plots_calibration.calibration,
        "What was foretold against what came true",
        "Expected force error and its upper bound, as known before each label, against the error that the label "
        "revealed. Nine atoms in ten should lie below the dotted line. Upper left of the two target lines are misses: "
        "errors above the target that the bound did not announce. Below, the share of atoms within their bound.",
    ),
    (
        "prequential",
        plots_learning.prequential,
        "Error on each label before it was trained on",
        "The only unbiased error of a run that learns. It falls if what was learned carries over to new "
        "configurations.",
    ),
    (
        "horizon",
        plots_horizon.horizon,
        "How long a label holds",
        "Error on each label before it was trained on, divided by that of the starting model, against the time since "
        "the last label. At the horizon half of what learning brought is lost again; the interval N between looks "
        "follows half the horizon.",
    ),
    (
        "learning",
        plots_learning.learning,
        "Learning curves",
        "Fit to the labels while each update was trained. A good fit is not yet a good model: that is what the figure "
        "before shows, and why an update can be refused.",
    ),
    ("temperature", plots.temperature, "Temperature", "Of all degrees of freedom, at the stored frames."),
    ("timings", plots.timings, "Where the time went", "Wall time of each part, summed over restarts."),
)

ABSENT = {
    "region": "No atom was in Region A for any time.",
    "disagreement": "No label was computed, so there is no true error to compare with.",
    "calibration": "No label was computed.",
    "prequential": "No label was computed.",
    "horizon": "No label was computed.",
    "learning": "No update was attempted.",
}


def write_report(run: RunDirectory) -> Path:
    """Write ``audit/report.html`` and ``audit/figures/*.svg`` from the last audit.

    Args:
        run: a run that has been audited.

    Returns:
        Path of the page.

    Raises:
        AuditError: there is no audit yet, or the folder cannot be written.
        RunDirectoryError: this is no run directory.
    """
    story = read_story(run)
    page = run.audit / "report.html"
    try:
        drawn = draw(story, run.audit / "figures")
        part = page.with_suffix(".html.part")
        part.write_text(render(story, drawn), encoding="utf-8")
        part.replace(page)
    except OSError as error:
        raise AuditError(
            f"cannot write the report to {page.parent}: {error.strerror}",
            cure="make the folder writable, or free space",
        ) from error
    return page


def draw(story: Story, folder: Path) -> list[dict[str, Any]]:
    """Draw every figure, save it in ``folder``, and return what the page needs of it."""
    folder.mkdir(exist_ok=True)
    drawn = []
    for name, function, title, caption in FIGURES:
        with style():
            figure = function(story)
            svg = None
            if figure is not None:
                save_svg(figure, folder / f"{name}.svg", name)
                # Matplotlib escapes every text that it draws; nothing else of the run is in the element.
                svg = Markup(inline_svg(figure, name, title))  # noqa: S704
        drawn.append(
            {"name": name, "title": title, "caption": caption, "svg": svg, "absent": ABSENT.get(name, "No data.")}
        )
    return drawn


def render(story: Story, drawn: list[dict[str, Any]]) -> str:
    """Fill the template; every text of the run is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(sig=significant, whole=whole, capitalize_first=capitalize_first)
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    audit = story.audit
    return template.render(
        audit=audit,
        title=audit["system"]["title"] or f"{audit['system']['formula']}, {audit['system']['atoms']} atoms",
        headlines=headlines(story),
        glance=glance(story),
        figures=drawn,
        updates=update_rows(story),
        labels=label_rows(story),
        hindsight=hindsight_rows(story),
        root=str(story.root),
        ledger=ledger_rows(story),
        worst=[{**row, "name": story.names.atoms[row["atom"]]} for row in audit["worst_atoms"]],
    )


def significant(value: float | None, digits: int = 3) -> str:
    """A number with few digits and a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}g}".replace("-", "−")


def capitalize_first(text: str) -> str:
    """The same with its first letter in upper case; no other letter changes, as symbols have a case of their own."""
    return text[:1].upper() + text[1:]


def whole(value: int | None) -> str:
    """An integer with thin spaces between thousands; a dash where there is none."""
    return "–" if value is None else f"{value:,}".replace(",", "\u2009")
