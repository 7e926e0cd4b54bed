"""Derivatives of a surface by central differences in float64, and what symmetry says about its forces.

With ``D(h) = (E(x+h) − E(x−h))/2h`` the value ``(4 D(h) − D(2h))/3`` errs by ``h⁴E⁽⁵⁾/30`` where E is smooth
(Richardson's extrapolation). The surfaces here are only once continuously differentiable: the second derivative jumps
where a CELU unit changes branch, and where a pair crosses a cosine cutoff (``f_c″ = π²/2r_c²`` inside, 0 outside). A
jump J at a distance d < h from x adds ``J (h−d)²/4h ≤ J h/4`` to D(h), hence at most ``J h/2`` to the value: an error
of first order in h, which no extrapolation removes and only a short step makes small. Rounding adds about ``ε|E|/h``.

At h = 10⁻⁶ Å a jump of 1 eV/Å², as a pair has at the angular cutoff of ANI-1x, costs at most 5·10⁻⁷ eV/Å, and rounding
some 10⁻⁹ of a thermal force on ten atoms. Measured: across that cutoff the error falls in proportion to h, from 10⁻⁶ of
the RMS force at 10⁻⁵ Å, until 3·10⁻⁸ are left. Those come from single-precision constants in torch's derivative of
CELU; with an exact one 10⁻⁹ are left.
"""

from collections.abc import Callable

import numpy as np

from ...ensemble.model import AniEnsemble, EnsembleOutput
from ...ensemble.potential import Potential
from ...records.frames import Floats, Ints
from ...units import NM_PER_ANGSTROM

#: Energy and forces at positions (nm, shape (n, 3)) in a box (nm, shape (3, 3), or None).
Surface = Callable[[Floats, Floats | None], EnsembleOutput]

#: Step of the differences, nm; see the head of this module.
STEP_NM = 1e-6 * NM_PER_ANGSTROM
#: Atomic energies are sums of terms of this size, kJ/mol, of either sign.
TERMS_KJ_PER_MOL = 100.0


def surface_of(model: AniEnsemble, system: Potential | Ints) -> Surface:
    """The surface of an ensemble for a system, or for given atomic numbers, shape (n,), that are all on it."""
    potential = system if isinstance(system, Potential) else Potential(numbers=system)
    return lambda positions, box: potential.evaluate(model, positions, box)


def directional_derivative(
    surface: Surface, positions: Floats, box: Floats | None, direction: Floats, step: float = STEP_NM
) -> float:
    """dE/ds at x + s·direction, s = 0, by two central differences and Richardson's extrapolation.

    Args:
        surface: energy and forces.
        positions: nm, shape (n, 3).
        box: nm, shape (3, 3); None in vacuum.
        direction: shape (n, 3), of length one.
        step: nm.

    Returns:
        kJ/mol/nm.
    """
    slopes = []
    for size in (step, 2.0 * step):
        ahead, behind = positions + size * direction, positions - size * direction
        # Positions are rounded: the way between the two ends is what was really gone.
        gone = float(np.sum((ahead - behind) * direction))
        slopes.append((surface(ahead, box).energy - surface(behind, box).energy) / gone)
    return (4.0 * slopes[0] - slopes[1]) / 3.0


def component_errors(
    surface: Surface, positions: Floats, box: Floats | None, components: Ints, step: float = STEP_NM
) -> Floats:
    """−∂E/∂x by differences minus the force, kJ/mol/nm, shape (k,); ``components`` are rows (atom, axis), (k, 2)."""
    forces = surface(positions, box).forces
    errors = []
    for atom, axis in components:
        direction = np.zeros_like(positions)
        direction[atom, axis] = 1.0
        errors.append(-directional_derivative(surface, positions, box, direction, step) - forces[atom, axis])
    return np.array(errors, dtype=np.float64)


def rms(forces: Floats) -> float:
    """Root mean square of the components."""
    return float(np.sqrt(np.mean(np.square(forces))))


def rounding_error(energy: float, atoms: int, step: float = STEP_NM) -> float:
    """Rounding of ``directional_derivative``, kJ/mol/nm.

    Each of four energies is off by ε(|E| + 100 √n): ``(4/3)√2/2h`` of it from D(h) and ``(1/3)√2/4h`` from D(2h), in
    quadrature.
    """
    error = float(np.finfo(np.float64).eps) * (abs(energy) + TERMS_KJ_PER_MOL * np.sqrt(atoms))
    return float(0.95 * error / step)


def net_force(forces: Floats) -> float:
    """|Σ F| / Σ|F|; zero for a surface that does not change when everything is moved."""
    return _share(np.linalg.norm(forces.sum(axis=0)), np.linalg.norm(forces, axis=1).sum())


def net_torque(positions: Floats, forces: Floats) -> float:
    """|Σ r × F| / Σ|r||F| about the centroid; zero in vacuum for a surface that does not change when turned."""
    arms = positions - positions.mean(axis=0)
    scale = (np.linalg.norm(arms, axis=1) * np.linalg.norm(forces, axis=1)).sum()
    return _share(np.linalg.norm(np.cross(arms, forces).sum(axis=0)), scale)


def _share(part: float | np.floating, whole: float | np.floating) -> float:
    return 0.0 if whole == 0.0 else float(part / whole)
