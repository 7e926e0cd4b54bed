"""F8: a run that is killed and resumed on OpenMM's other platforms, where they are deterministic.

``python platforms.py start|resume CONFIG OUT KILL`` is one life of a run in a process of its own, which has not touched
a GPU before: killed after step KILL, or not if that is 0.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import openmm
import program
import results
import scene
import torch
from border import environment
from figures import Figure
from zygote import Row

from qmml_md.engine.run import Run
from qmml_md.records.run_directory import RunDirectory

#: After these steps a run of 20 with a commit every 10 is killed.
STEPS = (4, 9, 14, 17)
QUICK_STEPS = (14,)
LIMIT_S = 600.0


def figures(*, quick: bool) -> list[Figure]:
    """F8."""
    here = {openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())}
    places = [(name, force) for name in ("CPU", "CUDA") if name in here for force in _forces(quick=quick)]
    found: list[Figure] = []
    for name, force in places:
        with tempfile.TemporaryDirectory(prefix="qmml-platforms-") as root:
            folder = Path(root).resolve()
            scene.lay_out(folder)
            found += _judged(name, force, measure(name, force, folder, QUICK_STEPS if quick else STEPS))
    return found


def _forces(*, quick: bool) -> list[str]:
    """How the ensemble is evaluated; TorchForce where it can be loaded."""
    if quick:
        return ["pythonforce"]
    try:
        import openmmtorch  # noqa: F401
    except ImportError as error:
        print(f"F8: without TorchForce: {error}", file=sys.stderr)
        return ["pythonforce"]
    return ["pythonforce", "torchforce"]


def measure(name: str, force: str, folder: Path, steps: Iterable[int]) -> Row:
    """Two uninterrupted runs, and one that is killed after each of some steps and goes on.

    Raises:
        RuntimeError: an uninterrupted run does not reach its end.
    """
    config = program.write_config("plain", folder, ensemble={"platform": name, "force": force})
    digests = []
    for twin in ("one", "other"):
        out = folder / twin
        ended = _life("start", config, out, 0)
        if ended.returncode != 0:
            raise RuntimeError(f"F8: an uninterrupted run on {name} ({force}) ended so:\n{ended.stdout[-3000:]}")
        digests.append(_digest(out))
    return {
        "differs": results.differing(*digests),
        "points": [_killed_at(step, config, folder / f"killed{step}", digests[0]) for step in steps],
    }


def _killed_at(step: int, config: Path, out: Path, whole: dict[str, str]) -> Row:
    killed = _life("start", config, out, step)
    resumed = _life("resume", config, out, 0)
    row: Row = {"killed": killed.returncode == -signal.SIGKILL, "resumed": resumed.returncode == 0}
    if not (row["killed"] and row["resumed"]):
        print(f"F8 step {step}: {killed.stdout[-1000:]}{resumed.stdout[-1000:]}", file=sys.stderr)
        return {**row, "differs": ["not resumed"]}
    return {**row, "differs": results.differing(_digest(out), whole)}


def _digest(out: Path) -> dict[str, str]:
    return results.results_digest(RunDirectory(out))


def _life(what: str, config: Path, out: Path, kill_after: int) -> subprocess.CompletedProcess[str]:
    """A process of its own, which may use a GPU."""
    command = [sys.executable, __file__, what, str(config), str(out), str(kill_after)]
    return subprocess.run(
        command, env=environment(None, gpu=True), check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=LIMIT_S,
    )  # fmt: skip


def _judged(name: str, force: str, found: Row) -> list[Figure]:
    place, points = f"{name}.{force}", found["points"]
    deterministic = not found["differs"]
    if not deterministic:
        print(f"F8 {place}: two uninterrupted runs differ in {', '.join(found['differs'])}", file=sys.stderr)
    for point in points:
        if point["differs"] and deterministic:
            print(f"F8 {place}: differs in {', '.join(point['differs'])}", file=sys.stderr)
    resumed = 100.0 * sum(point["resumed"] and point["killed"] for point in points) / len(points)
    equal = 100.0 * sum(not point["differs"] for point in points) / len(points)
    return [
        Figure(id=f"F8.{place}.points", what=f"SIGKILLs on {name} with {force}", value=len(points), unit=""),
        Figure(
            id=f"F8.{place}.deterministic", what="two uninterrupted runs are equal", value=float(deterministic), unit=""
        ),
        Figure(id=f"F8.{place}.resumed", what="resumed", value=resumed, unit="%", goal="100", met=resumed == 100.0),
        Figure(
            id=f"F8.{place}.equal", what="ended as uninterrupted", value=equal, unit="%",
            goal="100 where deterministic", met=equal == 100.0 if deterministic else None,
        ),
    ]  # fmt: skip


def main(arguments: Iterable[str]) -> None:
    """One life of a run."""
    what, config, out, kill_after = arguments
    torch.set_num_threads(1)

    def kill(run: Run) -> None:
        if run.state.step == int(kill_after):
            os.kill(os.getpid(), signal.SIGKILL)

    program.after(Run, "advance", kill)
    program.remember_base_anchors()
    sys.exit(program.start(Path(config), Path(out)) if what == "start" else program.resume(Path(out)))


if __name__ == "__main__":
    main(sys.argv[1:])
