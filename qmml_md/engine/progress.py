"""What the engine tells whoever watches a run."""

from dataclasses import dataclass
from typing import Protocol

from ..records.rows import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a run stands.

    Attributes:
        stage: `minimise`, `equilibrate`, `md`, `disagreement`, `qm`, `training`, `swap`, `io` or `done`.
        step: steps done.
        steps: steps asked for.
        time_ps: simulated time.
        temperature_K: instantaneous.
        drift_kj_per_mol: H̃ now minus H̃ at the first frame of the run.
        core_atoms: core atoms of the region now.
        region_atoms: all atoms of the region now.
        labels: labels so far.
        accepted: accepted model updates so far.
        refused: refused model updates so far.
        ns_per_day: speed of the dynamics since this process began, everything included.
        eta_s: estimated wall time left; None while nothing is known.
    """

    stage: str
    step: int
    steps: int
    time_ps: float
    temperature_K: float
    drift_kj_per_mol: float
    core_atoms: int
    region_atoms: int
    labels: int
    accepted: int
    refused: int
    ns_per_day: float
    eta_s: float | None


class Progress(Protocol):
    """Anything that watches a run; must return quickly and never raise."""

    def status(self, status: Status) -> None:
        """Take note of where the run stands; called several times a second at most."""
        ...

    def event(self, event: Event) -> None:
        """Take note of something that happened."""
        ...


class Silent:
    """Watches nothing."""

    def status(self, status: Status) -> None:
        """Ignore."""

    def event(self, event: Event) -> None:
        """Ignore."""
