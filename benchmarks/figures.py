"""One form for figures: a table for a person, JSON for a machine; shared by all benchmarks."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qmml_md.analysis.document import versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        id: as in the table it answers.
        what: for a person.
        value: the number.
        unit: of the number.
        goal: in words, empty where there is none.
        met: whether the goal is met; None where there is none.
    """

    id: str
    what: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--quick", action="store_true", help="a small form, for tests")
    options.add_argument("--json", type=Path, metavar="PATH", help="also write the figures as JSON")
    return options


def publish(figures: Sequence[Figure], path: Path | None, title: str) -> None:
    """Print a table and write JSON if a path is given."""
    table = Table(title=title, title_justify="left")
    for column in ("id", "what", "value", "unit", "goal", "met"):
        table.add_column(column)
    for figure in figures:
        met = {True: "yes", False: "NO", None: ""}[figure.met]
        table.add_row(figure.id, figure.what, f"{figure.value:.4g}", figure.unit, figure.goal, met)
    Console(width=140).print(table)
    if path is not None:
        document = {"figures": [asdict(f) for f in figures], "machine": machine(), "versions": versions()}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
