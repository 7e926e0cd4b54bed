"""``qmml controls``: what learning is worth, against runs that do not learn, do not doubt, or do not choose."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..config import Config
from ..config_file import load_config
from ..console import duration
from ..engine.rounds import RoundSummary, labels_of, summarise, unseen_scores, with_budget
from ..errors import ConfigError
from .files import write_json
from .runs import STOPPED
from .series import bind, conduct

SUMMARY = "controls.json"
FIRST = "none"
#: Values of learning.control, and what a person calls them.
CONTROLS = {
    FIRST: "as configured",
    "no_retraining": "no re-training",
    "single_member": "single member",
    "random_picking": "random picking",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of the comparison.

    Attributes:
        control: value of learning.control.
        summary: what it came to.
        unseen: labels of the other runs that this one was not trained on.
        unseen_force_rmse, unseen_force_rmse_start: force RMSE on them of its final model and of the model that it began
            with, eV/Å; NaN without any.
    """

    control: str
    summary: RoundSummary
    unseen: int
    unseen_force_rmse: float
    unseen_force_rmse_start: float

    @property
    def gain(self) -> float:
        """Error of the final model over that of the first one, on labels that neither saw."""
        return self.unseen_force_rmse / self.unseen_force_rmse_start


def run_controls(config_path: Path, *, out: Path) -> int:
    """Run a configuration as it stands, and its three controls with as many labels. Finished runs are not run again.

    Returns:
        0 when all four are done, 75 after a signal.

    Raises:
        ConfigError: the configuration has mistakes, is a control itself, or asks for no label.
        RunDirectoryError: the folder is taken.
    """
    config, show = load_config(config_path), Console()
    _check(config)
    head = bind(out, SUMMARY, config)
    if not conduct(config, config_path.resolve().parent, out / FIRST, title=CONTROLS[FIRST], show=show):
        return STOPPED
    count = summarise(out / FIRST).labels
    if count == 0:
        raise ConfigError(
            "the run asked for no label: there is nothing to compare",
            cure="lower region.enter_eV_per_A, or run more steps, and give another folder with --out",
        )
    # Each equilibrates by itself with the same seed: step 0 and the anchors are the same for all that share a surface.
    # Begun at a frame of the first run, the controls would have to learn without anchors.
    for control in list(CONTROLS)[1:]:
        if not conduct(
            controlled(config, control, count),
            config_path.resolve().parent,
            out / control,
            title=CONTROLS[control],
            show=show,
        ):
            return STOPPED
    rows = _rows(out)
    write_json(out / SUMMARY, {**head, **_content(rows, count)})
    show.print(_table(rows, count))
    show.print(f"summary: {out / SUMMARY}", highlight=False, markup=False, soft_wrap=True)
    return 0


def controlled(config: Config, control: str, count: int) -> Config:
    """The same run under a control, with at most ``count`` labels."""
    learning = config.learning.model_copy(update={"control": control})
    return with_budget(config.model_copy(update={"learning": learning}), count)


def _check(config: Config) -> None:
    if config.learning.control != FIRST or not config.learning.enabled:
        raise ConfigError(
            "the configuration does not learn as it stands",
            cure="set learning.control: none and learning.enabled: true; the controls are made from it",
        )
    if config.reference.max_labels == 0:
        raise ConfigError("reference.max_labels is 0: there is nothing to compare", cure="give 1 or more")


def _rows(out: Path) -> list[Row]:
    rows = []
    for control in CONTROLS:
        others = [out / other for other in CONTROLS if other != control]
        new, start, count = unseen_scores(out / control, others, apart=labels_of(out / control)[0])
        rows.append(
            Row(
                control=control,
                summary=summarise(out / control),
                unseen=count,
                unseen_force_rmse=new.force_rmse,
                unseen_force_rmse_start=start.force_rmse,
            )
        )
    return rows


def _content(rows: list[Row], count: int) -> dict[str, Any]:
    return {
        "max_labels": count,
        "units": {"paid_s": "s", "force_rmse": "eV/Å", "force_rmse_start": "eV/Å", "unseen_force_rmse": "eV/Å"},
        "controls": [{**asdict(row), "unseen_ratio": row.gain} for row in rows],
    }


def _table(rows: list[Row], count: int) -> Table:
    table = Table(title=f"Controls at {count} labels", title_justify="left")
    table.add_column("run")
    for column in ("labels", "paid", "updates", "prequential / start, eV/Å", "unseen labels", "final / start, eV/Å",
                   "ratio"):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        s = row.summary
        table.add_row(
            CONTROLS[row.control], str(s.labels), f"{s.paid}, {duration(s.paid_s)}",
            f"{s.accepted} accepted, {s.refused} refused", f"{s.force_rmse:.4f} / {s.force_rmse_start:.4f}",
            str(row.unseen), f"{row.unseen_force_rmse:.4f} / {row.unseen_force_rmse_start:.4f}", f"{row.gain:.3f}",
        )  # fmt: skip
    table.caption = "unseen: labels of the other runs that this one was not trained on; ratio: final over start"
    return table
