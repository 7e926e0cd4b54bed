"""Migration: weights for another level of theory, by a least-squares shift of their self energies.

Two levels of theory differ most in the energy of the isolated atoms: tens of eV, and linear in the composition. Such
a constant moves no atom, but with an energy term in the loss the networks would have to learn it from a few clusters,
at the cost of everything else. So it is taken out once, openly: the shift is written into the card of new weights with
its version, the levels it leads from and to, and what it was fitted to. The networks stay the same to the bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import Learning, Reference
from ..errors import WeightsError
from ..system.molecules import Floats, Ints
from ..units import EV_PER_HARTREE, EV_PER_KJ_PER_MOL, NM_PER_ANGSTROM
from .card import MIGRATION_VERSION, EnsembleCard, Migration
from .model import AniEnsemble, element_indices, evaluate, self_energy_hartree
from .weights import build, precision_of, tensors_of

#: What the text of a card declares to a program. Other texts are for a person only and declare nothing.
DECLARED = {
    "wB97X/6-31G(d), Cartesian d functions": {"method": "wb97x", "basis": "6-31g*", "cartesian": True},
    "CCSD(T)*/CBS by transfer from wB97X/6-31G(d)": {"method": "ccsd(t)*", "basis": "cbs", "cartesian": True},
}
#: What makes two levels differ by more than a few meV per atom; density fitting and grids do not.
COMPARED = ("method", "basis", "cartesian")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A least-squares shift of self energies.

    Attributes:
        symbols: elements in the order of the card.
        hartree: shift of each, float64; 0 for an element that no label holds.
        compositions: linearly independent compositions of labels, counts in the order of ``symbols``.
        held: which elements some label holds.
        labels: number of labels.
        before_eV_per_atom, residual_eV_per_atom: RMS energy error without and with the shift.
    """

    symbols: tuple[str, ...]
    hartree: tuple[float, ...]
    compositions: tuple[tuple[int, ...], ...]
    held: tuple[bool, ...]
    labels: int
    before_eV_per_atom: float
    residual_eV_per_atom: float

    @property
    def rank(self) -> int:
        """How many combinations of shifts the labels decide."""
        return len(self.compositions)

    @property
    def unique(self) -> bool:
        """Whether the labels decide the shift of each element that they hold, and not only combinations."""
        return self.rank == sum(self.held)


def fit_shift(ensemble: AniEnsemble, clusters: Sequence[tuple[Ints, Floats]], energies: Sequence[float]) -> Shift:
    """Fit the shift of the self energies that brings the mean of the ensemble to the energies of labels.

    Minimises ``Σ ((E − E_model − Σ_e n_e Δ_e) / m)²`` over labels of m atoms. Where compositions do not decide all
    shifts, the shortest vector of those that fit is taken: an element that no label holds is not shifted.

    Args:
        ensemble: the model; double precision keeps rounding out of the fit.
        clusters: atomic numbers, shape (m,), and positions in Å, shape (m, 3), of each label.
        energies: total energies, eV.

    Raises:
        WeightsError: there is no label, or an energy is not finite.
        ElementError: the weights do not know an element.
    """
    if not clusters or not np.isfinite(np.asarray(energies, dtype=np.float64)).all():
        raise WeightsError("a shift needs at least one label, and finite energies", cure="give a store of labels")
    card = ensemble.card
    counts = np.array([_composition(card, numbers) for numbers, _ in clusters], dtype=np.float64)
    atoms = counts.sum(1)
    wrong = np.array([_error_hartree(ensemble, *c, e) for c, e in zip(clusters, energies, strict=True)]) / atoms
    rows = counts / atoms[:, None]
    shift = np.linalg.lstsq(rows, wrong, rcond=None)[0]
    held = np.asarray(counts.any(axis=0))
    # Rounding of the solver leaves 1e-16 where no label says anything.
    shift[~held] = 0.0
    left = wrong - rows @ shift
    return Shift(
        symbols=card.symbols,
        hartree=tuple(shift.tolist()),
        compositions=_independent(counts),
        held=tuple(held.tolist()),
        labels=len(clusters),
        before_eV_per_atom=_rms(wrong) * EV_PER_HARTREE,
        residual_eV_per_atom=_rms(left) * EV_PER_HARTREE,
    )


def migrate(ensemble: AniEnsemble, shift: Shift, *, to_level: Mapping[str, Any], parent: str) -> AniEnsemble:
    """The same networks with shifted self energies and the record of it in the card.

    Args:
        ensemble: as its file holds it; not changed.
        shift: as fitted.
        to_level: fields of the level of theory of the labels, by name: at least method, basis, cartesian.
        parent: SHA-256 of the file of ``ensemble``.

    Raises:
        WeightsError: the shift was fitted for other elements.
    """
    card = ensemble.card
    if shift.symbols != card.symbols:
        raise WeightsError(
            f"the shift is for {' '.join(shift.symbols)}, the weights know {' '.join(card.symbols)}",
            cure="fit the shift with these weights",
        )
    record = Migration(
        version=MIGRATION_VERSION,
        what="self_energy_shift",
        from_level=card.level_of_theory,
        to_level=dict(to_level),
        before_hartree=card.self_energies_hartree,
        shifts_hartree=shift.hartree,
        compositions=shift.compositions,
        labels=shift.labels,
        residual_eV_per_atom=shift.residual_eV_per_atom,
        parent=parent,
    )
    migrated = replace(
        card,
        name=f"{card.name}, energies at {to_level['method']}/{to_level['basis']}",
        self_energies_hartree=record.after_hartree,
        level_of_theory=f"{describe(to_level)} (energies shifted from {card.level_of_theory})",
        migrations=(*card.migrations, record),
    )
    return build(migrated, tensors_of(ensemble), precision_of(ensemble))


def declared_level(card: EnsembleCard) -> Mapping[str, Any] | None:
    """The level of theory that the self energies of a card belong to; None if the card declares none to a program."""
    return card.migrations[-1].to_level if card.migrations else DECLARED.get(card.level_of_theory)


def match_level(card: EnsembleCard, reference: Reference, learning: Learning, numbers: Ints, molecule_of: Ints) -> str:
    """Refuse to train energies of one level of theory into weights of another.

    Args:
        card: of the weights that a run begins with.
        reference: level of theory of its labels.
        learning: its settings.
        numbers: atomic numbers of what is simulated, shape (n,).
        molecule_of: molecule of each atom, shape (n,); whole molecules are labelled.

    Returns:
        A note for a person; empty if there is nothing to note.

    Raises:
        WeightsError: the levels differ, or no label of the migration says anything about a molecule.
    """
    level = declared_level(card)
    if level is None or not learning.trains or reference.max_labels == 0:
        return ""
    wanted = {"method": reference.method, "basis": reference.basis, "cartesian": reference.cartesian}
    differ = [name for name in COMPARED if _plain(level[name]) != _plain(wanted[name])]
    if differ:
        what = f"the weights `{card.name}` give energies at {describe(level)}, the labels at {describe(wanted)}"
        if learning.energy_weight == 0:
            return f"{what}; learning.energy_weight is 0, so that only forces are learned"
        raise WeightsError(
            what,
            cure="set learning.energy_weight: 0 and learn forces only; or label a few clusters that way and shift the "
            "self energies: `qmml weights migrate NAME --labels RUN/labels.db --out FILE.safetensors`",
        )
    if card.migrations and learning.energy_weight > 0:
        _check_span(card, numbers, molecule_of)
    return ""


def describe(level: Mapping[str, Any]) -> str:
    """A level of theory for a person, in the words of the published cards."""
    functions = "Cartesian" if level["cartesian"] else "spherical"
    return f"{level['method']}/{level['basis']}, {functions} d functions"


def _check_span(card: EnsembleCard, numbers: Ints, molecule_of: Ints) -> None:
    """Each molecule must be a combination of what the shift was fitted to.

    Raises:
        WeightsError: one is not.
    """
    record = card.migrations[-1]
    basis = np.array(record.compositions, dtype=np.float64).reshape(-1, len(card.symbols))
    counts = np.zeros((int(molecule_of.max()) + 1, len(card.symbols)), dtype=np.int64)
    np.add.at(counts, (molecule_of, element_indices(card, numbers).numpy()), 1)
    for composition in sorted(set(map(tuple, counts.tolist()))):
        # Small whole numbers: rank is exact at the default tolerance.
        if np.linalg.matrix_rank(np.vstack([basis, composition])) > record.rank:
            formula = "".join(f"{s}{n}" for s, n in zip(card.symbols, composition, strict=True) if n)
            raise WeightsError(
                f"the self energies of `{card.name}` were shifted with labels that say nothing about {formula}",
                cure="migrate again with labels that hold such a molecule, or set learning.energy_weight: 0",
            )


def _composition(card: EnsembleCard, numbers: Ints) -> list[int]:
    counts: list[int] = np.bincount(element_indices(card, numbers).numpy(), minlength=len(card.symbols)).tolist()
    return counts


def _error_hartree(ensemble: AniEnsemble, numbers: Ints, positions: Floats, energy: float) -> float:
    """What is missing to the energy of a label, hartree; totals are subtracted in float64."""
    inner = evaluate(ensemble, numbers, positions * NM_PER_ANGSTROM, None).energy * EV_PER_KJ_PER_MOL
    return (energy - inner) / EV_PER_HARTREE - self_energy_hartree(ensemble.card, numbers)


def _independent(counts: Floats) -> tuple[tuple[int, ...], ...]:
    """Linearly independent compositions that span all, the smallest first."""
    chosen: list[list[float]] = []
    for row in sorted(np.unique(counts, axis=0).tolist(), key=sum):
        if np.linalg.matrix_rank(np.array([*chosen, row])) > len(chosen):
            chosen.append(row)
    return tuple(tuple(int(n) for n in row) for row in chosen)


def _plain(value: Any) -> Any:
    """Equal names of methods and basis sets are equal words: `6-31G(d)` is `6-31g*`."""
    if not isinstance(value, str):
        return value
    return value.strip().lower().replace("(d,p)", "**").replace("(d)", "*").replace("ω", "w")


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
