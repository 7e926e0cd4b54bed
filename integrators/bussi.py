"""Canonical sampling by stochastic velocity rescaling (NVT): B A B, then one exact step of the kinetic energy.

The kinetic energy K of N_f degrees of freedom obeys dK = (K̄ − K) dt/τ + 2 sqrt(K K̄/(N_f τ)) dW with K̄ = N_f kT/2.
Its exact propagator over dt scales all velocities by α,

    α² = c + (1 − c) K̄/(N_f K) (R₁² + Σ_{i=2}^{N_f} R_i²) + 2 R₁ sqrt(c (1 − c) K̄/(N_f K)),   c = exp(−dt/τ),

with N_f independent standard normal R_i: Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), equation A7,
doi:10.1063/1.2408420. The sign of α is that of R₁ + sqrt(c N_f K/((1 − c) K̄)): Bussi, Zykova-Timan, Parrinello,
J. Chem. Phys. 130, 074101 (2009), doi:10.1063/1.3073889. With K̄/(N_f K) = kT/(2K) both say

    α = sign(r) sqrt(r² + s² Σ_{i=2}^{N_f} R_i²),   s² = (1 − c) kT/(2K),   r = sqrt(c) + s R₁.

The sum of N_f − 1 squares is twice a gamma variate of shape a = (N_f − 1)/2, drawn exactly by rejection: Marsaglia,
Tsang, ACM Trans. Math. Softw. 26, 363 (2000), doi:10.1145/358407.358414.
"""

import math

from openmm import CustomIntegrator

from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .arguments import at_least, positive
from .substeps import (
    BEFORE,
    allow_constraints,
    drift,
    kick,
    kinetic_energy,
    open_heat_account,
    record,
    rescale,
)

#: The rejection is exact for a shape of one or more, N_f ≥ 3. Three are refused too: they are one particle, or a pair
#: whose axis of rotation a common factor can never turn, and neither becomes canonical.
LEAST_DEGREES_OF_FREEDOM = 4
#: kJ/mol; keeps α finite for atoms that do not move at all, which no scaling can set in motion.
_LEAST_KINETIC = 1e-200


def bussi(
    *,
    timestep_ps: float,
    temperature_K: float,
    relaxation_ps: float,
    degrees_of_freedom: int,
    seed: int,
    constrained: bool = False,
) -> CustomIntegrator:
    """Velocity Verlet with stochastic velocity rescaling; its invariant is K + U − heat up to O(dt²) shadow work.

    The total momentum is scaled with everything else: zero stays zero.

    Args:
        timestep_ps: time step, ps.
        temperature_K: temperature of the bath, K.
        relaxation_ps: τ, in which the kinetic energy forgets, ps.
        degrees_of_freedom: N_f, as counted by ``freedom.degrees_of_freedom``; at least four.
        seed: of the integrator's own random stream; 1 … 2³¹−1 (OpenMM takes 0 for a seed from the clock).
        constrained: hold the constraints of the System.

    Raises:
        ConfigError: fewer than four degrees of freedom, or an argument that is not above zero.
    """
    positive(timestep_ps=timestep_ps, temperature_K=temperature_K, relaxation_ps=relaxation_ps)
    at_least(
        "degrees_of_freedom",
        degrees_of_freedom,
        LEAST_DEGREES_OF_FREEDOM,
        "one common factor cannot thermalise so few",
        "use Langevin dynamics for so small a system",
    )
    integrator = CustomIntegrator(timestep_ps)
    integrator.setRandomNumberSeed(seed)
    integrator.addGlobalVariable("kT", BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K)
    integrator.addGlobalVariable("memory", math.exp(-timestep_ps / relaxation_ps))
    open_heat_account(integrator)
    if constrained:
        allow_constraints(integrator)
    integrator.addUpdateContextState()
    kick(integrator, 0.5, constrained=constrained)
    drift(integrator, 1.0, constrained=constrained)
    kick(integrator, 0.5, constrained=constrained)
    stochastic_rescaling(integrator, degrees_of_freedom)
    record(integrator)
    return integrator


def stochastic_rescaling(integrator: CustomIntegrator, degrees_of_freedom: int) -> None:
    """Propagate the kinetic energy exactly over a whole step, and book the heat.

    Needs the globals ``kT`` (kJ/mol), ``memory`` = exp(−dt/τ), and an open heat account.
    """
    for name in ("radial", "spread", "along", "factor"):
        integrator.addGlobalVariable(name, 0.0)
    kinetic_energy(integrator, BEFORE)
    gamma_variate(integrator, 0.5 * (degrees_of_freedom - 1))
    integrator.addComputeGlobal("radial", "gaussian")
    integrator.addComputeGlobal("spread", f"(1-memory)*kT/(2*max({BEFORE}, {_LEAST_KINETIC}))")
    integrator.addComputeGlobal("along", "sqrt(memory) + sqrt(spread)*radial")
    integrator.addComputeGlobal("factor", "(2*step(along)-1)*sqrt(along*along + 2*spread*gamma)")
    rescale(integrator, "factor")


def gamma_variate(integrator: CustomIntegrator, shape: float) -> None:
    """Draw the global ``gamma`` from the gamma distribution of ``shape`` ≥ 1 and scale 1, exactly.

    Each draw has a statement of its own: OpenMM may give several occurrences of ``uniform`` in one expression the same
    number.
    """
    d = shape - 1.0 / 3.0
    for name in ("gamma", "normal", "cube", "chance", "rejected"):
        integrator.addGlobalVariable(name, 0.0)
    integrator.addComputeGlobal("rejected", "1")
    integrator.beginWhileBlock("rejected > 0")
    integrator.addComputeGlobal("normal", "gaussian")
    integrator.addComputeGlobal("chance", "uniform")
    integrator.addComputeGlobal("cube", f"(1 + {1.0 / math.sqrt(9.0 * d)}*normal)^3")
    # Negative cubes are rejected; the maximum keeps their logarithm finite.
    accepted = f"step({d}*(1 - cube + log(max(cube, 1e-300))) + 0.5*normal*normal - log(max(chance, 1e-300)))"
    integrator.addComputeGlobal("rejected", f"1 - step(cube - 1e-300)*{accepted}")
    integrator.endBlock()
    integrator.addComputeGlobal("gamma", f"{d}*cube")


def conserved_energy(*, kinetic: float, potential: float, heat: float) -> float:
    """The invariant with the heat booked, kJ/mol (equation 15 of the paper of 2007, where it is H̃)."""
    return kinetic + potential - heat
