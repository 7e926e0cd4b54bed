"""``qmml weights``: what there is, fetching it, and its card."""

import hashlib
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..ensemble import weights


def show_list(console: Console | None = None) -> None:
    """Print the published weights and which are on this machine."""
    table = Table(title="Published weights", title_justify="left")
    for column in ("name", "level of theory", "source", "on this machine"):
        table.add_column(column, overflow="fold")
    for row in weights.available():
        table.add_row(row.name, row.level_of_theory, row.source, str(row.cached) if row.cached else "no")
    (console or Console()).print(table)


def fetch(name: str, console: Console | None = None) -> None:
    """Fetch published weights into the cache and print where they are.

    Raises:
        WeightsError: unknown name, no network, or a download with the wrong hash.
    """
    path = weights.fetch(name)
    (console or Console()).print(str(path), soft_wrap=True, highlight=False)


def show_card(name: str, console: Console | None = None) -> None:
    """Print the card of weights, fetching published ones that are not here yet.

    Raises:
        WeightsError: no such weights, or a file that is none.
    """
    known = {row.name for row in weights.available()}
    card = weights.load(name).card
    path = weights.fetch(name) if name in known else Path(name)
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        "name": card.name,
        "elements": " ".join(card.symbols),
        "members": str(card.members),
        "cutoff": f"{card.cutoff_A} Å",
        "level of theory": card.level_of_theory,
        "migrations": str(len(card.migrations)) if card.migrations else "none",
        "source": card.source,
        "licence": card.license,
        "citation": card.citation,
        "file": str(path),
        "SHA-256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    for key, value in rows.items():
        table.add_row(key, value)
    (console or Console()).print(table)
