"""The card of an ensemble: everything about a weights file that is not a weight, as JSON beside it."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import WeightsError

#: Symbols of the elements that ANI-style models exist for, by atomic number.
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 16: "S", 17: "Cl"}
NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}


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

    @property
    def cutoff_A(self) -> float:
        """The longest reach of one atom's descriptor, Å."""
        return max(self.radial_cutoff_A, self.angular_cutoff_A)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the elements, in the order of ``symbols``."""
        return tuple(NUMBERS[s] for s in self.symbols)

    def to_json(self) -> str:
        """Readable JSON, sorted, with a newline at the end."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def card_from_json(text: str, where: str) -> EnsembleCard:
    """Read a card from JSON; keys that are not of the card are ignored.

    Args:
        text: the JSON.
        where: where it came from, for the message.

    Raises:
        WeightsError: it is not a card.
    """
    try:
        found = json.loads(text)
        chosen = {f.name: found[f.name] for f in fields(EnsembleCard)}
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in chosen.items()}
        return EnsembleCard(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{where} holds no card of model weights: {error}",
            cure="`qmml weights fetch NAME` makes a weights file with its card",
        ) from error
