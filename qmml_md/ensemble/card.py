"""The card of an ensemble: everything about a weights file that is not a weight, as JSON beside it."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import WeightsError

#: Symbols of the elements that ANI-style models exist for, by atomic number.
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 16: "S", 17: "Cl"}
NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}

#: Version of the record of a migration.
MIGRATION_VERSION = 1
#: Members of the largest ensemble that makes sense.
MOST_MEMBERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A shift of the self energies from one level of theory to another; the networks stay as they are.

    Attributes:
        version: of this record.
        what: `self_energy_shift`.
        from_level: level of theory before, for a person.
        to_level: level of theory after: the fields of a reference's level, by name.
        before_hartree, shifts_hartree: self energies before, and what was added; one for each symbol of the card.
        compositions: compositions that the labels span, linearly independent; counts in the order of the symbols.
        labels: number of labels that the shift was fitted to.
        residual_eV_per_atom: RMS energy residual of those labels afterwards.
        parent: SHA-256 of the weights file that was migrated.
    """

    version: int
    what: str
    from_level: str
    to_level: dict[str, Any]
    before_hartree: tuple[float, ...]
    shifts_hartree: tuple[float, ...]
    compositions: tuple[tuple[int, ...], ...]
    labels: int
    residual_eV_per_atom: float
    parent: str

    @property
    def after_hartree(self) -> tuple[float, ...]:
        """Self energies afterwards, one for each symbol."""
        return tuple(a + b for a, b in zip(self.before_hartree, self.shifts_hartree, strict=True))

    @property
    def rank(self) -> int:
        """Number of independent compositions: how many combinations of shifts the labels decide."""
        return len(self.compositions)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleCard:
    """What a weights file holds.

    Attributes:
        name: for a person.
        symbols: elements in the order of the model's indices.
        members: K.
        radial_cutoff_A, angular_cutoff_A: cutoffs, Å.
        radial_eta, angular_eta: Gaussian widths, 1/Å².
        angular_zeta: exponent of the angular factor.
        radial_shifts, angular_shifts: Gaussian centres, Å.
        sections: angular shifts, rad.
        cutoff_function: `cosine` or `smooth`.
        self_energies_hartree: one for each symbol; subtracted before anything else sees a total.
        level_of_theory: what the weights were trained on, for a person.
        source, license, citation: where they came from.
        migrations: shifts of the self energies to other levels of theory, in order.
    """

    name: str
    symbols: tuple[str, ...]
    members: int
    radial_cutoff_A: float
    angular_cutoff_A: float
    radial_eta: float
    angular_eta: float
    angular_zeta: float
    radial_shifts: tuple[float, ...]
    angular_shifts: tuple[float, ...]
    sections: tuple[float, ...]
    cutoff_function: str
    self_energies_hartree: tuple[float, ...]
    level_of_theory: str
    source: str
    license: str
    citation: str
    migrations: tuple[Migration, ...] = ()

    @property
    def cutoff_A(self) -> float:
        """The longest reach of one atom's descriptor, Å."""
        return max(self.radial_cutoff_A, self.angular_cutoff_A)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the elements, in the order of ``symbols``."""
        return tuple(NUMBERS[s] for s in self.symbols)

    def to_json(self) -> str:
        """Readable JSON, sorted, with a newline at the end. Without a migration nothing is said of any."""
        plain = asdict(self)
        if not self.migrations:
            del plain["migrations"]
        return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def card_from_json(text: str, where: str) -> EnsembleCard:
    """Read a card from JSON; keys that are not of the card are ignored.

    Args:
        text: the JSON.
        where: where it came from, for the message.

    Raises:
        WeightsError: it is not a card, or its self energies are not those that its migrations led to.
    """
    try:
        found = json.loads(text)
        chosen = {f.name: found[f.name] for f in fields(EnsembleCard) if f.name != "migrations"}
        values: dict[str, Any] = {key: _frozen(value) for key, value in chosen.items()}
        migrations = tuple(_migration(each) for each in found.get("migrations", ()))
        card = EnsembleCard(**values, migrations=migrations)
        _check_types(card)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{where} holds no card of model weights: {type(error).__name__}: {error!s:.200}",
            cure="`qmml weights fetch NAME` makes a weights file with its card",
        ) from error
    _check_migrations(card, where)
    return card


def _check_types(card: EnsembleCard) -> None:
    """What a card says is of the kind that it should be.

    Raises:
        ValueError: something is not.
    """
    texts = ("name", "cutoff_function", "level_of_theory", "source", "license", "citation")
    numbers = ("radial_cutoff_A", "angular_cutoff_A", "radial_eta", "angular_eta", "angular_zeta")
    lists = ("radial_shifts", "angular_shifts", "sections", "self_energies_hartree")
    wrong = [name for name in texts if not isinstance(getattr(card, name), str)]
    wrong += [name for name in numbers if not _is_number(getattr(card, name))]
    wrong += [name for name in lists if not _all_numbers(getattr(card, name))]
    symbols = card.symbols if isinstance(card.symbols, tuple) else ()
    distinct = set(symbols)
    if not symbols or not distinct <= NUMBERS.keys() or len(distinct) != len(symbols):
        wrong.append("symbols")
    if "self_energies_hartree" not in wrong and len(card.self_energies_hartree) != len(symbols):
        wrong.append("self_energies_hartree")
    if type(card.members) is not int or not 1 <= card.members <= MOST_MEMBERS:
        wrong.append("members")
    if card.cutoff_function not in ("cosine", "smooth"):
        wrong.append("cutoff_function")
    if wrong:
        raise ValueError(f"{', '.join(wrong)} of the wrong kind")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _all_numbers(values: Any) -> bool:
    return isinstance(values, tuple) and all(map(_is_number, values))


def _migration(plain: dict[str, Any]) -> Migration:
    return Migration(**{f.name: _frozen(plain[f.name]) for f in fields(Migration)})


def _frozen(value: Any) -> Any:
    """Lists become tuples."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def _check_migrations(card: EnsembleCard, where: str) -> None:
    """The self energies follow from those before the first migration and the shifts, to the bit.

    Raises:
        WeightsError: they do not, or a migration is of an unknown version.
    """
    restore = "take the weights file from a copy, or migrate its parent again with `qmml weights migrate`"
    for each in card.migrations:
        if each.version != MIGRATION_VERSION:
            raise WeightsError(
                f"{where}: a migration has version {each.version}, this program reads {MIGRATION_VERSION}",
                cure="use the version of qmml-md that wrote it",
            )
    follows = (*(each.before_hartree for each in card.migrations[1:]), card.self_energies_hartree)
    for each, after in zip(card.migrations, follows, strict=False):
        if len(each.shifts_hartree) != len(card.symbols) or len(each.before_hartree) != len(card.symbols):
            raise WeightsError(f"{where}: a migration does not have one shift for each element", cure=restore)
        if not all(map(math.isfinite, each.after_hartree)) or each.after_hartree != after:
            raise WeightsError(
                f"{where}: the self energies are not those that its migration from {each.from_level} led to",
                cure=restore,
            )
