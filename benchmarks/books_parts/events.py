"""B4: books under many events: the region moves and models change while four integrators move five water molecules.

Real runs of the engine on the small ensemble, with labels of Hartree-Fock in a minimal basis: no chemistry, but every
part of the machinery. The auditor, which shares no code with the engine, then says how well each event closes: booked
against recomputed change of energy, and the identity of the ledger in each frame. H̃ must be flat; for the stochastic
integrators the slope at two time steps is extrapolated to dt → 0, since shadow work is of second order:
``s₀ = (4 s(dt/2) − s(dt))/3``.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from figures import Figure

from qmml_md.analysis.audit import audit
from qmml_md.config import Config
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.records.run_directory import RunDirectory

TESTS = Path(__file__).resolve().parents[2] / "tests" / "data"
INTEGRATORS = ("verlet", "langevin", "bussi", "nose_hoover")
STOCHASTIC = ("langevin", "bussi")
TIMESTEP_FS = 0.0625
FRAME_EVERY_FS, COMMIT_EVERY_FS = 2.0, 240.0
#: Without noise the same atoms stay in doubt for longer: two looks where the others take one see as many moves.
CHECK_EVERY_FS = {"verlet": 2.0, "langevin": 4.0, "bussi": 4.0, "nose_hoover": 2.0}
MOVES, UPDATES, CLOSES_KJ_PER_MOL, SLOPE_KT_PER_NS_PER_DOF = 100, 20, 1e-6, 1.0
#: Verdicts of the auditor on the record; those on forces ask whether the final model agrees, which is not asked here.
BOOKS = ("files", "order", "models", "kinetic", "ledger", "identity", "replay", "model_updates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the auditor says of one run.

    Attributes:
        moves, updates: region epochs, accepted updates.
        worst_event: largest difference of booked and recomputed change of energy, kJ/mol.
        worst_identity: largest residual of the identity in any frame, kJ/mol.
        failed: checks of the record that failed: an event that is not booked is among them.
        slope, half_width: of H̃, kT/ns/dof, the latter of the 95 % interval.
    """

    moves: int
    updates: int
    worst_event: float
    worst_identity: float
    failed: tuple[str, ...]
    slope: float
    half_width: float


def figures(*, quick: bool) -> list[Figure]:
    """B4.<integrator>.… for each integrator."""
    rows = []
    duration_ps = 0.03 if quick else 2.0
    for integrator in INTEGRATORS[:1] if quick else INTEGRATORS:
        with tempfile.TemporaryDirectory() as folder:
            first = outcome(simulate(Path(folder), integrator, TIMESTEP_FS, duration_ps))
        slope, half = first.slope, first.half_width
        if integrator in STOCHASTIC:
            with tempfile.TemporaryDirectory() as folder:
                second = outcome(simulate(Path(folder), integrator, TIMESTEP_FS / 2, duration_ps))
            slope = (4.0 * second.slope - first.slope) / 3.0
            half = float(np.hypot(4.0 * second.half_width, first.half_width)) / 3.0
        rows += _rows(integrator, first, slope, half, quick)
    return rows


def _rows(integrator: str, found: Outcome, slope: float, half: float, quick: bool) -> list[Figure]:
    def row(what: str, text: str, value: float, unit: str, goal: str, met: bool) -> Figure:
        name = f"B4.{integrator}.{what}"
        return Figure(id=name, what=f"{integrator}: {text}", value=value, unit=unit, goal=goal, met=met)

    moves, updates = (1, 1) if quick else (MOVES, UPDATES)
    extrapolated = ", extrapolated to dt → 0" if integrator in STOCHASTIC else ""
    within = abs(slope) + half <= SLOPE_KT_PER_NS_PER_DOF
    unbooked = f"checks of the record that fail ({', '.join(found.failed) or 'none'})"
    return [
        row("moves", "region moves", found.moves, "", f"≥ {moves}", found.moves >= moves),
        row("updates", "model updates", found.updates, "", f"≥ {updates}", found.updates >= updates),
        row(
            "event", "worst event, booked − recomputed", found.worst_event, "kJ/mol", f"≤ {CLOSES_KJ_PER_MOL:g}",
            found.worst_event <= CLOSES_KJ_PER_MOL,
        ),
        row(
            "identity", "worst residual of the identity", found.worst_identity, "kJ/mol", f"≤ {CLOSES_KJ_PER_MOL:g}",
            found.worst_identity <= CLOSES_KJ_PER_MOL,
        ),
        row("unbooked", unbooked, len(found.failed), "", "0", not found.failed),
        row(
            "slope", f"slope of H̃ ± {half:.2g} (95 %){extrapolated}", slope, "kT/ns/dof",
            f"|slope| + bar ≤ {SLOPE_KT_PER_NS_PER_DOF:g}", within,
        ),
    ]  # fmt: skip


def simulate(folder: Path, integrator: str, timestep_fs: float, duration_ps: float) -> RunDirectory:
    """Five waters, labels as long as the region asks for them, up to a hundred."""
    atoms = ase.io.read(TESTS / "quantum" / "water5_350K_wb97x_631gd.extxyz", 0)
    ase.io.write(folder / "water.extxyz", atoms, columns=["symbols", "positions"])

    def steps(duration_fs: float) -> int:
        return round(duration_fs / timestep_fs)

    config = Config.model_validate(
        {
            "system": {"structure": str(folder / "water.extxyz")},
            "ensemble": {
                "weights": str(TESTS / "ani_mini.safetensors"), "threads": 1, "platform": "Reference",
                "precision": "double",
            },
            "dynamics": {
                "integrator": integrator, "timestep_fs": timestep_fs, "steps": steps(1000.0 * duration_ps),
                "equilibration_steps": 400, "temperature_K": 200.0, "relaxation_fs": 50.0,
            },
            "region": {
                "check_every_steps": steps(CHECK_EVERY_FS[integrator]), "enter_eV_per_A": 0.2, "stay_eV_per_A": 0.18,
                "buffer_A": 2.0, "max_qm_atoms": 6, "labels_per_trigger": 1, "adapt_interval": False,
            },
            "reference": {"method": "hf", "basis": "sto-3g", "density_fit": False, "max_labels": 100},
            "learning": {
                "max_epochs": 200, "learning_rate": 1e-3, "force_rmse_eV_per_A": 0.1,
                "force_maxresid_eV_per_A": 10.0, "max_anchor_shift_eV_per_A": 5.0, "anchor_weight": 0.01,
                "energy_weight": 0.0, "anchor_frames": 8, "hold_out_every": 0, "sleep_after_checks": 0,
                "bootstrap": False, "require_tolerance": True, "keep_known": False, "max_worsening": 100.0,
            },
            "output": {"frame_every_steps": steps(FRAME_EVERY_FS), "commit_every_steps": steps(COMMIT_EVERY_FS)},
        }
    )  # fmt: skip
    return start(config, config_dir=folder, out=folder / "run", progress=Silent())


def outcome(run: RunDirectory) -> Outcome:
    """Audit a run and read what B4 asks for."""
    result = audit(run)
    document = json.loads(result.path.read_text(encoding="utf-8"))
    database = run.open_database()
    regions, models = len(database.regions()), len(database.models()) - 1
    database.close()
    differences = [abs(row["booked"] - row["recomputed"]) for row in document["updates"]]
    found = {(row["name"], row["unit"]): row for row in document["findings"]}
    line = document["drift"]["conserved"]
    drift = found["conserved_drift", "kT/ns/dof"]["value"]
    return Outcome(
        moves=regions,
        updates=models,
        worst_event=max(differences, default=float("nan")),
        worst_identity=found["identity_max_residual", "kJ/mol"]["value"],
        failed=tuple(c["name"] for c in document["checks"] if c["name"] in BOOKS and c["status"] == "fail"),
        slope=drift,
        half_width=abs(drift / line["value"]) * line["half_width"],
    )
