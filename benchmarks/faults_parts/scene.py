"""A learning run so small that it can be lost five hundred times: two waters, a water-only ensemble, Hartree-Fock.

It does all that a learning run does: labels in two triggers, an update that is accepted and one that is refused, and a
commit every ten steps. Variants go back to an earlier commit, blend the new model in, or compute labels in another
process; these move the atoms by TorchForce.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qmml_md.config import Config
from qmml_md.ensemble import weights

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "tests" / "data" / "ani_mini.safetensors"
#: Steps between commits in every variant.
COMMIT_EVERY = 10

Plain = dict[str, Any]

PLAIN: Plain = {
    "system": {"structure": "waters.xyz"},
    "ensemble": {"weights": "water.safetensors", "threads": 1, "platform": "Reference", "force": "pythonforce"},
    "dynamics": {
        "integrator": "langevin", "timestep_fs": 0.25, "steps": 20, "equilibration_steps": 2, "minimise": False,
    },
    "region": {
        "check_every_steps": 10, "enter_eV_per_A": 0.02, "stay_eV_per_A": 0.01, "labels_per_trigger": 2,
        "adapt_interval": False,
    },
    "reference": {"method": "hf", "basis": "sto-3g", "density_fit": False, "max_labels": 3, "isolate": False},
    "learning": {
        "max_epochs": 20, "learning_rate": 3e-3, "force_rmse_eV_per_A": 0.15, "force_maxresid_eV_per_A": 0.3,
        "require_tolerance": True, "max_anchor_shift_eV_per_A": 5.0, "anchor_weight": 0.01, "energy_weight": 0.01,
        "bootstrap": False, "keep_known": False, "max_worsening": 100.0, "anchor_frames": 4, "hold_out_every": 0,
    },
    "output": {"frame_every_steps": 5, "commit_every_steps": COMMIT_EVERY},
}  # fmt: skip

LENIENT: Plain = {"force_rmse_eV_per_A": 0.3, "force_maxresid_eV_per_A": 2.0, "require_tolerance": False}
#: TorchScript takes half of the time of so short a run.
SCRIPTED: dict[str, Plain] = {"ensemble": {"force": "torchforce"}}
#: What differs from it.
VARIANTS: dict[str, Plain] = {
    "plain": {},
    "rewind": {**SCRIPTED, "learning": {**LENIENT, "update_policy": "rewind", "rewind_above_eV_per_A": 0.3}},
    "ramp": {**SCRIPTED, "learning": {**LENIENT, "update_policy": "ramp", "ramp_steps": 6}},
    "apart": {**SCRIPTED, "reference": {"isolate": True}},
}


def lay_out(folder: Path) -> None:
    """Write the files that configurations name: the structure and the ensemble."""
    water = [("O", 0.0, 0.0, 0.0), ("H", 0.957, 0.0, 0.0), ("H", -0.24, 0.927, 0.0)]
    atoms = [f"{name} {x + away} {y} {z}" for away in (0.0, 6.0) for name, x, y, z in water]
    lines = ["6", 'Properties=species:S:1:pos:R:3 pbc="F F F"', *atoms, ""]
    (folder / "waters.xyz").write_text("\n".join(lines))
    weights.save(water_only(), folder / "water.safetensors")


def water_only(members: int = 2) -> weights.AniEnsemble:
    """The tests' ensemble without carbon and nitrogen: for water the same, and made in a quarter of the time."""
    whole = weights.load(str(MINI))
    card, kept = whole.card, ("H", "O")
    place = [card.symbols.index(symbol) for symbol in kept]
    radial, angular = len(card.radial_shifts), len(card.angular_shifts) * len(card.sections)
    pairs = [(a, b) for a in range(len(card.symbols)) for b in range(a, len(card.symbols))]
    rows = [k * radial + i for k in place for i in range(radial)]
    first = len(card.symbols) * radial
    rows += [first + n * angular + i for n, pair in enumerate(pairs) if {*pair} <= {*place} for i in range(angular)]
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in weights.tensors_of(whole).items():
        symbol, layer, what = key.split(".")
        if symbol in kept:
            chosen = tensor[:, rows] if (layer, what) == ("0", "weight") else tensor
            tensors[key] = chosen[:members].clone()
    energies = tuple(card.self_energies_hartree[k] for k in place)
    small = replace(card, name="ani-water", symbols=kept, members=members, self_energies_hartree=energies)
    return weights.build(small, tensors)


def configuration(variant: str, folder: Path, **changes: Plain) -> Config:
    """A variant of the run; its files lie in ``folder``."""
    plain = {section: dict(values) for section, values in PLAIN.items()}
    for each in (VARIANTS[variant], changes):
        for section, values in each.items():
            plain[section] |= values
    plain["system"]["structure"] = str(folder / "waters.xyz")
    plain["ensemble"]["weights"] = str(folder / "water.safetensors")
    known = Config.model_fields["reference"].annotation.model_fields  # type: ignore[union-attr]
    plain["reference"] = {key: value for key, value in plain["reference"].items() if key in known}
    return Config.model_validate(plain)


def same_for_water() -> float:
    """Largest difference of forces on water between the ensemble and the one that it was taken from, eV/Å."""
    from qmml_md.ensemble.model import evaluate

    small = water_only(members=4)
    rng = np.random.default_rng(1)
    positions = np.array([[0.0, 0.0, 0.0], [0.0957, 0.0, 0.0], [-0.024, 0.0927, 0.0]]) + rng.normal(0, 0.002, (3, 3))
    numbers = np.array([8, 1, 1])
    one, other = (evaluate(each, numbers, positions, None) for each in (small, weights.load(str(MINI))))
    return float(np.abs(one.forces - other.forces).max())
