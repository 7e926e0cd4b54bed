"""How models took over from one another, and therefore which model must have moved the atoms at a step.

A model that takes over at once (policy `abrupt`, or `rewind` after going back) at step s moves the atoms from step s
on: the frame of step s still shows the model before. A ramp of n steps from step s raises the weight of the new model
at the boundaries of steps s, s + 1, …, s + n − 1, each time by 1/n: the frame of step s + k was taken at λ = k/n, that
of step s shows the old model alone, and from step s + n on the new model stands alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..records.database import ModelRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """One change of model.

    Attributes:
        model: that came.
        parent: that went.
        policy: `abrupt`, `ramp` or `rewind`.
        first: step at which it began.
        steps: of the ramp; 0 if it came at once.
        data: of the row of the model.
    """

    model: str
    parent: str
    policy: str
    first: int
    steps: int
    data: dict[str, Any]

    @property
    def exchanges(self) -> range:
        """Steps at whose boundary the energy jumps."""
        return range(self.first, self.first + max(self.steps, 1))

    def weights(self, step: int) -> tuple[float, float]:
        """Weight of the new model before and after the boundary of one of these steps."""
        if self.policy != "ramp":
            return 0.0, 1.0
        done = step - self.first
        return done / self.steps, (done + 1) / self.steps


def takeovers(models: Sequence[ModelRow]) -> list[Takeover]:
    """All changes of model in order; a row without a policy came at once."""
    found = []
    for old, new in pairwise(models):
        steps = int(new.data.get("ramp_steps", 0)) if new.data.get("policy") == "ramp" else 0
        policy = str(new.data.get("policy", "abrupt")) if steps or new.data.get("policy") == "rewind" else "abrupt"
        found.append(
            Takeover(
                model=new.id,
                parent=old.id,
                policy=policy,
                first=int(new.data.get("ramp_from_step", new.step - steps)) if steps else new.step,
                steps=steps,
                data=new.data,
            )
        )
    return found


class Schedule:
    """Which model, or blend of two, must have moved the atoms up to a step."""

    def __init__(self, models: Sequence[ModelRow]) -> None:
        self._ids = [row.id for row in models]
        self._starts = np.array([row.step for row in models])
        self._takeovers = takeovers(models)

    def at(self, step: int) -> tuple[str, str, float]:
        """The model, the model that was being blended in (empty outside a ramp), and the weight λ of the latter."""
        now = max(int(np.searchsorted(self._starts, step, side="left")) - 1, 0)
        if now < len(self._takeovers):
            ramp = self._takeovers[now]
            if ramp.policy == "ramp" and ramp.first < step <= ramp.first + ramp.steps:
                return self._ids[now], ramp.model, (step - ramp.first) / ramp.steps
        return self._ids[now], "", 0.0
