"""Spot checks: an unbiased draw, intervals that cover, and verdicts no finer than they are."""

import dataclasses
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT

from qmml_md import config
from qmml_md.analysis.findings import Status
from qmml_md.analysis.probes.spot_checks import component_rmse, draw_spots, examine, mean_norm, spot_check
from qmml_md.ensemble import weights
from qmml_md.ensemble.model import evaluate
from qmml_md.errors import AuditError, NotConverged
from qmml_md.reference.ase import AseReference
from qmml_md.reference.label import Label, LevelOfTheory, label_key
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.region.cluster import Cluster
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM

DATA = Path(__file__).parents[3] / "data"
MINI = str(DATA / "ani_mini.safetensors")
LEVEL = LevelOfTheory(program="ensemble", method="ani-mini", basis="", cartesian=True, density_fit=False, grid_level=0)
ETHANOL = ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", ":20")


class EnsembleReference:
    """A reference whose truth is an ensemble plus a known error on each component."""

    level = LEVEL

    def __init__(self, model, error=0.0, fails=()):
        self._model, self._error, self._fails, self._count = model, error, fails, 0

    def label(self, cluster: Cluster) -> Label:
        self._count += 1
        if self._count - 1 in self._fails:
            raise NotConverged("no rung of the ladder converged", cure="none")
        forces = evaluate(self._model, cluster.numbers, cluster.positions * 0.1, None).forces
        noise = self._error * np.random.default_rng(self._count).normal(size=forces.shape)
        return Label(
            key=label_key(cluster, LEVEL), cluster=cluster, energy=0.0,
            forces=forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM + noise, dipole=np.zeros(3),
            charges=np.zeros(cluster.size), level=LEVEL, rung="none", spin_squared=0.0, gap=1.0, wall_time=0.0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return weights.load(MINI, "double")


def cluster_of(atoms, parents=None):
    n = len(atoms)
    return Cluster(
        numbers=atoms.numbers.astype(np.int64), positions=atoms.positions.copy(),
        parent=np.arange(n) if parents is None else np.array(parents), links=np.zeros((0, 2), dtype=np.int64), charge=0,
        multiplicity=1,
    )  # fmt: skip


def clusters(count, seed=0):
    for frame, atom in draw_spots(20, 9, count, np.random.default_rng(seed)):
        yield 10 * int(frame), int(atom), cluster_of(ETHANOL[frame])


def run(reference, model, count=20, tolerance=0.05):
    part = spot_check(
        reference, clusters=clusters(count), model=model, tolerance_eV_per_A=tolerance, rng=np.random.default_rng(1)
    )
    return part.checks[0], {finding.name: finding.value for finding in part.findings}


def test_known_error_is_measured_and_lies_in_both_intervals(model):
    check, found = run(EnsembleReference(model, 0.03), model, count=40)
    assert found["spot_check_force_rmse_low"] < 0.03 < found["spot_check_force_rmse_high"]
    # The mean norm of three normal components is σ·√(8/π).
    mean = 0.03 * np.sqrt(8.0 / np.pi)
    assert found["spot_check_force_error_mean_low"] < mean < found["spot_check_force_error_mean_high"]
    # 40 × 27 components tell σ to 1/√2160 = 2 %; five of it.
    assert found["spot_check_cluster_rmse"] == pytest.approx(0.03, rel=0.11)
    assert check.status == Status.PASS
    assert found["spot_checks"] == 40.0


def test_bad_model_fails_and_an_uncertain_one_is_undecided(model):
    bad, _ = run(EnsembleReference(model, 0.10), model)
    assert bad.status == Status.FAIL
    assert "bootstrap" in bad.why
    assert run(EnsembleReference(model, 0.05), model)[0].status == Status.UNDECIDED


def test_model_with_a_flipped_sign_fails(model):
    # The sabotaged twin of an exact reference: energies negated, so every force points the wrong way.
    assert run(EnsembleReference(model), model)[0].status == Status.PASS
    flipped = weights.load(MINI, "double")
    for network in flipped.networks:
        network.last.weight.data.neg_()
    check, found = run(EnsembleReference(model), flipped)
    assert check.status == Status.FAIL
    assert found["spot_check_force_rmse"] > 1.0


def test_four_checks_are_too_few(model):
    check, found = run(EnsembleReference(model), model, count=4)
    assert check.status == Status.UNDECIDED
    assert "too few" in check.why
    assert np.isinf(found["spot_check_force_rmse_high"])
    assert run(EnsembleReference(model), model, count=5)[0].status == Status.PASS


def test_failed_labels_are_told_and_cannot_pass(model):
    check, found = run(EnsembleReference(model, fails=(3, 7)), model)
    assert check.status == Status.UNDECIDED
    assert "2 could not be labelled" in check.why
    assert (found["spot_checks"], found["spot_checks_not_labelled"]) == (18.0, 2.0)
    assert run(EnsembleReference(model, fails=range(20)), model)[0].status == Status.UNDECIDED


def test_only_the_centre_counts_and_it_must_be_there(model):
    # An error on every atom but the centre leaves the centre's at zero.
    class Elsewhere(EnsembleReference):
        def label(self, cluster):
            label = super().label(cluster)
            spoilt = label.forces + 1.0
            spoilt[4] = label.forces[4]
            return dataclasses.replace(label, forces=spoilt)

    spot = examine(Elsewhere(model), model, 30, 104, cluster_of(ETHANOL[0], range(100, 109)))
    assert np.abs(spot.error).max() < 1e-12
    assert spot.cluster_rmse == pytest.approx(np.sqrt(8.0 / 9.0))
    with pytest.raises(AuditError, match="atom 4 0 times"):
        examine(Elsewhere(model), model, 30, 4, cluster_of(ETHANOL[0], range(100, 109)))


def test_draw_is_uniform_without_repetition_and_repeatable():
    rng = np.random.default_rng(11)
    drawn = np.concatenate([draw_spots(7, 11, 20, rng) for _ in range(2000)])
    count = np.zeros((7, 11))
    np.add.at(count, tuple(drawn.T), 1)
    # Each pair is drawn 2000·20/77 = 519 ± 19.6 times (binomial); five of it.
    assert np.abs(count - 519.5).max() < 5 * 19.6
    one = draw_spots(7, 11, 77, rng)
    assert len(np.unique(one, axis=0)) == 77
    assert (draw_spots(7, 11, 9, np.random.default_rng(4)) == draw_spots(7, 11, 9, np.random.default_rng(4))).all()
    assert len(draw_spots(2, 2, 50, rng)) == 4
    with pytest.raises(AuditError, match="draw"):
        draw_spots(0, 3, 5, rng)


@pytest.mark.parametrize("n", [5, 10, 30])
def test_intervals_cover_as_often_as_they_say(n):
    rng = np.random.default_rng(8)
    rmse, norm = [], []
    for _ in range(400):
        errors = rng.normal(size=(n, 3))
        interval = component_rmse(errors, rng)
        rmse.append(interval.low <= 1.0 <= interval.high)
        interval = mean_norm(errors)
        norm.append(interval.low <= np.sqrt(8.0 / np.pi) <= interval.high)
    # 95 % of 400 has σ = 1.1 %; four of it. The bootstrap of a skewed square falls short by some percent more at n = 5.
    assert np.mean(norm) > 0.905
    assert np.mean(rmse) > (0.90 if n > 5 else 0.86)


def test_plain_spread_would_cover_far_less():
    # The sabotaged twin: ±1 standard error covers 68 %.
    rng = np.random.default_rng(8)
    hits = [abs(np.linalg.norm(e, axis=1).mean() - np.sqrt(8 / np.pi)) < np.linalg.norm(e, axis=1).std() / np.sqrt(10)
            for e in rng.normal(size=(400, 10, 3))]  # fmt: skip
    assert np.mean(hits) < 0.80


def test_real_quantum_label_of_a_water(model):
    # Hartree–Fock in a minimal basis stretches O–H to 0.99 Å: on a hot water it is some 1 eV/Å from ωB97X.
    water = ase.io.read(DATA / "quantum" / "water5_350K_wb97x_631gd.extxyz", 0)[:3]
    reference = PyscfReference(config.Reference(method="hf", basis="sto-3g", density_fit=False), 1)
    assert sorted(water.numbers) == [1, 1, 8]
    spot = examine(reference, model, 0, 0, cluster_of(water))
    label = reference.label(cluster_of(water))
    ours = evaluate(model, water.numbers, water.positions * 0.1, None).forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
    assert spot.error == pytest.approx(ours[0] - label.forces[0], abs=1e-6)
    assert 0.05 < np.linalg.norm(spot.error) < 20.0


def test_any_ase_calculator_can_be_the_reference(model):
    reference = AseReference(EMT(), dataclasses.replace(LEVEL, program="ase:emt"))
    check, found = run(reference, model, count=6)
    assert check.status == Status.FAIL
    assert found["spot_check_force_rmse"] > 0.1
