"""The rows of ``run.db``: segments, events, regions, models, labels."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """A committed segment: steps it spans, the model it ran on, its file (relative to the run) and its hash.

    ``blend`` is the model that was being blended in, empty outside a ramp.
    """

    id: int
    first_step: int
    last_step: int
    frames: int
    model: str
    blend: str = ""
    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A committed checkpoint: its step and model, its folder (a name in ``checkpoints/``) and its manifest's hash.

    The hash is empty where an earlier version of this program wrote it.
    """

    id: int
    step: int
    folder: str
    sha256: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for a person.

    Attributes:
        kind: `start`, `resume` (data `exact`), `stop`, `finish`, `lock` (the file system has none), `level` (labels and
            weights are of different levels of theory), `region`, `region_failed`, `label`, `label_failed`,
            `label_retried`, `update_accepted`, `update_refused`, `update_unneeded`, `ramp`, `rewind`, `explosion`,
            `trust_window` (the run is beyond it and carries on), `calibration` (data as ``Calibration.plain``),
            `interval` (data `interval` and `horizon`, steps), `sleep` and `wake` of learning.
        message: one line.
        data: numbers behind it, JSON-able.
    """

    step: int
    time: float
    kind: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRow:
    """The region from ``step`` on: core and all atoms, as index lists."""

    epoch: int
    step: int
    core: tuple[int, ...]
    atoms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model that moved the atoms from ``step`` on; ``parent`` is empty for the first.

    ``data`` of an update holds `delta_u_kj_per_mol`, `epochs`, `learning_curve` (rows of epoch, force RMSE in eV/Å,
    largest residual in eV/Å), `labels` (keys of all trained on), `training_set` (the same and more, by where
    it came from), `wall_time_s`, and what the gate found (``learning.gate.Verdict``), among it `force_rmse` and
    `force_maxresid` (re-measured on the saved model, eV/Å) and `anchor_shift` (eV/Å).
    """

    id: str
    step: int
    parent: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """A label with its prequential score: what ``model`` predicted before it was trained on the label.

    ``step`` is that of the frame that the cluster was cut from. ``data`` holds

    - of the cluster: `parents` (atom indices), `core` (which of them are core, booleans), `elements` (atomic numbers);
    - of the model: `sigma` (eV/Å per atom, null for a link atom), `error` (norm of the force residual per atom, eV/Å),
      `force_rmse`, `force_maxresid`, `force_rmse_start` (eV/Å; of the model that the run began with, to see whether
      learning helped), `energy_error_eV`;
    - of the guarantee: `complete` (which atoms have everything within the model's cutoff in the cluster, booleans),
      `guaranteed` (share of the core atoms that have), `force_rmse_complete`, `force_rmse_complete_start` (over those
      atoms, eV/Å), all null where it is not known; `weighted_force_rmse`, `weighted_force_rmse_start` (atoms counted as
      in training, null where none counts), and `weighted_force_rmse` of the `shadow`;
    - of what was known before: `expected`, `bound` (force error per atom by the calibration so far, eV/Å; null for a
      model of one member), `novelty` (per atom), `shadow` (`model` and `force_rmse`, eV/Å, of the last refused
      candidate; null where there is none);
    - of the occasion: `trigger` (`event`, `periodic`, `stop`, `random`), `looked_at` (step of the look that asked for
      it), `interval` (N then, steps), `held_out` (never trained on), `steps_since` (steps since the labels that the
      model last learned from, null before the first);
    - of the calculation: `wall_time_s`, `rung`, `reused` (whether another run had paid for it), `digest` (of its
      numbers), `force_rms` (of the label's own forces, eV/Å).
    """

    key: str
    step: int
    model: str
    region_epoch: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How much was true at a commit: what came later can be voided. Voided rows stay, and count no more.

    Attributes:
        entries, segments, models: numbers of rows that were not void.
    """

    entries: int
    segments: int
    models: int
