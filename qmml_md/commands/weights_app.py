"""The commands of ``qmml weights``. Each imports what it needs when it is called."""

from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(
    no_args_is_help=True, help="Model weights: what there is, fetching it, its card, and another level of theory."
)


@weights_app.command("list")
def weights_list() -> None:
    """List the published weights and which are on this machine."""
    from .weights import show_list

    show_list()


@weights_app.command("fetch")
def weights_fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="For example `ani1x`.")]) -> None:
    """Fetch published weights into the cache."""
    from .weights import fetch

    fetch(name)


@weights_app.command("show")
def weights_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Published name, or path of a .safetensors file.")],
) -> None:
    """Show the card of weights: elements, cutoff, level of theory, source, hash."""
    from .weights import show_card

    show_card(name)


@weights_app.command("migrate")
def weights_migrate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Published name, or path of a .safetensors file.")],
    labels: Annotated[
        Path,
        typer.Option("--labels", metavar="LABELS.db", help="Labels at the new level of theory: a run's labels.db."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.safetensors", help="Weights file to write.")],
) -> None:
    """Shift the self energies of weights to another level of theory; the forces stay the same to the bit."""
    from .migrate import migrate_weights

    migrate_weights(name, labels, out)
