"""``qmml audit --trajectory``: the audit of a trajectory that another program made."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..console import counting
from ..errors import AuditError
from .audit import show_checks, verdict_table

if TYPE_CHECKING:
    from ..analysis.foreign.audit import ForeignAudit


def audit_trajectory(
    trajectory: Sequence[Path],
    *,
    weights: str,
    topology: Path | None = None,
    units: Sequence[str] = (),
    spacing_fs: float | None = None,
    ensemble: Literal["nve", "nvt"] | None = None,
    out: Path | None = None,
) -> int:
    """Audit a trajectory with a weights file, print the outcome, write audit.json.

    Args:
        trajectory: one H5MD or extended XYZ file, or a DCD and the table of its energies.
        weights: published name, or path of a .safetensors file.
        topology: structure file with the same atoms, where the trajectory does not name the elements.
        units: ``QUANTITY=UNIT`` each, where the files leave a unit open.
        spacing_fs: time between frames, where the files hold none.
        ensemble: what the run sampled; without it conservation is not judged.
        out: folder for audit.json; by default ``NAME.audit`` beside the trajectory.

    Returns:
        0 pass, 1 fail, 2 undecided.

    Raises:
        AuditError: the files cannot be read, or leave something open.
        WeightsError: there are no such weights.
    """
    from ..analysis.foreign.audit import audit_foreign, read_foreign
    from ..analysis.foreign.checks import Options

    console = Console()
    foreign = read_foreign(trajectory, topology=topology, units=_declared(units), spacing_fs=spacing_fs)
    from ..ensemble.weights import load

    model = load(weights, "double")
    folder = out or trajectory[0].with_name(f"{trajectory[0].name}.audit")
    with counting("audit: frames") as progress:
        result = audit_foreign(foreign, model, options=Options(ensemble=ensemble), out=folder, progress=progress)
    console.print(_summary(result))
    show_checks(result.checks, console)
    return result.exit_code


def _declared(pairs: Sequence[str]) -> dict[str, str]:
    """Units by quantity from ``QUANTITY=UNIT``.

    Raises:
        AuditError: there is no equals sign.
    """
    found = {}
    for pair in pairs:
        quantity, sign, unit = pair.partition("=")
        if not sign or not unit:
            raise AuditError(f"`{pair}` does not declare a unit", cure="write --unit forces=eV/Angstrom")
        found[quantity.strip()] = unit.strip()
    return found


def _summary(result: "ForeignAudit") -> Table:
    """The outcome in a few lines."""
    table = verdict_table(result.verdict, result.diagnoses)
    if result.path is not None:
        table.add_row("numbers", Text(str(result.path), overflow="fold"))
    return table
