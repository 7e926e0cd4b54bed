"""What a run is made of, and the one way in which it books an exchange of energy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble
from ..ensemble.potential import Potential
from ..records.books import Account, Entry
from ..records.rows import Event
from ..region.numbering import renumbered_region
from ..region.policy import Region, ThresholdPolicy
from ..region.surroundings import ForceFieldCharges
from ..system.archive import Simulated
from ..system.molecules import Floats, Ints, Molecules
from ..units import PS_PER_FS
from .barostat import Barostat
from .experience import Experience
from .journal import Journal
from .learner import Learner
from .progress import Progress
from .simulation import Simulation
from .state import State
from .stretch import Stretch


@dataclass(slots=True, kw_only=True)
class Surface:
    """What the atoms move on: a model, and another one while it is being blended in."""

    ensemble: AniEnsemble
    coming: AniEnsemble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of.

    Attributes:
        kinds: atoms of each kind of molecule that is on the ensemble, counted there.
        charges: of the force field, where labels are embedded in them; else None.
    """

    config: Config
    simulated: Simulated
    potential: Potential
    surface: Surface
    simulation: Simulation
    journal: Journal
    learner: Learner
    experience: Experience
    stretch: Stretch
    barostat: Barostat | None
    progress: Progress
    rng: np.random.Generator
    degrees_of_freedom: int
    kinds: tuple[Ints, ...]
    charges: ForceFieldCharges | None = None

    @property
    def molecules(self) -> Molecules:
        """All atoms."""
        return self.simulated.molecules

    def part(self, now: Molecules) -> Molecules:
        """What is on the ensemble, link atoms included; what is learned about is counted there.

        Args:
            now: all atoms, where they are.
        """
        return self.simulated.part.at(now.positions, now.box)

    def doubt(self, now: Molecules) -> Floats:
        """Disagreement of what is on the ensemble, eV/Å, shape (a + l,); zero on link atoms.

        Args:
            now: all atoms, where they are.
        """
        with self.journal.timings.measure("disagreement"):
            return self.of_part(self.potential.disagreement(self.surface.ensemble, now.positions, now.box))

    def of_part(self, values: Floats) -> Floats:
        """Values of all atoms, shape (n,), as those of what is on the ensemble, shape (a + l,); zero on link atoms."""
        outer = self.simulated.part.outer
        return np.where(outer >= 0, values[outer], 0.0)

    def of_whole(self, values: Floats) -> Floats:
        """The other way, shape (n,): zero in the force field, which has no doubt."""
        atoms = self.simulated.part.atoms
        found = np.zeros(self.molecules.size)
        found[atoms] = values[: len(atoms)]
        return found

    def whole_region(self, region: Region) -> Region:
        """A region of what is on the ensemble, counted among all atoms."""
        return renumbered_region(region, self.simulated.part.outer)

    @property
    def policy(self) -> ThresholdPolicy:
        """Of the region, with the thresholds that hold now."""
        return self.experience.policy

    @property
    def timestep_ps(self) -> float:
        """Time step, ps."""
        return self.config.dynamics.timestep_fs * PS_PER_FS

    def book(self, state: State, account: Account, before: float, after: float, cause: str) -> None:
        """Book an exchange of energy at the present step; kJ/mol."""
        step, time = state.step, state.step * self.timestep_ps
        entry = Entry(step=step, time=time, account=account, before=before, after=after, cause=cause)
        self.journal.post(entry)

    def note(self, state: State, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Write down something that happened, and tell whoever watches."""
        time, numbers = state.step * self.timestep_ps, dict(data or {})
        event = Event(step=state.step, time=time, kind=kind, message=message, data=numbers)
        self.journal.event(event)
        self.progress.event(event)
