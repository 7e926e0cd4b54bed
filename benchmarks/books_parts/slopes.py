"""B1, B2: the slope of the total energy of a frozen model under velocity Verlet, with an honest bar, and its causes.

Three series are fitted with the auditor's own slope. ``H = K + U`` is what the run conserves. Velocity Verlet conserves
much better a nearby energy (Hairer, Lubich, Wanner, Acta Numerica 12, 399, 2003, doi:10.1017/S0962492902000144)

    H₂ = H + dt² ( v·∇²U·v / 12 − F·M⁻¹·F / 24 ),      v·∇²U·v = −v·dF/dt,

whose second-order term is computed from the forces of the steps before and after. It has a mean that depends on how
energy is shared between stiff and soft modes, and wanders as they exchange it: a *shadow offset*, which makes H look as
if it drifted and comes back. A slope of H that H₂ does not share is such an offset; a slope that both share is a true
gain or loss of energy. The same run in double precision tells what rounding has to do with it.

What is left in H₂ comes from kinks. The networks' activation, CELU, has a second derivative that jumps at zero, so
forces have kinks, at which the expansion behind H₂ fails: each one that a step crosses changes the energy by O(dt²),
with a sign that depends on where in the step it lies, and the energy diffuses: its slope over a time T scatters about
zero by an amount that falls as 1/√T. The proof is a twin, the same weights with the kink rounded off over ±0.02 (a
quintic with the value, slope and curvature of CELU at both ends). The small ensemble is also run with softplus for
CELU, a surface that is smooth altogether: what is left there is the work of the integrator and of the books.

The bar of H is that of its fast fluctuations; where the wandering of H₂ beneath them is slow, the bar of H₂ is the
honest one, and both are printed.

Every run starts from an equilibrated state: Langevin first, and then, with the thermostat off, the first tenth is left
out.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
import torch
from figures import Figure
from numpy.typing import NDArray
from openmm import unit

from qmml_md.analysis.conservation.drift import DriftUnits, slope
from qmml_md.ensemble.force import build_force
from qmml_md.ensemble.model import ElementNetworks
from qmml_md.ensemble.weights import load
from qmml_md.integrators.langevin import langevin_baoab
from qmml_md.integrators.substeps import recorded_forces, recorded_potential
from qmml_md.integrators.verlet import velocity_verlet
from qmml_md.system.structures import read_structure
from qmml_md.units import FS_PER_PS, PS_PER_FS

Floats = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[2]
TEMPERATURE_K = 300.0
FRICTION_PER_PS = 5.0
#: Interval between looks at the energy: short against a slow mode, long against the cost of a look.
LOOK_EVERY_FS = 2.0
LEFT_OUT = 0.1
#: Length of the runs that only tell causes apart, as a part of the others.
TWIN = 0.5
B1_GOAL, B2_GOAL = 1e-3, 5e-2
UNIT = "kT/ns/dof"
#: Of CELU in ANI's networks, and half the width over which the twin's kink is rounded off.
ALPHA, ROUNDED = 0.1, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A slope with the half width of its 95 % interval, kT/ns/dof, and the scatter about it, kJ/mol."""

    slope: float
    half_width: float
    scatter: float

    @property
    def bound(self) -> float:
        """Largest absolute slope inside the interval."""
        return abs(self.slope) + self.half_width


def figures(*, quick: bool) -> list[Figure]:
    """B1.…, B2.…."""
    if quick:
        return b1(0.5, 0.5, quick)
    return [*b1(112.0, 20.0, quick), *b2(22.5)]


def b1(duration_ps: float, equilibration_ps: float, quick: bool) -> list[Figure]:
    """The small ensemble in double precision at 0.25 fs."""
    start = equilibrate("mini", equilibration_ps)
    energy, shadow = lines("mini", "double", 0.25, duration_ps, start)
    rounded, _ = lines("mini-rounded", "double", 0.25, TWIN * duration_ps, start)
    smooth, _ = lines("mini-smooth", "double", 0.25, duration_ps, equilibrate("mini-smooth", equilibration_ps))
    wanted = 0.0 if quick else 100.0
    length = duration_ps * (1.0 - LEFT_OUT)
    return [
        Figure(
            id="B1.bound", what=f"NVE, small ensemble, 0.25 fs, {length:g} ps: 95 % bound of the slope of H",
            value=energy.bound, unit=UNIT, goal=f"≤ {B1_GOAL:g}, ≥ 100 ps",
            met=energy.bound <= B1_GOAL and length >= wanted,
        ),
        Figure(id="B1.slope", what=f"slope of H ± {energy.half_width:.2g}", value=energy.slope, unit=UNIT),
        Figure(id="B1.shadow", what=f"slope of H₂ ± {shadow.half_width:.2g}", value=shadow.slope, unit=UNIT),
        Figure(
            id="B1.rounded", what=f"the same with the activation's kinks rounded, {TWIN * length:g} ps: 95 % bound",
            value=rounded.bound, unit=UNIT,
        ),
        Figure(
            id="B1.smooth", what=f"the same weights with a smooth activation, {length:g} ps: 95 % bound",
            value=smooth.bound, unit=UNIT, goal=f"≤ {B1_GOAL:g}", met=smooth.bound <= B1_GOAL,
        ),
    ]  # fmt: skip


def b2(duration_ps: float) -> list[Figure]:
    """ANI-1x in run precision at three time steps, and once in double precision, from one state."""
    start = equilibrate("ani1x", 20.0)
    rows = []
    length = duration_ps * (1.0 - LEFT_OUT)
    for timestep_fs in (0.5, 0.25, 0.125):
        rows += _rows(
            f"{timestep_fs:g}fs", "single", timestep_fs, lines("ani1x", "single", timestep_fs, duration_ps, start)
        )
    rows += _rows("0.25fs-double", "double", 0.25, lines("ani1x", "double", 0.25, TWIN * duration_ps, start))
    rows += _rows(
        "0.25fs-rounded",
        "single, rounded kinks",
        0.25,
        lines("ani1x-rounded", "single", 0.25, TWIN * duration_ps, start),
    )
    bound = next(row for row in rows if row.id == "B2.0.25fs.bound")
    goal = f"≤ {B2_GOAL:g}, ≥ 20 ps"
    rows[rows.index(bound)] = Figure(
        id=bound.id, what=bound.what, value=bound.value, unit=UNIT, goal=goal,
        met=bound.value <= B2_GOAL and length >= 20.0,
    )  # fmt: skip
    return rows


def _rows(name: str, precision: str, timestep_fs: float, pair: tuple[Line, Line]) -> list[Figure]:
    about = f"ANI-1x, ethanol, {precision}, {timestep_fs:g} fs"
    energy, shadow = pair

    def row(what: str, text: str, value: float, of: str = UNIT) -> Figure:
        return Figure(id=f"B2.{name}.{what}", what=f"{about}: {text}", value=value, unit=of)

    return [
        row("slope", f"slope of H ± {energy.half_width:.2g}", energy.slope),
        row("bound", "95 % bound of it", energy.bound),
        row("shadow", f"slope of H₂ ± {shadow.half_width:.2g}", shadow.slope),
        row("rms", "RMS of H about its line", energy.scatter, "kJ/mol"),
        row("rms2", "RMS of H₂ about its line", shadow.scatter, "kJ/mol"),
    ]


class RoundedNetworks(ElementNetworks):
    """The same layers with the kink of the activation rounded off over ±``ROUNDED``."""

    def __init__(self, network: ElementNetworks) -> None:
        """Take over the layers of a network."""
        super().__init__([*network.hidden, network.last])
        self.width, self.alpha = ROUNDED, ALPHA
        self.c0, self.c1, self.c2, self.c3, self.c4, self.c5 = quintic(ROUNDED)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """As that of ``ElementNetworks``."""
        x = features
        for layer in self.hidden:
            z = layer(x)
            near = self.c0 + z * (self.c1 + z * (self.c2 + z * (self.c3 + z * (self.c4 + z * self.c5))))
            x = torch.where(z.abs() < self.width, near, self.alpha * torch.nn.functional.elu(z / self.alpha))
        energies: torch.Tensor = self.last(x).squeeze(-1)
        return energies


class SmoothNetworks(ElementNetworks):
    """The same layers with softplus for CELU: another surface of the same kind, with all derivatives."""

    def __init__(self, network: ElementNetworks) -> None:
        """Take over the layers of a network."""
        super().__init__([*network.hidden, network.last])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """As that of ``ElementNetworks``."""
        x = features
        for layer in self.hidden:
            x = torch.nn.functional.softplus(layer(x), beta=10.0, threshold=200.0)
        energies: torch.Tensor = self.last(x).squeeze(-1)
        return energies


#: Networks with another activation, by the name that follows that of the weights.
TWINS = {"rounded": RoundedNetworks, "smooth": SmoothNetworks}


def quintic(width: float) -> list[float]:
    """Coefficients, lowest first, with value, slope and curvature of CELU(α) at −width and of x at +width."""
    decay = math.exp(-width / ALPHA)
    wanted = [ALPHA * (decay - 1.0), decay, decay / ALPHA, width, 1.0, 0.0]
    powers = np.arange(6)
    rows = []
    for x in (-width, width):
        rows.append(x**powers)
        rows.append(np.where(powers > 0, powers * x ** np.maximum(powers - 1, 0), 0.0))
        rows.append(np.where(powers > 1, powers * (powers - 1) * x ** np.maximum(powers - 2, 0), 0.0))
    return [float(c) for c in np.linalg.solve(np.array(rows, dtype=np.float64), np.array(wanted))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An equilibrated state, nm and nm/ps, shape (n, 3) each, at rest as a whole."""

    positions: Floats
    velocities: Floats


def context(model: str, precision: str, integrator: openmm.CustomIntegrator) -> tuple[openmm.Context, Floats]:
    """Ethanol in vacuum on the CPU platform, and its masses in Da."""
    molecules = read_structure(ROOT / "examples" / "ethanol_nve" / "ethanol.pdb")
    name, _, twin = model.partition("-")
    ensemble = load(str(ROOT / "tests" / "data" / "ani_mini.safetensors") if name == "mini" else name, precision)
    if twin:
        for i, network in enumerate(ensemble.networks):
            ensemble.networks[i] = TWINS[twin](network).to(ensemble.dtype)
    system = openmm.System()
    for mass in molecules.masses:
        system.addParticle(float(mass))
    system.addForce(build_force(ensemble, molecules.numbers, periodic=False, kind="torchforce"))
    made = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    made.setPositions(molecules.positions)
    return made, molecules.masses


def equilibrate(model: str, duration_ps: float) -> Start:
    """Minimise, then Langevin at 300 K with steps of 0.5 fs."""
    bath = langevin_baoab(timestep_ps=0.5e-3, temperature_K=TEMPERATURE_K, friction_per_ps=FRICTION_PER_PS, seed=11)
    made, masses = context(model, "single", bath)
    openmm.LocalEnergyMinimizer.minimize(made, maxIterations=100)
    made.setVelocitiesToTemperature(TEMPERATURE_K, 5)
    bath.step(round(duration_ps / 0.5e-3))
    state = made.getState(getPositions=True, getVelocities=True)
    velocities = _numbers(state.getVelocities(asNumpy=True), unit.nanometer / unit.picosecond)
    velocities -= masses @ velocities / masses.sum()
    return Start(positions=_numbers(state.getPositions(asNumpy=True), unit.nanometer), velocities=velocities)


def lines(model: str, precision: str, timestep_fs: float, duration_ps: float, start: Start) -> tuple[Line, Line]:
    """Slopes of H and of H₂ over one run from one state."""
    timestep_ps = timestep_fs * PS_PER_FS
    verlet = velocity_verlet(timestep_ps)
    made, masses = context(model, precision, verlet)
    made.setPositions(start.positions)
    made.setVelocities(start.velocities)
    stride = round(LOOK_EVERY_FS / timestep_fs)
    looks = round(duration_ps * FS_PER_PS / LOOK_EVERY_FS)
    energy, shadow = np.empty(looks), np.empty(looks)
    for i in range(looks):
        verlet.step(stride - 2)
        before = recorded_forces(verlet)
        verlet.step(1)
        now, potential = recorded_forces(verlet), recorded_potential(verlet)
        state = made.getState(getVelocities=True)
        velocities = _numbers(state.getVelocities(asNumpy=True), unit.nanometer / unit.picosecond)
        verlet.step(1)
        change = (recorded_forces(verlet) - before) / (2.0 * timestep_ps)
        energy[i] = potential + 0.5 * float(masses @ (velocities**2).sum(axis=1))
        curvature, push = -float((velocities * change).sum()), float(((now**2).sum(axis=1) / masses).sum())
        shadow[i] = energy[i] + timestep_ps**2 * (curvature / 12.0 - push / 24.0)
    skip = round(LEFT_OUT * looks)
    time = np.arange(looks - skip) * LOOK_EVERY_FS * PS_PER_FS
    units = DriftUnits(atoms=len(masses), degrees_of_freedom=3 * len(masses) - 3, temperature=TEMPERATURE_K)
    return _line(time, energy[skip:], units), _line(time, shadow[skip:], units)


def _line(time: Floats, series: Floats, units: DriftUnits) -> Line:
    found, factor = slope(time, series), units.factors()[UNIT]
    return Line(slope=found.value * factor, half_width=found.half_width * factor, scatter=found.residual_sd)


def _numbers(quantity: object, of: unit.Unit) -> Floats:
    return np.array(quantity.value_in_unit(of), dtype=np.float64)  # type: ignore[attr-defined]
