"""Migration: a known constant is found, no force moves, and a record that does not add up is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from qmml_md.cli import main
from qmml_md.config import Learning, Reference
from qmml_md.ensemble import weights
from qmml_md.ensemble.card import card_from_json
from qmml_md.ensemble.migration import Shift, declared_level, fit_shift, match_level, migrate
from qmml_md.ensemble.model import evaluate, self_energy_hartree
from qmml_md.errors import WeightsError
from qmml_md.reference.label import Label, LevelOfTheory, label_key
from qmml_md.reference.store import LabelStore
from qmml_md.region.cluster import Cluster
from qmml_md.units import EV_PER_HARTREE, EV_PER_KJ_PER_MOL

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data"
MINI = DATA / "ani_mini.safetensors"
LEVEL = LevelOfTheory(
    program="pyscf", method="hf", basis="sto-3g", cartesian=True, density_fit=False, grid_level=0, grid_response=False
)
#: The constant that tests hide in the labels, hartree, in the order H C N O.
HIDDEN = (0.0123, -0.45, 0.0, 1.75)
#: Energies of labels are about 4000 eV in float64, 9e-13 eV apart, and the least-squares problems here have condition
#: numbers below 100; in hartree and with a margin of ten.
EXACT = 1e-10
ETHANOL, WATER, AMMONIA = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1]), np.array([8, 1, 1]), np.array([7, 1, 1, 1])


@pytest.fixture(scope="module")
def model():
    return weights.load(str(MINI), "double")


@pytest.fixture(scope="module")
def ethanol():
    return ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", ":6")


@pytest.fixture(scope="module")
def water():
    return ase.io.read(DATA / "quantum" / "water5_350K_wb97x_631gd.extxyz", ":4")


def shifted_energies(model, molecules, hidden=HIDDEN) -> list[float]:
    """What the model says, plus the hidden constant of each element, eV."""
    energies = []
    for atoms in molecules:
        inner = evaluate(model, atoms.numbers, atoms.positions * 0.1, None).energy * EV_PER_KJ_PER_MOL
        counts = [int((atoms.numbers == z).sum()) for z in (1, 6, 7, 8)]
        total = self_energy_hartree(model.card, atoms.numbers) + float(np.dot(counts, hidden))
        energies.append(inner + total * EV_PER_HARTREE)
    return energies


def fitted(model, molecules, hidden=HIDDEN) -> Shift:
    clusters = [(a.numbers, a.positions) for a in molecules]
    return fit_shift(model, clusters, shifted_energies(model, molecules, hidden))


def label(atoms, energy: float, level: LevelOfTheory = LEVEL, charge: int = 0) -> Label:
    cluster = Cluster(
        numbers=np.array(atoms.numbers),
        positions=np.array(atoms.positions),
        parent=np.arange(len(atoms)),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=charge,
        multiplicity=1,
    )
    zeros = np.zeros((len(atoms), 3))
    return Label(
        key=label_key(cluster, level), cluster=cluster, energy=energy, forces=zeros, dipole=zeros[0],
        charges=zeros[:, 0], level=level, rung="diis", spin_squared=0.0, gap=8.0, wall_time=1.0,
    )  # fmt: skip


def test_a_known_constant_is_found(model, ethanol, water) -> None:
    """Ethanol, water, and a fragment of ethanol decide H, C and O."""
    fragment = ethanol[0][[0, 3, 4, 5]]
    shift = fitted(model, [*ethanol, *water, fragment])
    assert shift.rank == 3
    assert shift.unique
    assert shift.held == (True, True, False, True)
    assert shift.hartree == pytest.approx(HIDDEN, abs=EXACT)
    assert shift.hartree[2] == 0.0
    assert shift.residual_eV_per_atom < EXACT * EV_PER_HARTREE
    assert shift.before_eV_per_atom > 1.0


def test_degenerate_compositions_take_the_shortest_shift(model, ethanol) -> None:
    """Ethanol alone decides one combination: of all shifts that fit, the shortest is along its composition."""
    shift = fitted(model, ethanol)
    counts = np.array([6.0, 2.0, 0.0, 1.0])
    shortest = counts * np.dot(counts, HIDDEN) / np.dot(counts, counts)
    assert shift.rank == 1
    assert not shift.unique
    assert shift.hartree == pytest.approx(shortest, abs=EXACT)
    assert shift.residual_eV_per_atom < EXACT * EV_PER_HARTREE
    assert shift.compositions == ((6, 2, 0, 1),)


def test_what_is_not_linear_in_the_composition_stays_as_residual(model, ethanol) -> None:
    energies = shifted_energies(model, ethanol)
    noise = np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    clusters = [(a.numbers, a.positions) for a in ethanol]
    shift = fit_shift(model, clusters, (np.array(energies) + noise).tolist())
    # One composition and noise of mean zero: the fit cannot take up any of it; nine atoms.
    assert shift.residual_eV_per_atom == pytest.approx(0.1 / 9, abs=EXACT)


def test_forces_and_networks_stay_the_same_to_the_bit(model, ethanol, tmp_path: Path) -> None:
    stored, parent = weights.load_as_stored(str(MINI))
    moved = migrate(stored, fitted(model, ethanol), to_level=asdict(LEVEL), parent=parent)
    path = tmp_path / "new.safetensors"
    weights.save(moved, path)
    back, before = weights.load(str(path)), weights.load(str(MINI))
    for key, tensor in weights.tensors_of(before).items():
        assert torch.equal(weights.tensors_of(back)[key], tensor)
    for atoms in ethanol:
        old, new = (evaluate(m, atoms.numbers, atoms.positions * 0.1, None) for m in (before, back))
        assert old.forces.tobytes() == new.forces.tobytes()
        assert old.energy == new.energy
    assert back.card.migrations[0].parent == parent
    assert declared_level(back.card) == asdict(LEVEL)
    assert weights.serialise(back)[1] != weights.serialise(before)[1]


def test_migrated_weights_meet_the_labels(model, ethanol, water) -> None:
    """The sign of the shift: totals of the migrated weights are the energies of the labels."""
    shift = fitted(model, [*ethanol, *water])
    moved = migrate(model, shift, to_level=asdict(LEVEL), parent="0")
    for atoms, energy in zip(water, shifted_energies(model, water), strict=True):
        inner = evaluate(moved, atoms.numbers, atoms.positions * 0.1, None).energy * EV_PER_KJ_PER_MOL
        total = inner + self_energy_hartree(moved.card, atoms.numbers) * EV_PER_HARTREE
        assert total == pytest.approx(energy, abs=15 * EXACT * EV_PER_HARTREE)
    # Sabotaged: the other sign is off by twice the shift.
    wrong = replace(shift, hartree=tuple(-x for x in shift.hartree))
    wrong_card = migrate(model, wrong, to_level=asdict(LEVEL), parent="0").card
    off = self_energy_hartree(wrong_card, water[0].numbers) - self_energy_hartree(moved.card, water[0].numbers)
    assert abs(off) > 1.0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("shifts_hartree",), [9.0, 0.0, 0.0, 0.0]),
        (("before_hartree",), [0.0, 0.0, 0.0, 0.0]),
        (("version",), 2),
        (("shifts_hartree",), [0.0]),
    ],
)
def test_a_sabotaged_migration_is_caught(model, ethanol, path, value) -> None:
    card = migrate(model, fitted(model, ethanol), to_level=asdict(LEVEL), parent="0").card
    assert card_from_json(card.to_json(), "x") == card
    plain = json.loads(card.to_json())
    plain["migrations"][0][path[0]] = value
    with pytest.raises(WeightsError):
        card_from_json(json.dumps(plain), "x")


def test_self_energies_changed_behind_the_record_are_caught(model, ethanol) -> None:
    plain = json.loads(migrate(model, fitted(model, ethanol), to_level=asdict(LEVEL), parent="0").card.to_json())
    plain["self_energies_hartree"][0] += 1e-9
    with pytest.raises(WeightsError, match="not those that its migration"):
        card_from_json(json.dumps(plain), "x")


def test_migrations_chain(model, ethanol) -> None:
    once = migrate(model, fitted(model, ethanol), to_level=asdict(LEVEL), parent="0")
    other = replace(LEVEL, basis="6-31g*")
    twice = migrate(once, fitted(once, ethanol, (0.0, 0.1, 0.0, 0.0)), to_level=asdict(other), parent="1")
    card = card_from_json(twice.card.to_json(), "x")
    assert [m.parent for m in card.migrations] == ["0", "1"]
    assert declared_level(card)["basis"] == "6-31g*"
    plain = json.loads(card.to_json())
    del plain["migrations"][1]
    with pytest.raises(WeightsError):
        card_from_json(json.dumps(plain), "x")


def test_published_weights_keep_their_identity() -> None:
    """The card of weights without a migration is written as before there were any."""
    assert "migrations" not in json.loads(weights.load("ani1x").card.to_json())
    path = weights.fetch("ani1x")
    assert weights.load_as_stored("ani1x")[1] == weights.serialise(weights.load("ani1x"))[1]
    assert path.exists()


def system(*molecules: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers and molecule of each atom, the molecules one behind the other."""
    return np.concatenate(molecules), np.repeat(np.arange(len(molecules)), [len(m) for m in molecules])


WB97X = Reference()
HF = Reference(method="hf", basis="sto-3g")


def test_a_run_at_another_level_is_refused_with_the_cure() -> None:
    card = weights.load("ani1x").card
    assert match_level(card, WB97X, Learning(), *system(ETHANOL)) == ""
    assert match_level(card, Reference(basis="6-31G(d)"), Learning(), *system(ETHANOL)) == ""
    for other in (HF, Reference(cartesian=False), Reference(method="b3lyp")):
        with pytest.raises(WeightsError, match=r"learning\.energy_weight: 0") as refused:
            match_level(card, other, Learning(), *system(ETHANOL))
        assert "qmml weights migrate" in refused.value.cure
    with pytest.raises(WeightsError):
        match_level(weights.load("ani1ccx").card, WB97X, Learning(), *system(ETHANOL))


def test_a_run_that_learns_no_energies_is_not_refused() -> None:
    card = weights.load("ani1x").card
    assert "only forces are learned" in match_level(card, HF, Learning(energy_weight=0.0), *system(ETHANOL))
    assert match_level(card, HF, Learning(enabled=False), *system(ETHANOL)) == ""
    assert match_level(card, Reference(method="hf", basis="sto-3g", max_labels=0), Learning(), *system(ETHANOL)) == ""


def test_weights_that_declare_no_level_are_not_judged(model) -> None:
    assert declared_level(model.card) is None
    assert match_level(model.card, HF, Learning(), *system(ETHANOL)) == ""


def test_migrated_weights_are_for_their_level_and_their_molecules(model, ethanol, water) -> None:
    shift = fitted(model, [*ethanol, *water])
    card = migrate(model, shift, to_level=asdict(LEVEL), parent="0").card
    assert match_level(card, HF, Learning(), *system(ETHANOL, WATER)) == ""
    with pytest.raises(WeightsError, match="hf/sto-3g"):
        match_level(card, WB97X, Learning(), *system(ETHANOL))
    with pytest.raises(WeightsError, match="nothing about H3N1"):
        match_level(card, HF, Learning(), *system(WATER, AMMONIA))
    assert match_level(card, HF, Learning(energy_weight=0.0), *system(AMMONIA)) == ""


def test_a_dry_run_says_so_before_anything_is_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, structure = tmp_path / "config.yaml", ROOT / "examples" / "ethanol_nve" / "ethanol.pdb"
    text = f"system: {{structure: {structure}}}\nreference: {{method: hf, basis: sto-3g}}\n"
    path.write_text(text)
    assert main(["validate", str(path), "--dry-run"]) == 2
    assert "learning.energy_weight: 0" in capsys.readouterr().err
    path.write_text(f"{text}learning: {{energy_weight: 0}}\n")
    assert main(["validate", str(path), "--dry-run"]) == 0
    assert "only forces are learned" in " ".join(capsys.readouterr().out.split())


def test_the_command_writes_weights_and_says_what_it_fitted(
    model, ethanol, water, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    store = LabelStore(tmp_path / "labels.db")
    for atoms, energy in zip(water, shifted_energies(model, water), strict=True):
        store.put(label(atoms, energy))
    store.put(label(ethanol[0], -1.0, charge=1))
    out = tmp_path / "new.safetensors"
    arguments = ["weights", "migrate", str(MINI), "--labels", str(tmp_path / "labels.db"), "--out", str(out)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "4 labels, 1 independent compositions of 2 elements" in text
    assert "1 labels of charged or open-shell clusters were left out" in text
    assert "only combinations" in text
    assert json.loads(out.with_suffix(".json").read_text())["migrations"][0]["labels"] == 4
    assert main(arguments) == 2  # never overwritten
    assert "exists already" in capsys.readouterr().err
    assert main(["weights", "show", str(out)]) == 0


@pytest.mark.parametrize(
    ("make", "needle"),
    [
        (lambda s, a: None, "no store of labels"),
        (lambda s, a: s.put(label(a, -1.0, charge=1)), "none of a neutral"),
        (lambda s, a: [s.put(label(a, -1.0)), s.put(label(a, -1.0, replace(LEVEL, basis="cc-pvdz")))], "2 levels"),
    ],
)
def test_unusable_labels_are_named(make, needle, ethanol, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(LabelStore(tmp_path / "labels.db"), ethanol[0])
    out = tmp_path / "x.safetensors"
    assert main(["weights", "migrate", str(MINI), "--labels", str(tmp_path / "labels.db"), "--out", str(out)]) == 2
    assert needle in capsys.readouterr().err
    assert not out.exists()


def test_no_label_no_shift(model) -> None:
    with pytest.raises(WeightsError, match="at least one label"):
        fit_shift(model, [], [])
    other = Shift(
        symbols=("H",), hartree=(0.0,), compositions=((1,),), held=(True,), labels=1, before_eV_per_atom=0.0,
        residual_eV_per_atom=0.0,
    )  # fmt: skip
    with pytest.raises(WeightsError, match="the shift is for H, the weights know H C N O"):
        migrate(model, other, to_level=asdict(LEVEL), parent="0")
