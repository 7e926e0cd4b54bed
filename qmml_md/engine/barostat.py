"""Monte-Carlo barostat: moves of the volume that scale the centres of molecules, accepted at constant N, p, T.

A move from volume V to V' is accepted with probability ``min(1, exp(−w/kT))``,
``w = ΔU + p ΔV − N kT ln(V'/V)`` with N the number of molecules (Chow, Ferguson, Comput. Phys. Commun. 91, 283, 1995,
doi:10.1016/0010-4655(95)00059-O; Åqvist, Wennerström, Nervall, Bjelic, Brandsdal, Chem. Phys. Lett. 384, 288, 2004,
doi:10.1016/j.cplett.2003.12.039). Molecules move as a whole, so bonds do not feel it; the largest move adapts as in
OpenMM's barostat. That one is not used because a context's checkpoint does not hold its random stream and its adapted
move: a run that is resumed would not be the run that was never interrupted.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import DynamicsError
from ..system.images import perpendicular_widths
from ..system.molecules import Floats, Ints, Molecules
from ..units import ANGSTROM_PER_NM, BOLTZMANN_KJ_PER_MOL_PER_K, KJ_PER_MOL_PER_NM3_PER_BAR

#: Largest first move, as a part of the first volume.
FIRST_MOVE = 0.01
#: Moves after which the largest move is adapted, and by how much; between these rates of acceptance it stays.
ADAPT_EVERY, ADAPT_BY = 10, 1.1
FEW, MANY = 0.25, 0.75
#: The largest move never exceeds this part of the first volume.
LARGEST_MOVE = 0.3


class Movable(Protocol):
    """Atoms with a potential energy, whose box can change: a ``Simulation``, or anything with its two functions."""

    def potential(self) -> float:
        """Potential energy now, kJ/mol."""
        ...

    def move(self, positions: Floats, box: Floats) -> float:
        """Put the atoms elsewhere, nm, in another box, nm; returns the potential energy there, kJ/mol."""
        ...


@dataclass(slots=True, kw_only=True)
class BarostatState:
    """What adapts, kept in checkpoints.

    Attributes:
        largest_move_nm3, limit_nm3: of moves, and of ``largest_move_nm3``. Not parts of the present volume: moves there
            and back must be proposed equally often. Zero before the first move.
        attempted, accepted: since it was last adapted.
    """

    largest_move_nm3: float = 0.0
    limit_nm3: float = 0.0
    attempted: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMove:
    """An accepted move: potential energies (kJ/mol) and volumes (nm³) before and after."""

    before: float
    after: float
    volume_before: float
    volume_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Barostat:
    """Settings of a barostat.

    Attributes:
        pressure_bar: pressure.
        temperature_K: of the thermostat.
        cutoff_nm: no width of the box may fall below twice this.
    """

    pressure_bar: float
    temperature_K: float
    cutoff_nm: float

    def attempt(
        self, simulation: Movable, molecules: Molecules, state: BarostatState, rng: np.random.Generator
    ) -> VolumeMove | None:
        """Try one move; the simulation stands at its end if it was accepted, else where it was.

        Args:
            simulation: what moves.
            molecules: with positions and box as they are now, nm.
            state: adapts.
            rng: the random stream.

        Returns:
            The move, or None if it was refused.

        Raises:
            DynamicsError: the box has become too small for the model.
        """
        box = molecules.box
        if box is None:
            raise DynamicsError("a barostat needs a periodic box", cure="take dynamics.pressure_bar out")
        volume = float(np.linalg.det(box))
        if state.limit_nm3 == 0.0:
            state.largest_move_nm3, state.limit_nm3 = FIRST_MOVE * volume, LARGEST_MOVE * volume
        change = state.largest_move_nm3 * float(rng.uniform(-1.0, 1.0))
        scale = float((1.0 + change / volume) ** (1.0 / 3.0))
        self._refuse_small(box * scale)
        before = simulation.potential()
        after = simulation.move(scaled(molecules.positions, molecules.molecule_of, scale), box * scale)
        accepted = self._accept(after - before, volume, change, int(molecules.molecule_of.max()) + 1, rng)
        adapt(state, accepted=accepted)
        if not accepted:
            simulation.move(molecules.positions, box)
            return None
        return VolumeMove(before=before, after=after, volume_before=volume, volume_after=volume + change)

    def _accept(self, energy: float, volume: float, change: float, molecules: int, rng: np.random.Generator) -> bool:
        thermal = BOLTZMANN_KJ_PER_MOL_PER_K * self.temperature_K
        work = self.pressure_bar * KJ_PER_MOL_PER_NM3_PER_BAR * change
        w = energy + work - molecules * thermal * math.log1p(change / volume)
        # One draw for each move, needed or not, so that the stream does not depend on what happens.
        return math.log1p(-float(rng.random())) <= -w / thermal

    def _refuse_small(self, box: Floats) -> None:
        widths = perpendicular_widths(box)
        if widths.min() < 2.0 * self.cutoff_nm:
            raise DynamicsError(
                f"the barostat has made the box {widths.min() * ANGSTROM_PER_NM:.2f} Å wide, less than twice the "
                f"cutoff of the model ({2.0 * self.cutoff_nm * ANGSTROM_PER_NM:.1f} Å)",
                cure="begin with a larger box; the last commit of the run is whole",
            )


def scaled(positions: Floats, molecule_of: Ints, scale: float) -> Floats:
    """Positions (nm, shape (n, 3)) with the centre of each molecule scaled about the origin, molecules unchanged."""
    count = np.bincount(molecule_of)[:, None]
    centres = np.stack([np.bincount(molecule_of, weights=positions[:, i]) for i in range(3)], axis=1) / count
    moved: Floats = positions + (scale - 1.0) * centres[molecule_of]
    return moved


def adapt(state: BarostatState, *, accepted: bool) -> None:
    """Count a move, and now and then change how large the next ones may be."""
    state.attempted += 1
    state.accepted += accepted
    if state.attempted < ADAPT_EVERY:
        return
    rate = state.accepted / state.attempted
    if rate < FEW:
        state.largest_move_nm3 /= ADAPT_BY
    elif rate > MANY:
        state.largest_move_nm3 = min(state.largest_move_nm3 * ADAPT_BY, state.limit_nm3)
    state.attempted = state.accepted = 0
