"""F7: a long run with a hundred changes of model grows in nothing but its files, and does not slow down.

``python soak.py FOLDER OUT STEPS UPDATES`` is the run itself, in a process that nothing else was done in.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from border import environment
from figures import Figure
from zygote import Row

#: Steps and updates in the full form and in the quick one.
SIZE = ((100_000, 100), (1_000, 4))
EQUILIBRATION = 100
#: What the system says of memory, and what it is called here. Pages of files come and go as the system likes.
MEMORY = {"Rss": "rss", "Pss": "pss", "Anonymous": "anonymous"}


def figures(*, quick: bool) -> list[Figure]:
    """F7."""
    steps, updates = SIZE[quick]
    with tempfile.TemporaryDirectory(prefix="qmml-soak-") as name:
        folder = Path(name).resolve()
        out = folder / "found.json"
        command = [sys.executable, __file__, str(folder), str(out), str(steps), str(updates)]
        subprocess.run(command, env=environment(None), check=True, stdout=subprocess.DEVNULL)
        found: Row = json.loads(out.read_text())
    return judge(found, quick=quick)


def judge(found: Row, *, quick: bool) -> list[Figure]:
    """What the samples of a run say.

    Args:
        found: ``step``, ``rss``, ``pss``, ``anonymous`` (bytes), ``descriptors`` and ``yardstick_s`` at each look;
            ``md_s``, times of single steps, s.
        quick: too short for a verdict.
    """
    steps = np.array(found["step"], dtype=np.float64)
    late = steps >= 0.1 * found["steps"]
    # A straight line through all samples; growth is in percent of where it begins.
    lines = {name: np.polyfit(steps[late] - steps[late][0], np.array(found[name])[late], 1) for name in MEMORY.values()}
    growth = {name: float(100.0 * slope * np.ptp(steps[late]) / start) for name, (slope, start) in lines.items()}
    each = float(1e-6 * lines["rss"][0] * found["steps"] / max(1, found["updates"]))
    opened = np.array(found["descriptors"])[late]
    second, last = _pace(found)
    more = int(np.median(opened[-len(opened) // 4 :]) - np.median(opened[: max(1, len(opened) // 4)]))
    enough = found["updates"] >= SIZE[0][1]

    def met(fulfilled: bool) -> bool | None:
        return None if quick else fulfilled

    return [
        Figure(
            id="F7.steps", what="steps of the soak", value=found["steps"], unit="", goal="1e5",
            met=met(found["steps"] >= SIZE[0][0]),
        ),
        Figure(id="F7.updates", what="changes of model", value=found["updates"], unit="", goal="100", met=met(enough)),
        Figure(
            id="F7.memory", what="growth of resident memory over the last nine tenths", value=growth["rss"], unit="%",
            goal="≤ 1", met=met(growth["rss"] <= 1.0),
        ),
        Figure(id="F7.each", what="the same for each change of model", value=each, unit="MB"),
        Figure(id="F7.pss", what="the same of what is its own share", value=growth["pss"], unit="%"),
        Figure(id="F7.anonymous", what="the same without pages of files", value=growth["anonymous"], unit="%"),
        Figure(
            id="F7.descriptors", what="more open descriptors at the end", value=more, unit="", goal="0",
            met=met(more <= 0),
        ),
        Figure(
            id="F7.speed", what="speed of the last tenth against the second", value=100.0 * second / last,
            unit="%", goal="≥ 98", met=met(second / last >= 0.98),
        ),
        Figure(
            id="F7.step", what="time of a step", value=1e3 * float(np.quantile(found["md_s"], 0.25)), unit="ms",
        ),
    ]  # fmt: skip


def _pace(found: Row) -> tuple[float, float]:
    """Time of a step in the second and in the last tenth of a run, in units of a yardstick that was timed beside it.

    Lower quartiles between two looks: a neighbour who takes the core for a moment is not the run slowing down. The
    yardstick is timed at each look: a neighbour who stays, or a processor that is clocked down, slows that as well.
    """
    looks, yardstick, md = found["step"], found["yardstick_s"], np.array(found["md_s"])
    paces = [
        2.0 * float(np.quantile(md[a:b], 0.25)) / (yardstick[k] + yardstick[k + 1])
        for k, (a, b) in enumerate(pairwise(looks))
        if b > a
    ]
    tenth = max(1, len(paces) // 10)
    return float(np.median(paces[tenth : 2 * tenth])), float(np.median(paces[-tenth:]))


def settings(steps: int, updates: int) -> dict[str, Row]:
    """A label and an update at every look, whatever they are worth; small updates, so that the waters stay waters."""
    every = steps // updates
    return {
        "dynamics": {"steps": steps, "integrator": "langevin", "equilibration_steps": EQUILIBRATION},
        "region": {
            "check_every_steps": every, "enter_eV_per_A": 1e-4, "stay_eV_per_A": 1e-4, "labels_per_trigger": 1,
        },
        "reference": {"max_labels": updates + 10, "isolate": True},
        "learning": {
            "max_epochs": 10, "learning_rate": 1e-4, "force_rmse_eV_per_A": 1e-6, "force_maxresid_eV_per_A": 1e-6,
            "require_tolerance": False, "max_anchor_shift_eV_per_A": 100.0, "max_worsening": 1e6,
        },
        "output": {"frame_every_steps": 100, "commit_every_steps": every},
    }  # fmt: skip


def run(folder: Path, out: Path, steps: int, updates: int) -> None:
    """Make the run and write what was sampled."""
    import scene
    import torch

    from qmml_md.engine.loop import start
    from qmml_md.engine.progress import Silent, Status
    from qmml_md.engine.simulation import Simulation

    torch.set_num_threads(1)
    scene.lay_out(folder)
    samples: Row = {name: [] for name in ("step", "descriptors", "yardstick_s", *MEMORY.values())}
    # A list would grow, by more than the run does.
    times, taken = np.full(steps + EQUILIBRATION, np.nan), 0
    real = Simulation.step

    def step(self: Simulation) -> None:
        nonlocal taken
        began = time.perf_counter()
        real(self)
        times[taken] = time.perf_counter() - began
        taken += 1

    Simulation.step = step  # type: ignore[method-assign]

    class Sampling(Silent):
        def status(self, status: Status) -> None:
            if status.stage == "disagreement":
                _sample(samples, status.step)

    config = scene.configuration("plain", folder, **settings(steps, updates))
    done = start(config, config_dir=folder, out=folder / "run", progress=Sampling())
    database = done.open_database()
    accepted = sum(event.kind == "update_accepted" for event in database.events())
    if "--events" in sys.argv:
        for event in database.events():
            print(event.step, event.kind, event.message, file=sys.stderr)
    database.close()
    # Equilibration comes before step 0.
    found = {**samples, "steps": steps, "updates": accepted, "md_s": times[taken - steps : taken].tolist()}
    out.write_text(json.dumps(found))


def _sample(samples: Row, step: int) -> None:
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    values = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in rollup[1:]}
    samples["step"].append(step)
    for said, name in MEMORY.items():
        samples[name].append(values[said])
    samples["descriptors"].append(len(os.listdir("/proc/self/fd")))
    samples["yardstick_s"].append(_yardstick())


def _yardstick(repeats: int = 25) -> float:
    """Time of fixed work that has nothing to do with the run, s: many small calls, as a step of the run is."""
    matrix, taken = np.eye(32), []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(1000):
            np.tanh(matrix @ matrix)
        taken.append(time.perf_counter() - began)
    return float(np.quantile(taken, 0.25))


def main(arguments: Iterable[str]) -> None:
    """The run itself."""
    folder, out, steps, updates = list(arguments)[:4]
    run(Path(folder), Path(out), int(steps), int(updates))


if __name__ == "__main__":
    main(sys.argv[1:])
