"""Telling whoever watches where a run stands, often enough and not too often."""

import time

from ..units import PS_PER_FS
from .progress import Progress, Status
from .state import State

#: Seconds between two words.
TELL_EVERY_S = 0.25
SECONDS_PER_DAY = 86400.0
NS_PER_PS = 1e-3


class Teller:
    """Makes a ``Status`` from a ``State``.

    Attributes:
        temperature_K: of the last frame.
        drift_kj_per_mol: of the last frame.
    """

    def __init__(self, progress: Progress, state: State, *, steps: int, timestep_fs: float) -> None:
        self._progress = progress
        self._steps = steps
        self._timestep_ps = timestep_fs * PS_PER_FS
        self._began = time.perf_counter()
        self._first_step = state.step
        self._last = -TELL_EVERY_S
        self.temperature_K = 0.0
        self.drift_kj_per_mol = 0.0

    def tell(self, stage: str, state: State, labels: int, *, force: bool = False) -> None:
        """Report, unless the last report was a moment ago."""
        now = time.perf_counter()
        if not force and now - self._last < TELL_EVERY_S:
            return
        self._last = now
        rate = (state.step - self._first_step) / max(now - self._began, 1e-9)
        self._progress.status(
            Status(
                stage=stage,
                step=state.step,
                steps=self._steps,
                time_ps=state.step * self._timestep_ps,
                temperature_K=self.temperature_K,
                drift_kj_per_mol=self.drift_kj_per_mol,
                core_atoms=len(state.region.core),
                region_atoms=len(state.region.atoms),
                labels=labels,
                accepted=state.accepted,
                refused=state.refused,
                ns_per_day=rate * self._timestep_ps * NS_PER_PS * SECONDS_PER_DAY,
                eta_s=(self._steps - state.step) / rate if rate > 0 else None,
            )
        )
