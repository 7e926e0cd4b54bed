"""The main job: the example in water, run and audited, and where its wall time went.

``python benchmarks/main_job.py --json main_job.json`` runs ``examples/nma_in_water`` in a temporary folder (minutes);
``--quick`` runs a shortened ``examples/ethanol_nve`` instead; ``--run RUN`` reads a run that was made before.
"""

import json
import tempfile
from pathlib import Path

from figures import Figure, parser, publish

from qmml_md.commands.audit import Wishes, audit_run
from qmml_md.commands.runs import run_config
from qmml_md.config import Config
from qmml_md.config_file import dump_config, load_config
from qmml_md.records.run_directory import RunDirectory

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PARTS = ("preparation", "md", "disagreement", "anchors", "qm", "training", "gate", "swap", "io", "audit")
WALL_GOAL_S, IDENTITY_GOAL = 720.0, 1e-6


def shortened(folder: Path) -> Path:
    """The gas-phase example, short, with thresholds that call for two labels."""
    source = EXAMPLES / "ethanol_nve"
    plain = load_config(source / "config.yaml").model_dump()
    plain["system"]["structure"] = source / "ethanol.pdb"
    plain["dynamics"] |= {"steps": 40, "equilibration_steps": 50}
    plain["region"] |= {"check_every_steps": 20, "enter_eV_per_A": 0.05, "stay_eV_per_A": 0.02, "labels_per_trigger": 1}
    plain["reference"] |= {"max_labels": 2, "basis": "sto-3g"}
    # Energies at the small basis are not those of the weights' level.
    plain["learning"] |= {"max_epochs": 50, "energy_weight": 0.0}
    path = folder / "config.yaml"
    path.write_text(dump_config(Config.model_validate(plain)))
    return path


def measure(run: RunDirectory, *, quick: bool) -> list[Figure]:
    """Figures of a finished, audited run."""
    database = run.open_database()
    timings, events, labels = database.timings(), database.events(), database.labels()
    regions = database.regions()
    database.close()
    audit = json.loads((run.audit / "audit.json").read_text(encoding="utf-8"))
    total = sum(seconds for seconds, _ in timings.values())
    kinds = [event.kind for event in events]
    residual = max(abs(row["identity_residual"]) for row in audit["frames"])
    largest = max((len(row.data["parents"]) for row in labels), default=0)
    figures = [wall_figure(part, *timings.get(part, (0.0, 0))) for part in PARTS]

    def goal(text: str, met: bool) -> dict[str, object]:
        return {} if quick else {"goal": text, "met": met}

    figures += [
        Figure(
            id="M1",
            what="sum of all parts, audit included",
            value=total,
            unit="s",
            **goal("≤ 720", total <= WALL_GOAL_S),
        ),
        Figure(id="M2", what="labels", value=len(labels), unit="", **goal("≥ 5", len(labels) >= 5)),
        Figure(
            id="M3",
            what="accepted updates",
            value=kinds.count("update_accepted"),
            unit="",
            **goal("≥ 2", kinds.count("update_accepted") >= 2),
        ),
        Figure(id="M4", what="refused updates", value=kinds.count("update_refused"), unit=""),
        Figure(id="M5", what="regions visited", value=len(regions), unit=""),
        Figure(id="M6", what="largest cluster", value=largest, unit="atoms", **goal("≤ 24", largest <= 24)),
        Figure(
            id="M7",
            what="ledger identity, largest residual of a frame",
            value=residual,
            unit="kJ/mol",
            goal="≤ 1e-6",
            met=residual <= IDENTITY_GOAL,
        ),
    ]
    return figures


def wall_figure(part: str, seconds: float, calls: int) -> Figure:
    """Wall time of one part."""
    return Figure(id=f"W-{part}", what=f"wall time, {part} ({calls} calls)", value=seconds, unit="s")


def main() -> None:
    """Run, audit, print."""
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument("--run", type=Path, metavar="RUN", help="read this run instead of making one")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(chosen.run or Path(folder) / "run")
        if chosen.run is None:
            config = shortened(Path(folder)) if chosen.quick else EXAMPLES / "nma_in_water" / "config.yaml"
            run_config(config, run.root)
        elif not (run.audit / "audit.json").exists():
            audit_run(run.root, Wishes())
        publish(measure(run, quick=chosen.quick), chosen.json, "the main job")


if __name__ == "__main__":
    main()
