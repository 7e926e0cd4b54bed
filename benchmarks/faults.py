"""Faults: a run that is killed, whose disk, components or input fail, and that goes on for long (F1 … F8).

``python benchmarks/faults.py --json faults.json`` measures everything (about an hour on two cores); ``--only F1 F3``
chooses, and then the file keeps what it held of the others; ``--quick`` is the small form that the tests run. The file
is written after each part, so that an interrupted measurement is not lost.

- F1: SIGKILL at every call that changes a file, and at random times: what is left, lost and paid twice
- F2: whether the resumed runs are the uninterrupted one, to the bit
- F3: disks that are full, broken or read-only; bits that are flipped
- F4: components that fail: labels, workers, training, dynamics, memory, clock
- F5: input that is wrong
- F6: input that is hostile
- F7: a long run with a hundred changes of model
- F8: kills on other platforms than Reference: CPU, and CUDA where it is
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from figures import Figure, parser, publish

#: The module in ``faults_parts`` that measures each; two that share one are measured together.
PARTS = {
    "F1": "kills",
    "F2": "kills",
    "F3": "disk",
    "F4": "components",
    "F5": "inputs",
    "F6": "hostile",
    "F7": "soak",
    "F8": "platforms",
}


def main() -> None:
    """Measure, print, write."""
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="F", help="F1 … F8")
    options.add_argument("--every", type=int, default=1, metavar="N", help="F1, F2: one boundary in N (1: all of them)")
    chosen = options.parse_args()
    os.environ["QMML_FAULTS_EVERY"] = str(chosen.every)
    sys.path.insert(0, str(Path(__file__).parent / "faults_parts"))
    figures = [] if chosen.json is None else kept(chosen.json, chosen.only)
    for module in dict.fromkeys(PARTS[name] for name in chosen.only):
        began = time.perf_counter()
        found = import_module(module).figures(quick=chosen.quick)
        figures += [figure for figure in found if figure.id.partition(".")[0] in chosen.only]
        figures.sort(key=lambda figure: figure.id.partition(".")[0])
        print(f"{module}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        publish(figures, chosen.json, "faults")


def kept(path: Path, anew: list[str]) -> list[Figure]:
    """Figures that a file holds of parts that are not measured anew."""
    if not path.exists():
        return []
    held = [Figure(**each) for each in json.loads(path.read_text(encoding="utf-8"))["figures"]]
    return [figure for figure in held if figure.id.partition(".")[0] not in anew]


if __name__ == "__main__":
    main()
