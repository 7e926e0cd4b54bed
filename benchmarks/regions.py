"""Regions of real molecules: validity of clusters, convergence, time, size, guarantee, embedding (R1 … R6).

``python benchmarks/regions.py --json regions.json`` measures everything (about forty minutes on two cores); ``--only R1
R3`` chooses, ``--quick`` is the small form that the tests run.

- R1: clusters cut from chignolin and crambin in water at random centres, three sizes: valence, charge, electrons,
  contacts, size, determinism
- R2: PySCF converges on a sample of them
- R3: time to select and cut in ten thousand atoms
- R4: scan of the region's size: cancellation residual, and force error of the core against the largest region
- R5: what atoms teach whose surroundings are not whole
- R6: labels in the charges of a force field
"""

import sys
import time
from importlib import import_module
from pathlib import Path

from figures import Figure, parser, publish

#: The module in ``regions_parts`` that measures each.
PARTS = {
    "R1": "validity",
    "R2": "convergence",
    "R3": "speed",
    "R4": "size_scan",
    "R5": "guarantee",
    "R6": "embedding",
}


def main() -> None:
    """Measure, print, write."""
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="R", help="R1 … R6")
    chosen = options.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "regions_parts"))
    figures: list[Figure] = []
    for name in chosen.only:
        began = time.perf_counter()
        figures += import_module(PARTS[name]).figures(quick=chosen.quick)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    publish(figures, chosen.json, "regions")


if __name__ == "__main__":
    main()
