"""What a label would cost, before anything is computed."""

from dataclasses import dataclass

from .. import config
from ..system.molecules import Ints
from .pyscf_setup import count_functions

#: Measured wall time of one label (energy and gradient) at ωB97X/6-31G* with density fitting on two CPU cores: basis
#: functions (Cartesian) of one, five, six and twelve waters and of ethanol, and seconds.
MEASURED = ((19, 0.7), (57, 4.0), (95, 10.0), (114, 13.0), (228, 68.0))

#: Least-squares line through the logarithms of MEASURED: seconds = PREFACTOR_S · functions ** EXPONENT.
EXPONENT = 1.8035
PREFACTOR_S = 3.008e-3

#: Without density fitting the same labels took 1.6 to 2 times as long; this is the middle.
WITHOUT_DENSITY_FIT = 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The size of a quantum calculation.

    Attributes:
        atoms: atoms, link atoms included.
        electrons: electrons that are treated, core potentials taken off.
        basis_functions: contracted basis functions.
        seconds: estimated wall time of one label on two CPU cores, s.
    """

    atoms: int
    electrons: int
    basis_functions: int
    seconds: float


def estimate(numbers: Ints, settings: config.Reference) -> Cost:
    """Estimate the cost of one label.

    Counts are exact. The time is an estimate for a machine like the one of ``MEASURED`` (two CPU cores) and for a
    hybrid functional; within the measured range it is right to about a fifth, a difficult SCF takes longer.

    Args:
        numbers: atomic numbers of the cluster, shape (m,).
        settings: level of theory.

    Returns:
        Counts and estimated seconds.

    Raises:
        LabelError: the basis set lacks an element.
    """
    electrons, functions = count_functions(numbers, settings)
    seconds = PREFACTOR_S * functions**EXPONENT
    if not settings.density_fit:
        seconds *= WITHOUT_DENSITY_FIT
    return Cost(atoms=len(numbers), electrons=electrons, basis_functions=functions, seconds=seconds)
