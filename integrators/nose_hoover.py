"""Nosé–Hoover chains (NVT): half a step of the chain, B A B, half a step of the chain; deterministic, heat booked.

Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992), doi:10.1063/1.463940; the splitting is that of Martyna,
Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996), doi:10.1080/00268979600100761. M thermostats with positions ξ_j,
velocities η_j and masses Q_1 = N_f kT τ², Q_j = kT τ² obey

    dv/dt = F/m − η_1 v,   dξ_j/dt = η_j,   Q_j dη_j/dt = G_j − Q_j η_j η_{j+1}   (the last term not for j = M),
    G_1 = 2K − N_f kT,   G_j = Q_{j−1} η_{j−1}² − kT,

and conserve K + U + Σ_j Q_j η_j²/2 + N_f kT ξ_1 + kT Σ_{j>1} ξ_j. Where K follows the first thermostat alone, small
oscillations of η_1 have ω² = 2/τ²: τ is the time scale of the exchange of energy, whose period is √2 π τ.

The propagator of the chain is factorised with the weights of Suzuki (Phys. Lett. A 146, 319, 1990,
doi:10.1016/0375-9601(90)90962-N) and Yoshida (Phys. Lett. A 150, 262, 1990, doi:10.1016/0375-9601(90)90092-3), order
four.
"""

from openmm import CustomIntegrator

from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from .arguments import at_least, positive
from .substeps import (
    BEFORE,
    allow_constraints,
    drift,
    global_names,
    kick,
    kinetic_energy,
    open_heat_account,
    record,
    rescale,
)

_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
#: Fractions of a chain step, order four; they add up to one.
WEIGHTS = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)


def nose_hoover(
    *,
    timestep_ps: float,
    temperature_K: float,
    relaxation_ps: float,
    degrees_of_freedom: int,
    chain_length: int = 3,
    constrained: bool = False,
) -> CustomIntegrator:
    """Velocity Verlet between two half steps of a Nosé–Hoover chain, which starts at rest.

    It has two invariants, both flat up to O(dt²): K + U − heat, and the extended energy. They differ by what the
    chain's own propagator misses, O(dt⁴).

    Args:
        timestep_ps: time step, ps.
        temperature_K: temperature of the bath, K.
        relaxation_ps: τ of the masses of the chain, ps; well above the time step.
        degrees_of_freedom: N_f, as counted by ``freedom.degrees_of_freedom``.
        chain_length: number of thermostats, M; one alone is not ergodic for small or stiff systems.
        constrained: hold the constraints of the System.

    Raises:
        ConfigError: an argument that is not above zero.
    """
    positive(timestep_ps=timestep_ps, temperature_K=temperature_K, relaxation_ps=relaxation_ps)
    at_least("degrees_of_freedom", degrees_of_freedom, 1, "nothing moves", "count them with freedom.degrees_of_freedom")
    at_least("chain_length", chain_length, 1, "a chain has a first thermostat", "use 3, or velocity Verlet for none")
    integrator = CustomIntegrator(timestep_ps)
    kT = BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K
    _declare_chain(integrator, kT, relaxation_ps, degrees_of_freedom, chain_length)
    open_heat_account(integrator)
    if constrained:
        allow_constraints(integrator)
    integrator.addUpdateContextState()
    chain(integrator, 0.5, chain_length)
    kick(integrator, 0.5, constrained=constrained)
    drift(integrator, 1.0, constrained=constrained)
    kick(integrator, 0.5, constrained=constrained)
    chain(integrator, 0.5, chain_length)
    record(integrator)
    return integrator


def _declare_chain(integrator: CustomIntegrator, kT: float, tau_ps: float, freedom: int, length: int) -> None:
    integrator.addGlobalVariable("kT", kT)
    integrator.addGlobalVariable("freedom", freedom)
    for name in ("twice", "scale"):
        integrator.addGlobalVariable(name, 0.0)
    for j in range(1, length + 1):
        integrator.addGlobalVariable(f"chain_mass_{j}", (freedom if j == 1 else 1) * kT * tau_ps**2)
        integrator.addGlobalVariable(f"chain_position_{j}", 0.0)
        integrator.addGlobalVariable(f"chain_velocity_{j}", 0.0)


def chain(integrator: CustomIntegrator, fraction: float, length: int) -> None:
    """Advance the chain by ``fraction`` of a step, scale the velocities, and book the heat.

    All of it happens in globals, but for one sum before and one after.
    """
    kinetic_energy(integrator, BEFORE)
    integrator.addComputeGlobal("scale", "1")
    integrator.addComputeGlobal("twice", f"2*{BEFORE}")
    for weight in WEIGHTS:
        h = weight * fraction
        for j in range(length, 0, -1):
            _chain_kick(integrator, j, length, 0.5 * h)
        integrator.addComputeGlobal("scale", f"scale*exp(-{h}*dt*chain_velocity_1)")
        integrator.addComputeGlobal("twice", f"2*{BEFORE}*scale^2")
        for j in range(1, length + 1):
            integrator.addComputeGlobal(f"chain_position_{j}", f"chain_position_{j} + {h}*dt*chain_velocity_{j}")
        for j in range(1, length + 1):
            _chain_kick(integrator, j, length, 0.5 * h)
    rescale(integrator, "scale")


def _chain_kick(integrator: CustomIntegrator, j: int, length: int, fraction: float) -> None:
    """η_j over ``fraction`` of a step: half the friction of its neighbour, its force, the other half."""
    this, mass = f"chain_velocity_{j}", f"chain_mass_{j}"
    force = "twice - freedom*kT" if j == 1 else f"chain_mass_{j - 1}*chain_velocity_{j - 1}^2 - kT"
    if j == length:
        integrator.addComputeGlobal(this, f"{this} + {fraction}*dt*({force})/{mass}")
        return
    friction = f"friction = exp(-{0.5 * fraction}*dt*chain_velocity_{j + 1})"
    integrator.addComputeGlobal(this, f"({this}*friction + {fraction}*dt*({force})/{mass})*friction; {friction}")


def conserved_energy(*, kinetic: float, potential: float, heat: float) -> float:
    """The invariant with the heat booked, kJ/mol."""
    return kinetic + potential - heat


def extended_energy(integrator: CustomIntegrator, *, kinetic: float, potential: float) -> float:
    """The invariant of system and chain together, kJ/mol.

    Args:
        integrator: made by ``nose_hoover``, at the end of a step.
        kinetic: of the atoms, kJ/mol.
        potential: of the atoms, kJ/mol.
    """
    return kinetic + potential + chain_energy(integrator)


def chain_energy(integrator: CustomIntegrator) -> float:
    """Energy of the chain, Σ Q_j η_j²/2 + N_f kT ξ_1 + kT Σ_{j>1} ξ_j, kJ/mol; zero when the integrator is new."""
    values = {name: float(integrator.getGlobalVariableByName(name)) for name in global_names(integrator)}
    length = sum(name.startswith("chain_mass_") for name in values)
    total = values["freedom"] * values["kT"] * values["chain_position_1"]
    total += values["kT"] * sum(values[f"chain_position_{j}"] for j in range(2, length + 1))
    for j in range(1, length + 1):
        total += 0.5 * values[f"chain_mass_{j}"] * values[f"chain_velocity_{j}"] ** 2
    return total
