"""Learning that generalises: error after an update, safety, cost, calibration, picking (L1 … L8).

``python benchmarks/learning.py --json learning.json`` measures everything on the labels in ``tests/data/quantum``
(about a quarter of an hour on two cores); ``--only L3 L5`` chooses, ``--only V`` shows what else was tried, ``--quick``
is the small form that the tests run.

``--series FILE.extxyz`` (labels in the order of time; the last 3/8 are held out) and ``--fine FILE.extxyz`` (finely
spaced, with ``time_fs`` in each frame) take any other molecule, whose goals are ratios to the untrained model.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, parser, publish

NAMES = (*(f"L{k}" for k in range(1, 9)), "V")


def main() -> None:
    """Measure, print, write."""
    options = parser(__doc__ or "")
    options.add_argument("--only", nargs="+", choices=NAMES, default=NAMES[:-1], metavar="L", help="L1 … L8, V")
    options.add_argument("--series", type=Path, metavar="FILE", help="another molecule: labels in the order of time")
    options.add_argument("--fine", type=Path, metavar="FILE", help="another molecule: a finely spaced series")
    options.add_argument("--temperature-K", type=float, default=400.0, help="of our own unlabelled frames, for both")
    chosen = options.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "learning_parts"))
    other = chosen.series is not None or chosen.fine is not None
    jobs = _others(chosen.series, chosen.fine, chosen.temperature_K) if other else _own(chosen.quick)
    figures: list[Figure] = []
    for names, job in jobs:
        if not set(names) & set(chosen.only):
            continue
        began = time.perf_counter()
        figures += [figure for figure in job() if figure.id.startswith(tuple(f"{n}." for n in chosen.only))]
        print(f"{' '.join(names)}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    publish(figures, chosen.json, "learning")


Jobs = list[tuple[tuple[str, ...], Callable[[], list[Figure]]]]


def _own(quick: bool) -> Jobs:
    import cost
    import curves
    import doubt
    import picking
    import safety
    import variants
    from common import ETHANOL, FINE, WATER

    return [
        (("L1", "L2"), lambda: curves.fine(FINE)),
        (("L3",), lambda: curves.coarse(ETHANOL, "L3", quick=quick)),
        (("L3",), lambda: [] if quick else curves.warm(ETHANOL)),
        (("L4",), lambda: curves.coarse(WATER, "L4", quick=quick)),
        (("L5",), lambda: safety.figures(quick=quick)),
        (("L6",), lambda: cost.figures(quick=quick)),
        (("L7",), lambda: doubt.figures(quick=quick)),
        (("L8",), lambda: picking.figures(quick=quick)),
        (("V",), variants.figures),
    ]


def _others(series: Path | None, fine: Path | None, temperature_K: float) -> Jobs:
    import curves
    import doubt
    import picking
    import safety

    jobs: Jobs = []
    if fine is not None:
        jobs.append((("L1", "L2"), lambda: curves.fine(fine, temperature_K)))
    if series is not None:
        one = (series,)
        jobs += [
            (("L3",), lambda: curves.coarse(series, "L3", temperature_K)),
            (("L5",), lambda: safety.figures(quick=False, paths=one, temperature_K=temperature_K)),
            (("L7",), lambda: doubt.figures(quick=False, paths=one, temperature_K=temperature_K)),
            (("L8",), lambda: picking.figures(quick=False, paths=one, temperature_K=temperature_K)),
        ]
    return jobs


if __name__ == "__main__":
    main()
