"""Frames of a trajectory as one block of float64 arrays."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RunDirectoryError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One stored instant. Velocities are on-step: they belong to the same time as the positions.

    Attributes:
        step: step number.
        time: ps.
        positions: nm, shape (n, 3), unwrapped.
        velocities: nm/ps, shape (n, 3).
        forces_used: kJ/mol/nm, shape (n, 3), of the model that moved the atoms.
        potential_used: kJ/mol, of the same model, self energies subtracted.
        kinetic: kJ/mol.
        conserved: H̃ in kJ/mol, as the books stood when the frame was taken.
        entries: number of ledger entries posted before this frame.
        box: nm, shape (3, 3); zeros in vacuum.
        region_epoch: epoch of the region in force.
        disagreement: σ in eV/Å, shape (n,); NaN in frames where it was not computed.
        blend: λ of a ramp, ``U = (1 − λ) U_model + λ U_blended``; 0 outside one.
    """

    step: int
    time: float
    positions: Floats
    velocities: Floats
    forces_used: Floats
    potential_used: float
    kinetic: float
    conserved: float
    entries: int
    box: Floats
    region_epoch: int
    disagreement: Floats
    blend: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """f frames of n atoms; the attributes of ``Frame`` with a leading axis of length f, and the model they ran on.

    Attributes:
        model_id: per frame, SHA-256 of the weights file of the model that moved the atoms; tuple of length f.
        blend_id: per frame, the same of the model that was being blended in; empty outside a ramp.
    """

    step: Ints
    time: Floats
    positions: Floats
    velocities: Floats
    forces_used: Floats
    potential_used: Floats
    kinetic: Floats
    conserved: Floats
    entries: Ints
    box: Floats
    region_epoch: Ints
    disagreement: Floats
    blend: Floats
    model_id: tuple[str, ...]
    blend_id: tuple[str, ...]

    def __post_init__(self) -> None:
        f = len(self.step)
        for field in fields(self):
            if len(getattr(self, field.name)) != f:
                raise RunDirectoryError(f"{field.name} has {len(getattr(self, field.name))} frames, step has {f}")

    def __len__(self) -> int:
        return len(self.step)

    @property
    def atoms(self) -> int:
        """Number of atoms of each frame."""
        return int(self.positions.shape[1])


#: Names of the per-frame arrays, in the order of ``Frame``.
ARRAYS = tuple(f.name for f in fields(Frame))
INTEGER_ARRAYS = frozenset({"step", "entries", "region_epoch"})


def stack(frames: list[Frame], model_id: str, blend_id: str = "") -> Frames:
    """Collect single frames that ran on one model into a block.

    Raises:
        RunDirectoryError: there is no frame.
    """
    if not frames:
        raise RunDirectoryError("a segment needs at least one frame")
    arrays: dict[str, Any] = {
        name: np.array([getattr(f, name) for f in frames], dtype=np.int64 if name in INTEGER_ARRAYS else np.float64)
        for name in ARRAYS
    }
    return Frames(**arrays, model_id=(model_id,) * len(frames), blend_id=(blend_id,) * len(frames))


def concatenate(blocks: list[Frames]) -> Frames:
    """Join blocks in the given order.

    Raises:
        RunDirectoryError: there is no block.
    """
    if not blocks:
        raise RunDirectoryError("the run holds no frames yet", cure="let it run past the first commit")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(b, name) for b in blocks]) for name in ARRAYS}
    model_id, blend_id = (tuple(m for b in blocks for m in getattr(b, name)) for name in ("model_id", "blend_id"))
    return Frames(**arrays, model_id=model_id, blend_id=blend_id)
