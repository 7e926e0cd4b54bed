"""``qmml validate``: mistakes in a configuration, and in a dry run what it would cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from ..config import Config
from ..config_file import load_config
from ..console import duration
from ..region.cluster import Cluster
from ..system.molecules import Ints, Molecules
from .runs import default_out, refuse_used

if TYPE_CHECKING:
    from ..reference.cost import Cost

WATER = (1, 1, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCost:
    """What one kind of label would cost.

    Attributes:
        what: the cluster, for a person.
        charge: of the cluster, e.
        multiplicity: 2S + 1.
        electrons: treated, the charge taken into account.
        cost: size and estimated time; its electrons are those of the neutral cluster where no charge is configured.
    """

    what: str
    charge: int
    multiplicity: int
    electrons: int
    cost: "Cost"


def validate_config(path: Path, *, dry_run: bool, out: Path | None, console: Console | None = None) -> None:
    """Check a configuration; in a dry run also the structure, the run directory and the cost of labels.

    Args:
        path: configuration file.
        dry_run: go beyond the file itself.
        out: run directory to check; by default the one that ``qmml run`` would take.
        console: where to print; by default standard output.

    Raises:
        ConfigError: the file holds mistakes; all are named.
        StructureError, WeightsError, RegionError, RunDirectoryError: what a run would stumble over (dry run only).
    """
    config = load_config(path)
    show = console or Console()
    show.print(f"{path}: no mistakes", highlight=False, soft_wrap=True)
    if dry_run:
        rehearse(config, path.resolve().parent, out or default_out(path), show)


def rehearse(config: Config, folder: Path, out: Path, show: Console) -> None:
    """Do everything that comes before the first step, and print what labels would cost.

    Args:
        config: the configuration.
        folder: that its relative paths start from.
        out: run directory.
        show: where to print.
    """
    from ..engine.inputs import check_input, needed_bytes, read_inner, read_simulated, read_weights
    from ..ensemble.migration import match_level
    from ..reference.isolated import open_reference

    simulated, ensemble = read_simulated(config, folder), read_weights(config, folder)
    read_inner(config, folder, ensemble)
    check_input(config, simulated, ensemble)
    open_reference(config.reference, config.ensemble.threads)
    molecules = simulated.part.molecules
    card, costs = ensemble.card, label_costs(config, molecules)
    note = match_level(card, config.reference, config.learning, molecules.numbers, molecules.molecule_of)
    check_room(config, simulated.molecules.size, out)
    box = "vacuum" if molecules.box is None else "periodic"
    whole, part = simulated.molecules, simulated.part
    count = len(np.unique(whole.molecule_of))
    room = needed_bytes(config, whole.size) / 1e9
    links = f" and {len(part.links)} link atoms" if len(part.links) else ""
    mixed = [f"{len(part.atoms)} atoms{links} on the ensemble, the rest in the force field"] if simulated.field else []
    for line in (
        f"{config.system.structure}: {whole.size} atoms in {count} molecules, {box}",
        *mixed,
        f"weights {card.name}: {' '.join(card.symbols)}, cutoff {card.cutoff_A} Å, {card.level_of_theory}",
        f"{out} can be written; the run takes about {room:.2f} GB",
        *([note] if note else []),
    ):
        show.print(line, highlight=False, markup=False, soft_wrap=True)
    show.print(_table(costs, config))


def label_costs(config: Config, molecules: Molecules) -> list[LabelCost]:
    """Cost of a label of the first solute molecule, or of a part of it, and of the largest cluster around it.

    Args:
        config: the configuration.
        molecules: what is on the ensemble.

    Raises:
        RegionError: charge or multiplicity of a cluster cannot be decided, or nothing fits.
    """
    solute = first_solute(molecules)
    if len(solute) > config.region.max_qm_atoms:
        found = [("part of the first solute", around_middle(config, molecules, solute))]
    else:
        largest = surround(molecules, solute, config.region.max_qm_atoms)
        found = [("first solute molecule", solute), ("largest cluster around it", largest)]
    return [_label_cost(config, molecules, what, atoms) for what, atoms in found]


def around_middle(config: Config, molecules: Molecules, solute: Ints) -> Ints:
    """The atoms of the region that a run would take around the atom nearest to the middle of a large molecule.

    Args:
        config: the configuration.
        molecules: what is on the ensemble.
        solute: atoms of the molecule.
    """
    from ..engine.setup import policy_for
    from ..region.sampling import region_around

    policy = policy_for(config, molecules)
    places = molecules.positions[solute]
    middle = int(solute[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()])
    return region_around(middle, molecules, policy).atoms


def _label_cost(config: Config, molecules: Molecules, what: str, atoms: Ints) -> LabelCost:
    from ..reference.cost import estimate

    cluster = _cut(config, molecules, atoms)
    cost = estimate(cluster.numbers, config.reference)
    charge_left_out = 0 if config.reference.charge is not None else cluster.charge
    electrons = cost.electrons - charge_left_out
    return LabelCost(
        what=what, charge=cluster.charge, multiplicity=cluster.multiplicity, electrons=electrons, cost=cost
    )


def first_solute(molecules: Molecules) -> Ints:
    """Atoms of the first molecule that is not water; of the first molecule if all are."""
    count = int(molecules.molecule_of.max()) + 1
    members: list[Ints] = [np.flatnonzero(molecules.molecule_of == i) for i in range(count)]
    return next((m for m in members if tuple(sorted(molecules.numbers[m])) != WATER), members[0])


def surround(molecules: Molecules, solute: Ints, max_atoms: int) -> Ints:
    """The solute and its nearest whole molecules, as many as fit.

    Args:
        molecules: what is simulated.
        solute: indices of its atoms.
        max_atoms: most atoms of the cluster.

    Returns:
        Sorted indices of atoms; the solute alone if nothing else fits.
    """
    from ..system.images import nearest_image

    vectors = molecules.positions[:, None, :] - molecules.positions[None, solute, :]
    distance = np.linalg.norm(nearest_image(vectors, molecules.box)[0], axis=2).min(axis=1)
    chosen = list(solute)
    taken = {int(molecules.molecule_of[solute[0]])}
    for atom in np.argsort(distance, kind="stable"):
        molecule = int(molecules.molecule_of[atom])
        if molecule in taken:
            continue
        taken.add(molecule)
        members = np.flatnonzero(molecules.molecule_of == molecule)
        if len(chosen) + len(members) > max_atoms:
            break
        chosen.extend(members)
    return np.array(sorted(chosen), dtype=np.int64)


def check_room(config: Config, atoms: int, out: Path) -> None:
    """Check that a run directory can be made and its disk has room.

    Raises:
        RunDirectoryError: it exists and is not empty, cannot be written, or its disk is too full.
    """
    from ..engine.inputs import check_disk

    refuse_used(out)
    check_disk(config, atoms, out)


def _cut(config: Config, molecules: Molecules, atoms: Ints) -> Cluster:
    from ..region.cluster import cut_cluster

    settings = config.reference
    return cut_cluster(
        molecules, molecules.positions, atoms, charge=settings.charge, multiplicity=settings.multiplicity
    )


def _table(costs: list[LabelCost], config: Config) -> Table:
    level = f"{config.reference.method}/{config.reference.basis}"
    table = Table(title=f"Estimated cost of a label at {level}, on two cores", title_justify="left")
    table.add_column("cluster", no_wrap=True)
    for name in ("atoms", "charge", "2S+1", "electrons", "basis functions", "time"):
        table.add_column(name, justify="right")
    for c in costs:
        numbers = (
            c.cost.atoms,
            f"{c.charge:+d}" if c.charge else 0,
            c.multiplicity,
            c.electrons,
            c.cost.basis_functions,
        )
        table.add_row(c.what, *map(str, numbers), duration(c.cost.seconds))
    most = config.reference.max_labels
    total = duration(most * costs[-1].cost.seconds)
    table.caption = f"all {most} labels (reference.max_labels) at the largest size: {total}"
    return table
