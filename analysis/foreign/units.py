"""Units as other programs write them, turned into one factor to the units of this package.

A unit is a product of powers: ``nm ps-1`` and ``kJ mol-1 nm-1`` (the H5MD ``units`` module, de Buyl, Colberg, Höfling,
Comput. Phys. Commun. 185, 1546, 2014, doi:10.1016/j.cpc.2014.01.018), ``kJ/mole`` (OpenMM), ``eV/Angstrom``,
``kcal/(mol*Angstrom)``. Each symbol has a factor and a dimension in length, time and mass. With nm, ps and Da an energy
comes out in Da nm²/ps² = kJ/mol without a factor. The mole is the pure number N_A, so that ``kJ`` is the energy of one
system and ``kJ mol-1`` that of a mole of them. A unit of the wrong dimension is refused.
"""

import math
import re
from dataclasses import dataclass

from ...errors import AuditError
from ...units import (
    ANGSTROM_PER_BOHR,
    AVOGADRO_PER_MOL,
    KJ_PER_KCAL,
    KJ_PER_MOL_PER_EV,
    KJ_PER_MOL_PER_HARTREE,
    NM_PER_ANGSTROM,
    PS_PER_FS,
)

LENGTH, TIME, MASS = (1, 0, 0), (0, 1, 0), (0, 0, 1)
ENERGY, NUMBER = (2, -2, 1), (0, 0, 0)
#: A joule or a gram that is not per mole: no simulated system has such energies and masses.
ABSURD = 1e15
#: Dimension of each quantity that a trajectory may carry.
DIMENSIONS = {
    "positions": LENGTH,
    "box": LENGTH,
    "time": TIME,
    "velocities": (1, -1, 0),
    "momenta": (1, -1, 1),
    "forces": (1, -2, 1),
    "energies": ENERGY,
    "masses": MASS,
}
EXAMPLES = {
    "positions": "nm",
    "box": "nm",
    "time": "ps",
    "velocities": "nm/ps",
    "momenta": "Da*nm/ps",
    "forces": "kJ/mol/nm",
    "energies": "kJ/mol",
    "masses": "Da",
}

_SYMBOLS: dict[tuple[str, ...], tuple[float, tuple[int, int, int]]] = {
    ("nm", "nanometer", "nanometers", "nanometre"): (1.0, LENGTH),
    ("A", "Å", "Ang", "Angstrom", "angstrom", "angstroms", "Angstroms"): (NM_PER_ANGSTROM, LENGTH),
    ("pm", "picometer"): (1e-3, LENGTH),
    ("m", "meter"): (1e9, LENGTH),
    ("bohr", "Bohr", "a0", "au_length"): (ANGSTROM_PER_BOHR * NM_PER_ANGSTROM, LENGTH),
    ("ps", "picosecond", "picoseconds"): (1.0, TIME),
    ("fs", "femtosecond", "femtoseconds"): (PS_PER_FS, TIME),
    ("ns", "nanosecond", "nanoseconds"): (1e3, TIME),
    ("s", "second"): (1e12, TIME),
    ("Da", "u", "amu", "dalton", "daltons"): (1.0, MASS),
    ("g", "gram"): (AVOGADRO_PER_MOL, MASS),
    ("kg",): (1e3 * AVOGADRO_PER_MOL, MASS),
    ("mol", "mole", "moles"): (AVOGADRO_PER_MOL, NUMBER),
    ("kJ", "kilojoule", "kilojoules"): (AVOGADRO_PER_MOL, ENERGY),
    ("J", "joule"): (1e-3 * AVOGADRO_PER_MOL, ENERGY),
    ("kcal", "kilocalorie", "kilocalories"): (KJ_PER_KCAL * AVOGADRO_PER_MOL, ENERGY),
    ("eV", "electronvolt", "electronvolts"): (KJ_PER_MOL_PER_EV, ENERGY),
    ("meV",): (1e-3 * KJ_PER_MOL_PER_EV, ENERGY),
    ("Ha", "hartree", "Hartree", "Eh"): (KJ_PER_MOL_PER_HARTREE, ENERGY),
    ("Ry", "rydberg"): (0.5 * KJ_PER_MOL_PER_HARTREE, ENERGY),
    # ASE's own unit of time, Å sqrt(Da/eV): momenta in an ASE file are in Da Å over it.
    ("ase_time",): (NM_PER_ANGSTROM / math.sqrt(KJ_PER_MOL_PER_EV), TIME),
}
_TABLE = {name: value for names, value in _SYMBOLS.items() for name in names}
_TOKEN = re.compile(r"\s*(?:([A-Za-zÅ_]+0?)\s*(?:\*\*|\^)?\s*([+-]?\d+)?|([*/()·])|(1)(?!\d))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit: its factor to this package's units, and its dimension (length, time, mass)."""

    factor: float
    dimension: tuple[int, int, int]

    def power(self, exponent: int) -> "Unit":
        """The unit to an integer power."""
        length, time, mass = (exponent * d for d in self.dimension)
        return Unit(factor=self.factor**exponent, dimension=(length, time, mass))

    def times(self, other: "Unit") -> "Unit":
        """The product."""
        length, time, mass = (a + b for a, b in zip(self.dimension, other.dimension, strict=True))
        return Unit(factor=self.factor * other.factor, dimension=(length, time, mass))


ONE = Unit(factor=1.0, dimension=NUMBER)


def parse(text: str) -> Unit:
    """Read a unit.

    Raises:
        AuditError: a symbol is unknown, or the text is no product of powers.
    """
    stack: list[tuple[Unit, int]] = []
    total, sign = ONE, 1
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text)
        position = match.end()
        name, exponent, mark, _ = match.groups()
        if name is not None:
            if name not in _TABLE:
                raise _unreadable(text, name)
            factor, dimension = _TABLE[name]
            total = total.times(Unit(factor=factor, dimension=dimension).power(sign * int(exponent or 1)))
            sign = 1
        elif mark == "/":
            sign = -1
        elif mark == "(":
            stack.append((total, sign))
            total, sign = ONE, 1
        elif mark == ")":
            if not stack:
                raise _unreadable(text)
            before, outer = stack.pop()
            total, sign = before.times(total.power(outer)), 1
    if stack or sign == -1:
        raise _unreadable(text)
    return total


def factor_of(quantity: str, text: str, where: str) -> float:
    """The factor from a unit to this package's unit of a quantity.

    Args:
        quantity: a key of ``DIMENSIONS``.
        text: the unit as written.
        where: where it stands, for the message.

    Raises:
        AuditError: the unit cannot be read, or is not one of that quantity.
    """
    try:
        unit = parse(text)
    except AuditError as error:
        raise AuditError(f"{where}: {error.what}", cure=_give(quantity)) from error
    if unit.dimension != DIMENSIONS[quantity]:
        raise AuditError(f"{where}: `{text}` is not a unit of {quantity}", cure=_give(quantity))
    if unit.factor > ABSURD:
        raise AuditError(f"{where}: `{text}` lacks `per mole` to be a unit of {quantity} here", cure=_give(quantity))
    return unit.factor


def undeclared(quantity: str, where: str) -> AuditError:
    """The refusal of a quantity whose unit nobody declares."""
    return AuditError(f"{where} does not say in which unit {quantity} are", cure=_give(quantity))


def _give(quantity: str) -> str:
    return f"declare the unit with --unit {quantity}=UNIT, for example --unit {quantity}={EXAMPLES[quantity]}"


def _unreadable(text: str, name: str = "") -> AuditError:
    detail = f": `{name}` is unknown" if name else ""
    return AuditError(
        f"`{text}` cannot be read as a unit{detail}", cure="write it as in `kJ mol-1 nm-1` or `eV/Angstrom`"
    )
