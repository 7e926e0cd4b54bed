"""Total momentum: what an integrator without friction must keep.

Forces that sum to zero leave the total momentum alone. Velocity Verlet and RESPA keep it; thermostats that rescale all
velocities by one factor (Bussi, Nosé–Hoover) keep its direction and, if it was zero, its value; Langevin friction and
noise act on it on purpose. A change that the integrator cannot have made means a lost or clamped force, an atom whose
velocity was touched, or a removal of the centre-of-mass motion that nobody booked.
"""

import numpy as np

from ...errors import AuditError
from ...records.frames import Floats
from ...units import BOLTZMANN_KJ_PER_MOL_PER_K
from ..findings import Check, Finding, Kind, Part, Status

#: Centre-of-mass energy of the momentum that may come or go, kT. Forces rounded in single precision leave about
#: 10⁻³ kJ/mol/nm in all: 0.05 Da nm/ps if it all pointed one way for 10⁵ steps of 0.5 fs, or 10⁻⁵ kT for ethanol.
TOLERANCE_KT = 1e-4

#: Integrators that keep the total momentum, and those that rescale it.
KEEPING = frozenset({"verlet", "respa"})
RESCALING = frozenset({"bussi", "nose_hoover"})


def total_momentum(velocities: Floats, masses: Floats) -> Floats:
    """Σ m v of each frame, Da nm/ps, shape (f, 3), from velocities (nm/ps), (f, n, 3), and masses (Da), (n,)."""
    return np.asarray(np.einsum("fni,n->fi", velocities, masses), dtype=np.float64)


def momentum_part(momentum: Floats, *, total_mass: float, temperature_K: float, integrator: str) -> Part:
    """The check ``momentum``: the change of the total momentum as energy of the centre of mass, |ΔP|²/2MkT.

    Where velocities are rescaled, only the part of P across its first direction counts, unless it began at rest.

    Args:
        momentum: Da nm/ps, shape (f, 3), of all frames, see ``total_momentum``.
        total_mass: Da.
        temperature_K: of kT.
        integrator: as in the configuration.

    Raises:
        AuditError: wrong shape, or no frames.
    """
    if momentum.ndim != 2 or momentum.shape[1] != 3 or len(momentum) == 0:
        raise AuditError(f"total momentum must have shape (frames, 3), not {momentum.shape}")
    if integrator not in KEEPING | RESCALING:
        why = f"`{integrator}` exchanges momentum with its bath"
        return Part(checks=(Check(name="momentum", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why),))
    unit = 2.0 * total_mass * BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K
    first = momentum[0]
    change = momentum - first
    if integrator in RESCALING and float(first @ first) / unit > TOLERANCE_KT:
        axis = first / np.linalg.norm(first)
        change = momentum - np.outer(momentum @ axis, axis)
    energy = np.einsum("fi,fi->f", change, change) / unit
    worst = int(np.argmax(np.nan_to_num(energy, nan=np.inf)))
    fine = bool(energy[worst] <= TOLERANCE_KT)
    why = (
        f"the total momentum changes by an energy |ΔP|²/2M of at most {energy[worst]:.2g} kT (frame {worst}); "
        f"allowed {TOLERANCE_KT:g}"
    )
    finding = Finding(name="momentum_change_max", value=float(energy[worst]), expected=0.0, unit="kT")
    check = Check(name="momentum", kind=Kind.PHYSICS, status=Status.PASS if fine else Status.FAIL, why=why)
    return Part(checks=(check,), findings=(finding,))
