"""What the labels of a run have taught about its own doubt: calibration, thresholds, horizon.

Everything here follows from the rows of ``run.db`` in their order, so that a run that is resumed knows the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import Config
from ..config import Region as RegionSettings
from ..learning.calibration import Calibration, Sample, fit_calibration
from ..learning.horizon import Visit
from ..records.rows import LabelRow
from ..region.layout import NO_ATOMS, Layout, lay_out
from ..region.policy import ThresholdPolicy
from ..system.molecules import Ints, Molecules
from ..system.selection import select

#: A core atom stays while its disagreement is this part of ``enter``, where both are derived from a target.
STAY_FRACTION = 2.0 / 3.0
#: Thresholds stay between these, eV/Å, whatever a calibration on few labels says.
LEAST_ENTER_EV_PER_A, MOST_ENTER_EV_PER_A = 1e-4, 1e4


@dataclass(slots=True)
class Experience:
    """What is known from labels. Kept up by ``absorb``.

    Attributes:
        config: of the run.
        layout: units of what the region moves in; None to lay out anew at each look.
        rows: every label of the run with its prequential score, in order.
        calibration: from σ to force errors, fitted on the rows.
        policy: of the region, with the thresholds that hold now.
    """

    config: Config
    layout: Layout | None = None
    rows: list[LabelRow] = field(default_factory=list)
    calibration: Calibration = field(init=False)
    policy: ThresholdPolicy = field(init=False)

    def __post_init__(self) -> None:
        self._fit()

    def absorb(self, rows: Sequence[LabelRow]) -> None:
        """Take new labels in and calibrate again."""
        if rows:
            self.rows.extend(rows)
            self._fit()

    def visits(self) -> list[Visit]:
        """Prequential scores against the steps since the last label, in order."""
        return [
            Visit(
                steps_since=int(row.data["steps_since"]),
                force_rmse=float(row.data["force_rmse"]),
                force_rmse_start=float(row.data["force_rmse_start"]),
            )
            for row in self.rows
            if row.data.get("steps_since") is not None
        ]

    def _fit(self) -> None:
        samples = [sample for row in self.rows if (sample := sample_of(row.data)) is not None]
        self.calibration = fit_calibration(samples)
        self.policy = thresholds(self.config.region, self.calibration, self.layout)


def sample_of(data: dict[str, Any]) -> Sample | None:
    """The atoms of one label, for calibration; None where nothing is known of their disagreement."""
    if data.get("expected") is None:
        return None
    known = np.array([sigma is not None for sigma in data["sigma"]], dtype=bool)
    sigma = np.array([0.0 if value is None else value for value in data["sigma"]], dtype=np.float64)
    return Sample(
        sigma=sigma[known],
        error=np.array(data["error"], dtype=np.float64)[known],
        elements=np.array(data["elements"], dtype=np.int64)[known],
        novelty=np.array(data["novelty"], dtype=np.float64)[known],
    )


def thresholds(settings: RegionSettings, calibration: Calibration, layout: Layout | None = None) -> ThresholdPolicy:
    """How the region is chosen: by the thresholds given, or by those that a target force error calls for.

    Args:
        settings: of the region.
        calibration: from σ to force errors.
        layout: units, seeds and exclusions of the system, see ``region_layout``.
    """
    enter, stay = settings.enter_eV_per_A, settings.stay_eV_per_A
    if settings.target_force_error_eV_per_A is not None:
        reached = float(calibration.sigma_at(settings.target_force_error_eV_per_A))
        if not math.isnan(reached):
            enter = min(max(reached, LEAST_ENTER_EV_PER_A), MOST_ENTER_EV_PER_A)
            stay = STAY_FRACTION * enter
    return ThresholdPolicy(
        enter_eV_per_A=enter,
        stay_eV_per_A=stay,
        buffer_A=settings.buffer_A,
        max_atoms=settings.max_qm_atoms,
        buffer_bonds=settings.buffer_bonds,
        solvent_molecules=settings.solvent_molecules,
        smoothing_fs=settings.smoothing_fs,
        min_residence_checks=settings.min_residence_checks,
        clusters_per_frame=settings.clusters_per_frame,
        layout=layout,
    )


def region_layout(settings: RegionSettings, molecules: Molecules) -> Layout:
    """The units of a system, with the atoms that the selections of the configuration name.

    Args:
        settings: of the region.
        molecules: what the region moves in: where a force field has a part, only what is on the ensemble.

    Raises:
        ConfigError: a selection cannot be read, selects nothing, or selects what another one forbids.
    """

    def selected(expression: str | None, key: str) -> Ints:
        return NO_ATOMS if expression is None else select(molecules, expression, f"region.{key}")

    # The default names what most systems have and some have not: it must be there only where it is counted.
    counted = settings.solvent_molecules is not None
    solvent = select(molecules, settings.solvent, "region.solvent", may_be_empty=not counted)
    return lay_out(
        molecules,
        max_atoms=settings.max_qm_atoms,
        unit=settings.unit,
        seeds=selected(settings.seed, "seed"),
        excluded=selected(settings.exclude, "exclude"),
        solvent=solvent,
    )
