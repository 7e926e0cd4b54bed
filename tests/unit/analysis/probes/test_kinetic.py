"""Temperatures of velocities: canonical ones pass, the defects of real thermostats fail, short series are undecided."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from qmml_md.analysis.findings import Status
from qmml_md.analysis.probes.equipartition import by_element, equipartition_part, freedoms, partition
from qmml_md.analysis.probes.kinetic import MIN_SAMPLES, independent, kinetic_part
from qmml_md.errors import AuditError
from qmml_md.records.segment import Particles
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

T, DOF = 300.0, 24
KT = BOLTZMANN_KJ_PER_MOL_PER_K * T


def canonical(n, seed=1, temperature=T, dof=DOF):
    """Independent kinetic energies, kJ/mol."""
    return np.random.default_rng(seed).gamma(dof / 2, BOLTZMANN_KJ_PER_MOL_PER_K * temperature, size=n)


def judge(kinetic, integrator="langevin"):
    part = kinetic_part(
        kinetic, degrees_of_freedom=DOF, temperature_K=T, integrator=integrator, rng=np.random.default_rng(7)
    )
    return part.checks[0], {finding.name: finding for finding in part.findings}


def test_canonical_energies_pass_and_the_bars_are_true():
    check, found = judge(canonical(2000))
    assert check.status == Status.PASS
    # sd of a gamma variate with shape 12 is √12 kT: 2000 of them tell T to T/√(12·2000) = 1.94 K, the bootstrap of 200
    # repetitions tells that to 1/√400 = 5 %; four of it.
    assert found["kinetic_all_atoms_mean"].standard_error == pytest.approx(1.94, rel=0.2)
    assert abs(found["kinetic_all_atoms_mean"].value - T) < 4.0 * 1.94
    assert found["kinetic_all_atoms_p"].value > 1e-4


@pytest.mark.parametrize(
    ("series", "cause"),
    [
        (canonical(2000, temperature=345.0), "mean"),
        # One degree of freedom too many in the books: 25/24 is within 5 %; half as many again is not.
        (canonical(2000, dof=36), "mean"),
        # Weak coupling (Berendsen) at the right mean: half of the width.
        (12 * KT + 0.5 * (canonical(2000) - 12 * KT), "width"),
        (12 * KT + 1.0 * (canonical(2000) > 12 * KT), "width"),
    ],
    ids=["hot", "freedom", "narrow", "two values"],
)  # fmt: skip
def test_wrong_ensembles_fail_for_the_right_reason(series, cause):
    check, _ = judge(series)
    assert check.status == Status.FAIL
    assert f"K from the {cause} of" in check.why


def test_short_and_correlated_series_are_undecided():
    assert judge(canonical(MIN_SAMPLES - 20))[0].status == Status.UNDECIDED
    # φ = 0.98 leaves one independent frame in 99.
    noise, series = np.random.default_rng(3).normal(size=3000), np.zeros(3000)
    for i in range(1, 3000):
        series[i] = 0.98 * series[i - 1] + np.sqrt(1 - 0.98**2) * noise[i]
    check, found = judge(12 * KT + np.sqrt(12) * KT * series)
    assert check.status == Status.UNDECIDED
    assert "too few" in check.why
    assert found["kinetic_all_atoms_independent_frames"].value < MIN_SAMPLES
    # The twin: the same numbers in random order are independent, and enough.
    shuffled = np.random.default_rng(4).permutation(canonical(3000))
    assert len(independent(shuffled)) > 2000
    assert judge(np.full(500, 12 * KT))[0].status == Status.UNDECIDED


def test_a_clean_run_is_hardly_ever_blamed():
    # 200 runs of 100 frames; a false alarm has the chance 1e-4 at most, so one in 200 runs has 2 %.
    statuses = [judge(canonical(100, seed=seed))[0].status for seed in range(200)]
    assert Status.FAIL not in statuses


@pytest.mark.parametrize("integrator", ["verlet", "respa"])
def test_constant_energy_is_not_applicable(integrator):
    check, _ = judge(canonical(500), integrator)
    assert check.status == Status.NOT_APPLICABLE
    assert "heat capacity" in check.why


def test_bad_series_is_refused():
    with pytest.raises(AuditError, match="not finite"):
        judge(np.full(100, np.nan))
    with pytest.raises(AuditError, match="degrees of freedom"):
        kinetic_part(
            canonical(100), degrees_of_freedom=0, temperature_K=T, integrator="langevin", rng=np.random.default_rng(0)
        )


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    judge(canonical(100))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_nothing_is_printed_on_the_first_import():
    program = (
        "import numpy as np; from qmml_md.analysis.probes.kinetic import kinetic_part; import sys; "
        "assert 'physical_validation' not in sys.modules; rng = np.random.default_rng(0); "
        "kinetic_part(rng.gamma(12, 2.5, 200), degrees_of_freedom=24, temperature_K=300, integrator='langevin', "
        "rng=rng); "
        "assert 'physical_validation' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert logging.getLogger("pymbar").level == logging.NOTSET


WATERS, FRAMES = 6, 2000
MASSES = np.tile([15.999, 1.008, 1.008], WATERS)
WATER = np.array([[0, 0, 0], [0.0757, 0.0586, 0], [-0.0757, 0.0586, 0]])


def particles(degrees_of_freedom, periodic=True):
    atoms = [{"index": i, "name": f"A{i}", "element": "H"} for i in range(3 * WATERS)]
    residue = {"index": 0, "name": "HOH", "resSeq": 1, "segmentID": "", "atoms": atoms}
    bonds = [[3 * k, 3 * k + h] for k in range(WATERS) for h in (1, 2)]
    return Particles(
        numbers=np.tile([8, 1, 1], WATERS), masses=MASSES,
        topology_json=json.dumps({"chains": [{"index": 0, "residues": [residue]}], "bonds": bonds}), periodic=periodic,
        degrees_of_freedom=degrees_of_freedom,
    )  # fmt: skip


def trajectory(seed=2, at_rest=True):
    """Waters turned at random, with Maxwell velocities; wrapped atom by atom into an oblique box."""
    rng = np.random.default_rng(seed)
    box = np.array([[1.5, 0, 0], [0.3, 1.6, 0], [-0.2, 0.4, 1.4]])
    turns = np.linalg.qr(rng.normal(size=(FRAMES, WATERS, 3, 3)))[0]
    x = np.einsum("ak,fwkj->fwaj", WATER, turns) + rng.random((FRAMES, WATERS, 1, 3)) * 1.5
    x = x + 0.004 * rng.normal(size=x.shape)
    v = rng.normal(size=(FRAMES, 3 * WATERS, 3)) * np.sqrt(KT / MASSES)[None, :, None]
    if at_rest:
        v -= np.einsum("fni,n->fi", v, MASSES)[:, None] / MASSES.sum()
    x = x.reshape(FRAMES, -1, 3)
    return x + rng.integers(-1, 2, x.shape) @ box, v, np.broadcast_to(box, (FRAMES, 3, 3)), x


def equipartition(x, v, boxes, integrator="bussi", dof=9 * WATERS - 3, periodic=True):
    part = equipartition_part(
        x, v, boxes, particles=particles(dof, periodic), temperature_K=T, integrator=integrator,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    return part.checks[0], {finding.name: finding.value for finding in part.findings}


def test_maxwell_velocities_have_one_temperature_in_every_motion_and_element():
    x, v, boxes, _ = trajectory()
    check, found = equipartition(x, v, boxes)
    assert check.status == Status.PASS
    # Translation has 15 degrees of freedom: T √(2/(15·2000)) = 2.4 K; five of it, for the largest of five.
    for name in ("translation", "rotation", "internal_motion", "H", "O"):
        assert abs(found[f"equipartition_{name}_mean"] - T) < 12.0


def test_flying_ice_cube_fails_while_the_total_temperature_is_right():
    x, v, boxes, _ = trajectory()
    molecule = np.repeat(np.arange(WATERS), 3)
    drift = np.stack([
        np.einsum("fni,n->fi", v[:, molecule == k], MASSES[:3]) / MASSES[:3].sum() for k in range(WATERS)
    ], axis=1)[:, molecule]  # fmt: skip
    # Translation 40 % too hot, the rest colder by as much energy.
    moved = np.sqrt(1.4) * drift + np.sqrt(1.0 - 0.4 * 15.0 / 36.0) * (v - drift)
    check, _ = equipartition(x, moved, boxes)
    assert check.status == Status.FAIL
    assert "translation" in check.why
    total = 0.5 * np.einsum("fni,n->f", moved**2, MASSES)
    assert 2.0 * total.mean() / (51.0 * BOLTZMANN_KJ_PER_MOL_PER_K) == pytest.approx(T, rel=0.02)


def test_hot_hydrogens_fail_by_element():
    x, v, boxes, _ = trajectory()
    spoilt = v * np.where(np.tile([True, False, False], WATERS), 0.8, 1.1)[None, :, None]
    check, found = equipartition(x, spoilt, boxes)
    assert check.status == Status.FAIL
    assert found["equipartition_H_mean"] > 345.0 > 260.0 > found["equipartition_O_mean"]


def test_partition_is_that_of_physical_validation():
    from physical_validation.util.kinetic_energy import calc_molec_kinetic_energy

    _, v, _, x = trajectory()
    molecule = np.repeat(np.arange(WATERS), 3)
    ours = partition(x[0], v[0], MASSES, molecule)
    theirs = calc_molec_kinetic_energy(x[0], v[0], MASSES, np.arange(0, 3 * WATERS, 3), 3 * WATERS, WATERS)
    for value, key in zip(ours, ("translational", "rotational", "internal"), strict=True):
        assert value == pytest.approx(theirs[key].sum(), rel=1e-10)


def test_diatomics_and_atoms_have_no_rotation_that_they_cannot_have():
    x = np.array([[0, 0, 0], [0, 0, 0.1], [1.0, 1, 1]])
    v = np.random.default_rng(5).normal(size=(3, 3))
    molecule = np.array([0, 0, 1])
    energy = partition(x, v, np.array([12.0, 16.0, 40.0]), molecule)
    # Only the stretch along z is internal: ½ μ (Δv_z)², μ = 12·16/28.
    assert energy[2] == pytest.approx(0.5 * 12 * 16 / 28 * (v[0, 2] - v[1, 2]) ** 2, rel=1e-9)
    assert freedoms(molecule, at_rest=3, constraints=0).tolist() == [3.0, 2.0, 1.0]


def test_elements_share_the_momentum_that_is_at_rest_by_mass():
    _, v, _, _ = trajectory()
    rows = by_element(v, particles(51), 3)
    assert sum(freedom for _, freedom in rows.values()) == pytest.approx(51.0)
    assert sum(energy[0] for energy, _ in rows.values()) == pytest.approx(0.5 * np.sum(MASSES[:, None] * v[0] ** 2))


def test_constraints_leave_out_elements_and_take_from_internal_motion():
    # Rigid waters: velocities without any internal part, 3 constraints each.
    x, v, boxes, _ = trajectory()
    check, found = equipartition(x, v, boxes, dof=9 * WATERS - 3 - 3 * WATERS)
    assert "equipartition_internal_motion_mean" not in found
    assert "equipartition_H_mean" not in found
    assert check.status == Status.PASS


def test_where_equipartition_is_not_promised():
    x, v, boxes, _ = trajectory()
    assert equipartition(x, v, boxes, integrator="verlet")[0].status == Status.NOT_APPLICABLE
    assert equipartition(x, v, boxes, integrator="nose_hoover", periodic=False)[0].status == Status.NOT_APPLICABLE
    with pytest.raises(AuditError, match="differ"):
        equipartition(x[:3], v, boxes)
    with pytest.raises(AuditError, match="at rest"):
        equipartition(x, v, boxes, dof=9 * WATERS)
