"""Energy books: integrators, slopes, events, forces, replay, planted defects, time of an audit (B1 … B8).

``python benchmarks/books.py --json books.json`` measures everything (about an hour on two cores); ``--only B3 B5``
chooses; ``--quick`` is the small form that the tests run.
"""

import importlib
import sys
import time
from pathlib import Path

from figures import Figure, parser, publish

PARTS = {
    "B1": "slopes",
    "B2": "slopes",
    "B3": "timestep",
    "B4": "events",
    "B5": "gradients",
    "B6": "replay",
    "B7": "defects",
    "B8": "audit_time",
}


def main() -> None:
    """Measure, print, write."""
    options = parser(__doc__ or "")
    options.add_argument("--only", nargs="+", choices=sorted(PARTS), default=sorted(PARTS), metavar="B", help="B1 … B8")
    chosen = options.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "books_parts"))
    figures: list[Figure] = []
    for name in dict.fromkeys(PARTS[part] for part in chosen.only):
        began = time.perf_counter()
        figures += importlib.import_module(name).figures(quick=chosen.quick)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    wanted = tuple(f"{part}." for part in chosen.only)
    publish([figure for figure in figures if figure.id.startswith(wanted)], chosen.json, "energy books")


if __name__ == "__main__":
    main()
