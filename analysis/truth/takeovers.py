"""How models took over from one another, and therefore which model must have moved the atoms at a step.

A model that takes over at once (policy `abrupt`, or `rewind` after going back) at step s moves the atoms from step s
on: the frame of step s still shows the model before. A ramp of n steps from step s raises the weight of the new model
at the boundaries of steps s, s + 1, …, s + n − 1, each time by 1/n: the frame of step s + k was taken at λ = k/n, that
of step s shows the old model alone, and from step s + n on the new model stands alone. A run that ended within a ramp
has no row for the model that was coming, only the event that tells of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...records.rows import Event, ModelRow


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
        rows: models that came at once at this step, one after the other; only the last moved an atom. A run that goes
            back to a step where the model had just changed changes it there once more.
    """

    model: str
    parent: str
    policy: str
    first: int
    steps: int
    data: dict[str, Any]
    rows: int = 1

    @property
    def exchanges(self) -> range:
        """Steps at whose boundary the energy jumps."""
        return range(self.first, self.first + max(self.steps, 1))

    @property
    def last(self) -> int:
        """Step after which the new model moves the atoms alone."""
        return self.first + self.steps

    def weights(self, step: int) -> tuple[float, float]:
        """Weight of the new model before and after the boundary of one of these steps."""
        if self.policy != "ramp":
            return 0.0, 1.0
        done = step - self.first
        return done / self.steps, (done + 1) / self.steps


def takeovers(models: Sequence[ModelRow], events: Sequence[Event]) -> list[Takeover]:
    """All changes of model in order; a row without a policy came at once.

    Args:
        models: in order, the first one included.
        events: of the run; a ramp that never ended is known from them alone.
    """
    found: list[Takeover] = []
    for i, new in enumerate(models[1:]):
        steps = int(new.data.get("ramp_steps", 0)) if new.data.get("policy") == "ramp" else 0
        policy = "ramp" if steps else "rewind" if new.data.get("policy") == "rewind" else "abrupt"
        first = int(new.data.get("ramp_from_step", new.step - steps)) if steps else new.step
        parent = models[i].id
        if found and not steps and found[-1].policy != "ramp" and found[-1].first == first:
            before = found.pop()
            found.append(replace(before, model=new.id, policy=policy, data=new.data, rows=before.rows + 1))
            continue
        found.append(Takeover(model=new.id, parent=parent, policy=policy, first=first, steps=steps, data=new.data))
    begun = [event for event in events if event.kind == "ramp"]
    if begun and begun[-1].step not in {row.first for row in found if row.policy == "ramp"}:
        ramp = begun[-1]
        model, steps = str(ramp.data.get("model", "")), int(ramp.data.get("steps", 1))
        found.append(
            Takeover(
                model=model,
                parent=models[-1].id,
                policy="ramp",
                first=ramp.step,
                steps=steps,
                data={"unfinished": True},
            )
        )
    return found


class Schedule:
    """Which model, or blend of two, must have moved the atoms up to a step.

    Args:
        first: the model that the run began with.
        rows: the changes of model, in order.
    """

    def __init__(self, first: str, rows: Sequence[Takeover]) -> None:
        self._first, self._rows = first, rows
        self._ends = np.array([row.last for row in rows])

    def at(self, step: int) -> tuple[str, str, float]:
        """The model, the model that was being blended in (empty outside a ramp), and the weight λ of the latter."""
        done = int(np.searchsorted(self._ends, step, side="left"))
        model = self._rows[done - 1].model if done else self._first
        if done < len(self._rows) and self._rows[done].first < step:
            ramp = self._rows[done]
            return model, ramp.model, (step - ramp.first) / ramp.steps
        return model, "", 0.0
