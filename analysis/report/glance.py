"""What the report says in words and small tables."""

from collections import Counter
from typing import Any

from ...config import Config
from ...records.books import Account
from ..findings import Kind, Status
from ..learning import core_guarantee
from .story import Story

INTEGRATORS = {
    "langevin": "BAOAB Langevin",
    "verlet": "velocity Verlet",
    "bussi": "Bussi velocity rescaling",
    "nose_hoover": "Nosé–Hoover chains",
    "respa": "RESPA",
}

QUESTIONS = {
    Kind.INTEGRITY: ("Is the record true?", "Yes: files, frames, energies and ledger agree with one another."),
    Kind.FORCES: ("Does the final model agree with the forces that moved the atoms?", "Yes."),
    Kind.CONSERVATION: ("Is energy conserved, once every booked exchange is taken out?", "Yes."),
    Kind.PHYSICS: ("Does what moved behave like molecules at this temperature?", "Yes."),
}

MEANING = {
    Account.MODEL: "changes of the model at fixed positions",
    Account.RAMP: "models blended into one another",
    Account.HEAT: "heat given by the thermostat",
    Account.BAROSTAT: "work of the barostat",
    Account.COM: "removal of centre-of-mass motion",
    Account.VELOCITIES: "velocities that were drawn anew",
}


def headlines(story: Story) -> list[dict[str, str]]:
    """The questions with their answers; the reasons are those of the checks that did not pass."""
    rows = []
    for kind, (question, yes) in QUESTIONS.items():
        checks = [check for check in story.audit["checks"] if check["kind"] == kind]
        if not checks:
            continue
        status = worst_status([check["status"] for check in checks])
        reasons = [check["why"] for check in checks if check["status"] == status]
        answer = yes if status == Status.PASS else ". ".join(reason[0].upper() + reason[1:] for reason in reasons) + "."
        if status == Status.PASS and kind != Kind.INTEGRITY:
            answer = f"{yes} {reasons[0][0].upper()}{reasons[0][1:]}."
        rows.append({"question": question, "status": status, "answer": answer})
    return rows


def worst_status(statuses: list[str]) -> str:
    """The status that decides among several."""
    for status in (Status.FAIL, Status.UNDECIDED, Status.PASS):
        if status in statuses:
            return status
    return Status.NOT_APPLICABLE


def glance(story: Story) -> list[tuple[str, str]]:
    """The run at a glance: terms and what they are."""
    config, audit = story.config, story.audit
    system, last = audit["system"], audit["frames"][-1]
    kinds = Counter(event.kind for event in story.events)
    dynamics = INTEGRATORS[config.dynamics.integrator]
    evaluated = sum(1 for row in audit["frames"] if row["forces_evaluated"])
    run_time = sum(seconds for seconds, _ in story.timings.values())
    findings = {finding["name"]: finding["value"] for finding in audit["findings"]}
    reused = sum(1 for row in story.labels if row.data.get("reused"))
    reference = config.reference
    basis = f"{reference.basis}{' (Cartesian)' if reference.cartesian else ''}"
    fitted = ", density fitting" if reference.density_fit else ""
    accepted = sum(1 for attempt in story.attempts if attempt.accepted)
    largest = max((len(row.atoms) for row in story.regions), default=0)
    return [
        ("System", f"{system['formula']} · {system['atoms']} atoms · {'periodic' if system['periodic'] else 'vacuum'}"),
        ("Model", f"{config.ensemble.weights} · {config.ensemble.force} · {config.ensemble.precision} precision"),
        *_parts(config),
        ("Dynamics", f"{dynamics} · {config.dynamics.timestep_fs:g} fs · {config.dynamics.temperature_K:g} K"),
        ("Simulated", f"{last['time_ps']:.4g} ps · {last['step']} of {config.dynamics.steps} steps"),
        ("Temperature", f"{findings['temperature_mean'] or 0.0:.1f} K on average"),
        (
            "Frames",
            f"{len(audit['frames'])} stored and re-evaluated, forces on {_all(evaluated, len(audit['frames']))}",
        ),
        ("Drift", _drift(findings)),
        ("Discarded", _discarded(story)),
        ("Reference", f"{reference.method}/{basis}{fitted}"),
        ("Labels", f"{len(story.labels)} ({reused} from the store) · {kinds['label_failed']} failed"),
        ("Updates", f"{accepted} accepted · {len(story.attempts) - accepted} refused"),
        ("Learning", _learning(findings)),
        ("Region A", f"{len(story.regions)} epochs · at most {largest} of {config.region.max_qm_atoms} atoms"),
        ("Wall time", f"{_duration(run_time)} · audit {_duration(audit['wall_time_s'])}"),
        ("qmml-md", f"{audit['versions']['qmml-md']} · torch {audit['versions']['torch']}"),
    ]


def _parts(config: Config) -> list[tuple[str, str]]:
    """What is on the ensemble, where that is not everything."""
    if not config.system.mixed:
        return []
    field = config.system.topology.name if config.system.topology is not None else ", ".join(config.system.force_field)
    embedding = f"labels with {config.reference.embedding} embedding"
    return [("On the ensemble", f"{config.system.ml_atoms} · the rest in {field} · {embedding}")]


def _learning(findings: dict[str, Any]) -> str:
    if "unseen_labels" not in findings:
        return "no label after an update: nothing to compare"
    learned, start = findings["unseen_force_rmse"], findings["unseen_force_rmse_start"]
    word = "better" if learned < start else "worse"
    count, share = findings["unseen_labels"], abs(learned / start - 1.0)
    return f"on {count:.0f} unseen labels {share:.0%} {word} than the starting model ({start:.3f} eV/Å)"


def _all(count: int, total: int) -> str:
    return "all of them" if count == total else f"{count} of them"


def _drift(findings: dict[str, Any]) -> str:
    """Over the whole run, in the spread of the kinetic energy, and how large it may be at most."""
    ratio, bound = findings.get("drift_ratio"), findings.get("conserved_drift_bound_95")
    if ratio is None or bound is None:
        return "too few frames to tell"
    return f"{ratio:.2g} of the spread of K over the run · below {bound:.2g} kT/ns/dof (95 %)"


def _discarded(story: Story) -> str:
    rewinds = story.rewinds()
    if not rewinds:
        return "nothing"
    steps = sum(start - end for start, end in rewinds)
    void = story.voided
    counts = f"segments {len(void.segments)} · ledger entries {len(void.entries)}"
    return f"{steps} steps, run again · rewinds {len(rewinds)} · {counts}"


def hindsight_rows(story: Story) -> list[dict[str, Any]]:
    """One row for each model, or blend of two, that moved the atoms."""
    return [
        {
            **row,
            "status": Status.FAIL if row["out"] else Status.PASS if row["evaluated"] else Status.NOT_APPLICABLE,
            "name": row["model"][:12] + (f" → {row['blend'][:12]}" if row["blend"] else ""),
            "segments": _range(row["first_segment"], row["last_segment"]),
        }
        for row in story.audit["hindsight"]
    ]


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} – {last}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def update_rows(story: Story) -> list[dict[str, Any]]:
    """One row for each attempt to change the model."""
    rows = []
    for attempt in story.attempts:
        data = attempt.data
        rows.append(
            {
                "step": attempt.step,
                "time_ps": attempt.time,
                "accepted": attempt.accepted,
                "policy": f"ramp, {attempt.steps} steps" if attempt.steps else attempt.policy,
                "booked": attempt.booked,
                "recomputed": attempt.recomputed,
                "force_rmse": data.get("force_rmse"),
                "force_maxresid": data.get("force_maxresid"),
                "anchor_shift": data.get("anchor_shift"),
                "epochs": data.get("epochs"),
                "labels": len(data["labels"]) if isinstance(data.get("labels"), list) else data.get("labels"),
                "why": attempt.why,
            }
        )
    return rows


def label_rows(story: Story) -> list[dict[str, Any]]:
    """One row for each label, as it was met: before anything was trained on it."""
    return [
        {
            "step": row.step,
            "time_ps": story.time_of(row.step),
            "atoms": len(row.data["parents"]),
            "links": row.data["parents"].count(-1),
            "charge": f"{charge:+d}" if (charge := row.data.get("charge")) else "0",
            "core": sum(row.data["core"]),
            "guaranteed": guaranteed(row.data),
            "force_rmse": row.data["force_rmse"],
            "complete": row.data.get("force_rmse_complete"),
            "start": row.data.get("force_rmse_start"),
            "seconds": row.data["wall_time_s"],
            "trigger": row.data.get("trigger") or "",
        }
        for row in story.labels
    ]


def guaranteed(data: dict[str, Any]) -> str:
    """How many core atoms have everything within the model's cutoff in their cluster, of how many."""
    told = core_guarantee(data)
    return "–" if told is None else f"{sum(told)} of {len(told)}"


def ledger_rows(story: Story) -> list[dict[str, Any]]:
    """Entries and total of each account that was used."""
    rows = []
    for account in Account:
        amounts = [entry.amount for entry in story.entries if entry.account == account]
        if amounts:
            rows.append(
                {"account": account, "meaning": MEANING[account], "entries": len(amounts), "total": sum(amounts)}
            )
    return rows
