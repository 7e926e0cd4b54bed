"""``qmml learn``: run, audit, and run again on the final model, until the audit passes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..config import Config
from ..config_file import load_config
from ..console import duration
from ..engine.rounds import RoundSummary, again, labels_of, summarise
from ..errors import ConfigError
from ..records.run_directory import RunDirectory
from .audit import audit_and_report
from .files import read_json, write_json
from .runs import STOPPED
from .series import bind, conduct

SUMMARY = "rounds.json"
PASSED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round and its audit.

    Attributes:
        number: from 1.
        run: its folder.
        summary: what it came to.
        verdict: of the audit.
        exit_code: of the audit: 0 pass, 1 fail, 2 undecided.
        final_force_rmse, final_force_maxresid: of the forces that moved the atoms against the final model, eV/Å.
    """

    number: int
    run: Path
    summary: RoundSummary
    verdict: str
    exit_code: int
    final_force_rmse: float | None
    final_force_maxresid: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "run": self.run.name}


def learn(config_path: Path, *, rounds: int, out: Path) -> int:
    """Repeat run, audit, and run again on the final model. A finished round is not run again.

    Args:
        config_path: configuration of the first round.
        rounds: most rounds.
        out: folder of the series.

    Returns:
        0 when an audit passed; otherwise what the last audit came to, 1 fail or 2 undecided; 75 after a signal.

    Raises:
        ConfigError: the configuration has mistakes, or the series was begun with another one.
        RunDirectoryError: the folder is taken.
    """
    if rounds < 1:
        raise ConfigError(f"--rounds {rounds} is no number of rounds", cure="give 1 or more")
    config, show = load_config(config_path), Console()
    head, done = bind(out, SUMMARY, config), []
    for number in range(1, rounds + 1):
        found = _round(config, config_path.resolve().parent, out, number, show)
        if found is None:
            return STOPPED
        done.append(found)
        write_json(out / SUMMARY, {**head, **_content(done)})
        if found.exit_code == PASSED or found.summary.idle:
            break
    show.print(_table(done))
    for line in _lines(done, rounds, out):
        show.print(line, highlight=False, markup=False, soft_wrap=True)
    return done[-1].exit_code


def folder_of(out: Path, number: int) -> Path:
    """The run directory of a round."""
    return out / f"round-{number:02d}"


def _round(config: Config, config_dir: Path, out: Path, number: int, show: Console) -> Round | None:
    """Run a round and audit it, whichever is not done yet; None if a signal ended it."""
    folder, title = folder_of(out, number), f"round {number}"
    known: list[str] = []
    if number == 1:
        finished = conduct(config, config_dir, folder, title=title, show=show)
    else:
        last = folder_of(out, number - 1)
        trained, held_out = labels_of(last)
        known = [*trained, *held_out]
        next_config, base, origin = again(last, config.reference.max_labels)
        finished = conduct(next_config, base, folder, title=title, show=show, origin=origin)
    if not finished:
        return None
    run = RunDirectory(folder)
    if not (run.audit / "audit.json").exists():
        audit_and_report(run, show)
    audit = read_json(run.audit / "audit.json")
    findings = {each["name"]: each["value"] for each in audit["findings"]}
    return Round(
        number=number,
        run=folder,
        summary=summarise(folder, known),
        verdict=audit["verdict"],
        exit_code=audit["exit_code"],
        final_force_rmse=findings.get("force_rmse"),
        final_force_maxresid=findings.get("force_maxresid"),
    )


def _content(done: list[Round]) -> dict[str, Any]:
    last = done[-1]
    return {
        "units": {"paid_s": "s", "force_rmse": "eV/Å", "force_rmse_start": "eV/Å", "final_force_rmse": "eV/Å"},
        "rounds": [each.plain() for each in done],
        "verdict": last.verdict,
        "final_weights": str(RunDirectory(last.run).model(last.summary.final_model).relative_to(last.run.parent)),
    }


def _lines(done: list[Round], rounds: int, out: Path) -> list[str]:
    last = done[-1]
    if last.exit_code == PASSED:
        outcome = f"the audit passed in round {last.number}"
    elif last.summary.idle:
        outcome = f"round {last.number} computed no label and kept its model: another would be the same run"
    else:
        outcome = f"the audit did not pass within {rounds} rounds; a larger --rounds goes on"
    weights = RunDirectory(last.run).model(last.summary.final_model)
    return [outcome, f"final weights: {weights}", f"summary: {out / SUMMARY}"]


def _table(done: list[Round]) -> Table:
    table = Table(title="Rounds", title_justify="left")
    table.add_column("round", justify="right")
    for column in (
        "labels", "replayed", "paid", "updates", "prequential / start, eV/Å", "against the final model, eV/Å",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    table.add_column("audit")
    for each in done:
        s = each.summary
        labels = f"{s.labels} ({s.held_out} held out)" if s.held_out else str(s.labels)
        final = "—" if each.final_force_rmse is None else f"{each.final_force_rmse:.4f}"
        table.add_row(
            str(each.number), labels, str(s.replayed), f"{s.paid}, {duration(s.paid_s)}",
            f"{s.accepted} accepted, {s.refused} refused",
            f"{s.force_rmse:.4f} / {s.force_rmse_start:.4f}" if s.labels else "—", final, each.verdict,
        )  # fmt: skip
    return table
