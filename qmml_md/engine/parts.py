"""What a run is made of, and the one way in which it books an exchange of energy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble
from ..records.books import Account, Entry
from ..records.rows import Event
from ..region.policy import ThresholdPolicy
from ..system.molecules import Ints, Molecules
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
    """What a run is made of."""

    config: Config
    molecules: Molecules
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
