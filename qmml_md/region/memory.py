"""What the policy remembers from look to look: averaged disagreement, and for how long each atom has been core."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..system.molecules import Floats, Ints


def _no_numbers() -> Floats:
    return np.zeros(0, dtype=np.float64)


def _no_counts() -> Ints:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """Before the first look both arrays are empty.

    Attributes:
        averaged: disagreement averaged over the looks so far, eV/Å, shape (n,); empty where nothing is averaged.
        residence: looks that each atom has been core in a row because it was hot, this one included, shape (n,).
        time_fs: of the last look, fs.
        surface: name of the model whose disagreement is averaged.
    """

    averaged: Floats = field(default_factory=_no_numbers)
    residence: Ints = field(default_factory=_no_counts)
    time_fs: float = 0.0
    surface: str = ""


def average(memory: Memory, disagreement: Floats, time_fs: float, surface: str, smoothing_fs: float) -> Floats:
    """Exponential moving average of the disagreement at looks that need not be evenly spaced.

    What was known fades as exp(−Δt/τ) with the time Δt since the last look, however many looks there were: an
    interval that adapts does not change what is averaged over. The first look, and the first one at another model,
    whose disagreement is another quantity, begin the average anew.

    Args:
        memory: of the last look.
        disagreement: at this one, eV/Å, shape (n,).
        time_fs: of this look, fs.
        surface: name of the model.
        smoothing_fs: time constant τ, fs; 0 for no average.

    Returns:
        eV/Å, shape (n,).
    """
    if smoothing_fs == 0.0 or memory.averaged.shape != disagreement.shape or memory.surface != surface:
        return disagreement
    weight = -math.expm1(-max(0.0, time_fs - memory.time_fs) / smoothing_fs)
    averaged: Floats = memory.averaged + weight * (disagreement - memory.averaged)
    return averaged


def residences(memory: Memory, hot_core: Ints, count: int) -> Ints:
    """The residence of ``count`` atoms after a look that made ``hot_core`` core, shape (count,)."""
    counted = np.zeros(count, dtype=np.int64)
    counted[hot_core] = 1 + (memory.residence[hot_core] if len(memory.residence) == count else 0)
    return counted


def plain_memory(memory: Memory) -> dict[str, Any]:
    """As JSON has it, exact to the bit; residences of core atoms only."""
    core = np.flatnonzero(memory.residence)
    return {
        "averaged": memory.averaged.tolist(),
        "atoms": len(memory.residence),
        "core": core.tolist(),
        "residence": memory.residence[core].tolist(),
        "time_fs": memory.time_fs,
        "surface": memory.surface,
    }


def memory_of(plain: dict[str, Any]) -> Memory:
    """The memory that ``plain_memory`` took."""
    residence = np.zeros(plain["atoms"], dtype=np.int64)
    residence[np.array(plain["core"], dtype=np.int64)] = plain["residence"]
    averaged = np.array(plain["averaged"], dtype=np.float64)
    return Memory(averaged=averaged, residence=residence, time_fs=plain["time_fs"], surface=plain["surface"])
