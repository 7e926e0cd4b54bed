"""``qmml weights migrate``: weights for another level of theory, by a shift of their self energies."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..ensemble.card import EnsembleCard
from ..ensemble.migration import Shift, fit_shift, migrate
from ..ensemble.weights import load, load_as_stored, save
from ..errors import RunDirectoryError, WeightsError
from ..reference.label import Label
from ..reference.store import LabelStore
from ..units import EV_PER_HARTREE

MEV_PER_EV = 1000.0


def migrate_weights(name: str, labels: Path, out: Path, console: Console | None = None) -> None:
    """Fit the shift to the labels of a store, write new weights with their card, print what was fitted.

    Args:
        name: published name, or path of a .safetensors file.
        labels: store of labels, all of one level of theory.
        out: new .safetensors file.
        console: where to print; by default standard output.

    Raises:
        WeightsError: there are no such weights, labels of several levels or none that can be used, or ``out`` exists
            or does not end in .safetensors.
        RunDirectoryError: the store is missing or cannot be read.
        ElementError: the weights do not know an element of a label.
    """
    _check_out(out)
    used, left_out = _usable(labels)
    ensemble, parent = load_as_stored(name)
    clusters = [(label.cluster.numbers, label.cluster.positions) for label in used]
    shift = fit_shift(load(name, "double"), clusters, [label.energy for label in used])
    migrated = migrate(ensemble, shift, to_level=asdict(used[0].level), parent=parent)
    digest = save(migrated, out)
    show = console or Console()
    show.print(_table(shift, ensemble.card, migrated.card))
    for line in _lines(shift, left_out):
        show.print(line, highlight=False, markup=False, soft_wrap=True)
    show.print(f"{out}  SHA-256 {digest}", highlight=False, soft_wrap=True)


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise WeightsError(f"--out {out} does not end in .safetensors", cure="name it FILE.safetensors")
    if out.exists() or out.with_suffix(".json").exists():
        raise WeightsError(f"{out} or its card exists already", cure="give another name with --out")
    if not out.resolve().parent.is_dir():
        raise WeightsError(f"there is no folder {out.resolve().parent}", cure="make it first")


def _usable(path: Path) -> tuple[list[Label], int]:
    """Neutral closed-shell labels of a store, and how many others there are: a shift is linear in the composition."""
    if not path.exists():
        raise RunDirectoryError(f"there is no store of labels {path}", cure="give the labels.db of a run")
    labels = LabelStore(path).all()
    levels = sorted({label.level.fingerprint: _name(label) for label in labels}.values())
    if len(levels) > 1:
        raise WeightsError(
            f"{path} holds labels of {len(levels)} levels of theory: {'; '.join(levels)}",
            cure="give the labels.db of a run: it has one level",
        )
    used = [label for label in labels if label.cluster.charge == 0 and label.cluster.multiplicity == 1]
    if not used:
        raise WeightsError(
            f"{path} holds {len(labels)} labels, none of a neutral closed-shell cluster",
            cure="compute some: a run with learning.enabled: false only labels",
        )
    return used, len(labels) - len(used)


def _name(label: Label) -> str:
    level = label.level
    fitted = "with" if level.density_fit else "without"
    kind = "Cartesian" if level.cartesian else "spherical"
    return f"{level.program} {level.method}/{level.basis}, {kind}, {fitted} density fitting, grid {level.grid_level}"


def _lines(shift: Shift, left_out: int) -> list[str]:
    before, after = MEV_PER_EV * shift.before_eV_per_atom, MEV_PER_EV * shift.residual_eV_per_atom
    lines = [
        f"{shift.labels} labels, {shift.rank} independent compositions of {sum(shift.held)} elements",
        f"RMS energy error of the labels: {before:.3f} meV/atom before, {after:.3f} after",
    ]
    if left_out:
        lines.append(f"{left_out} labels of charged or open-shell clusters were left out")
    if not shift.unique:
        lines.append(
            "the compositions decide only combinations of the shifts: the shortest that fit were taken, and a run is "
            "refused whose molecules are not combinations of those labelled"
        )
    return lines


def _table(shift: Shift, before: EnsembleCard, after: EnsembleCard) -> Table:
    table = Table(title=f"Self energies of {after.name}", title_justify="left")
    table.add_column("element")
    for column in ("before, hartree", "shift, hartree", "shift, eV", "after, hartree"):
        table.add_column(column, justify="right")
    table.add_column("labels say")
    rows = zip(
        shift.symbols,
        before.self_energies_hartree,
        shift.hartree,
        after.self_energies_hartree,
        shift.held,
        strict=True,
    )
    for symbol, old, change, new, held in rows:
        says = ("the shift" if shift.unique else "combinations") if held else "nothing"
        numbers = (f"{old:.8f}", f"{change:+.8f}", f"{change * EV_PER_HARTREE:+.6f}", f"{new:.8f}")
        table.add_row(symbol, *numbers, says)
    return table
