"""Are all frames there? A run stores one every so many steps; a gap in that rhythm is a frame that was lost.

Frames between (at looks at the disagreement, in ramps, at the last step) may come on top; a gap never may, and the
first frame is that of step 0.
"""

import numpy as np

from ..findings import Kind, Part, judge
from ..record import Record


def cadence_part(record: Record) -> Part:
    """The check ``cadence``: a frame at step 0 and at every multiple of ``output.frame_every_steps`` up to the last."""
    every, steps = record.config.output.frame_every_steps, record.series.step
    due = np.arange(0, int(steps.max()) + 1, every)
    lost = np.setdiff1d(due, steps)
    rest = f" ({len(lost)} in all)" if len(lost) > 1 else ""
    problems = [f"the frame of step {step} is missing{rest}" for step in lost]
    twice = len(steps) - len(np.unique(steps))
    problems += [f"{twice} steps have more than one frame"] if twice else []
    finished = any(event.kind == "finish" for event in record.events)
    last = record.config.dynamics.steps
    if finished and int(steps.max()) < last:
        problems.append(f"the run says that it reached step {last}, but its last frame is that of step {steps.max()}")
    fine = (
        f"a frame stands at every {every} steps from 0 to {steps.max()}"
        if every > 1
        else "a frame stands at every step"
    )
    return Part(checks=(judge("cadence", Kind.INTEGRITY, problems, fine),))
