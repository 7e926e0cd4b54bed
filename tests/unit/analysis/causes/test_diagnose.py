"""Signatures of causes on made-up evidence: each names its class, and none fires where its proportions are absent."""

import numpy as np
import pytest

from qmml_md.analysis.causes.classes import UNIT_FACTORS, Cause, Fit, cause_of_factor, fit, unit_of_factor
from qmml_md.analysis.causes.diagnose import diagnose
from qmml_md.analysis.causes.symptoms import Close, Symptoms
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, KJ_PER_MOL_PER_HARTREE

RNG = np.random.default_rng(8)
FORCES = RNG.normal(size=(6, 9, 3)) * 800.0
ENERGIES = -13000.0 + 10.0 * RNG.normal(size=6)
POSITIONS = RNG.normal(size=(6, 9, 3)) * 0.2


def close(stored=None, energies=None, positions=POSITIONS, matches=None):
    return Close(
        stored=FORCES if stored is None else stored,
        recomputed=FORCES,
        stored_energy=ENERGIES if energies is None else energies,
        energy=ENERGIES,
        positions=positions,
        matches=matches or {},
    )


def named(found, failed=("replay",), **kwargs):
    tolerances = {"energy_tolerance": 1e-6, "force_tolerance": 1e-7}
    return diagnose(Symptoms(failed=frozenset(failed), close=found, **tolerances, **kwargs))


def test_nothing_failed_nothing_is_diagnosed():
    assert diagnose(Symptoms(failed=frozenset())) == ()


def test_failure_that_fits_nothing_is_unknown():
    assert [d.cause for d in diagnose(Symptoms(failed=frozenset({"valence"})))] == [Cause.UNKNOWN]


def test_factors_are_fitted_with_their_error():
    noise = 0.01 * RNG.normal(size=FORCES.shape) * 800.0
    found = fit(2.0 * FORCES + noise, FORCES)
    # Error of a slope: noise over signal over the root of the number of points, 0.01/sqrt(162) = 8e-4.
    assert found.factor == pytest.approx(2.0, abs=5 * 8e-4)
    assert found.error == pytest.approx(8e-4, rel=0.3)
    assert found.unexplained == pytest.approx(0.005, rel=0.3)


def test_factor_of_nothing_is_not_a_number():
    assert np.isnan(fit(FORCES, 0.0 * FORCES).factor)
    assert cause_of_factor(fit(FORCES * np.nan, FORCES), "forces") is None


@pytest.mark.parametrize("name", UNIT_FACTORS)
def test_every_unit_is_found_by_its_factor_and_by_its_negative(name):
    factor = UNIT_FACTORS[name]
    found = unit_of_factor(-1.004 * factor)
    assert found is not None
    assert UNIT_FACTORS[found] == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.5, 3.0, 1.2, 0.0, np.nan, np.inf])
def test_what_is_no_unit_is_not_called_one(factor):
    assert unit_of_factor(factor) is None


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, Cause.UNIT),
        (1 / 41.84, Cause.UNIT),
        (10.0, Cause.UNIT),
        (-1.0, Cause.NOT_GRADIENT),
        (-0.5, Cause.NOT_GRADIENT),
        (2.0, Cause.NOT_GRADIENT),
        (1.05, Cause.NOT_GRADIENT),
    ],
)
def test_proportional_forces_name_unit_or_formula(factor, cause):
    first = named(close(factor * FORCES))[0]
    assert first.cause == cause
    assert first.evidence[0].value == pytest.approx(factor)


def test_factor_on_one_atom_is_seen_on_that_atom():
    stored = FORCES.copy()
    stored[:, 4] *= -1.0
    first = named(close(stored))[0]
    assert first.cause == Cause.NOT_GRADIENT
    assert first.evidence[0].value == pytest.approx(-1.0)


def test_factor_of_uncorrelated_forces_is_refused():
    assert cause_of_factor(Fit(factor=-1.0, error=0.1, unexplained=0.9, before=2.0), "forces") is None


def test_noise_on_forces_with_right_energies_is_not_a_gradient():
    assert named(close(FORCES + RNG.normal(size=FORCES.shape)))[0].cause == Cause.NOT_GRADIENT


def test_clamp_is_called_by_its_limit():
    first = named(close(np.clip(FORCES, -1000.0, 1000.0)))[0]
    assert first.cause == Cause.NOT_GRADIENT
    assert "clamped at 1000" in first.why


def test_another_surface_is_off_on_every_atom():
    stored, energies = FORCES * (1 + 0.01 * RNG.normal(size=FORCES.shape)), ENERGIES + 1.0 + RNG.normal(size=6)
    assert named(close(stored, energies))[0].cause == Cause.WRONG_MODEL


def test_missing_neighbours_spare_some_atoms():
    stored = FORCES.copy()
    stored[:, :4] += RNG.normal(size=(6, 4, 3))
    assert named(close(stored, ENERGIES + RNG.normal(size=6)))[0].cause == Cause.NOT_GRADIENT


def test_energies_in_hartree():
    assert named(close(energies=ENERGIES / KJ_PER_MOL_PER_HARTREE))[0].cause == Cause.UNIT


@pytest.mark.parametrize("constant", [4e5, 4e4])
def test_sum_in_single_precision_leaves_a_grid(constant):
    stored = np.float64(np.float32(ENERGIES - constant)) + constant
    assert named(close(energies=stored), potential_used=stored)[0].cause == Cause.PRECISION


def test_rounded_positions_leave_a_grid():
    stored, energies = FORCES + 1e-3 * RNG.normal(size=FORCES.shape), ENERGIES + 1e-4
    for rounded in (np.float64(np.float32(POSITIONS)), np.round(POSITIONS, 4)):
        assert named(close(stored, energies, rounded))[0].cause == Cause.PRECISION


def test_honest_numbers_stand_on_no_grid():
    stored, energies = 1.01 * FORCES + RNG.normal(size=FORCES.shape), ENERGIES + RNG.normal(size=6)
    found = named(close(stored, energies), potential_used=energies)
    assert Cause.PRECISION not in {d.cause for d in found}


@pytest.mark.parametrize(
    ("match", "cause"),
    [
        ("another model of the run", Cause.WRONG_MODEL),
        ("positions of a neighbouring frame", Cause.FRAMES),
        ("positions that a neighbouring frame holds too", Cause.FRAMES),
        ("box of a neighbouring frame", Cause.FRAMES),
        ("no images across a border", Cause.NOT_GRADIENT),
        ("unit: positions in Å for nm", Cause.UNIT),
    ],
)
def test_hypothesis_that_gives_what_is_stored_goes_before_statistics(match, cause):
    stored, energies = FORCES * 1.5 + 100.0, ENERGIES + 5.0
    assert named(close(stored, energies, matches={match: 6}))[0].cause == cause


def test_velocities_tell_their_unit_through_the_kinetic_energy():
    assert named(None, ("kinetic", "identity"), kinetic_ratio=100.0)[0].cause == Cause.UNIT
    assert Cause.UNIT not in {d.cause for d in named(None, ("kinetic",), kinetic_ratio=1.21)}


def test_books_that_fail_alone_are_an_exchange_and_the_jump_is_named():
    conserved = np.where(np.arange(40) < 20, 0.0, 3.5) + 1e-3 * np.sin(np.arange(40))
    kinetic, step = 30.0 + np.sin(np.arange(40)), np.arange(40)
    first = named(None, ("ledger", "model_updates"), conserved=conserved, kinetic=kinetic, step=step)[0]
    assert first.cause == Cause.NOT_BOOKED
    assert "between steps 19 and 20" in first.why


def test_damaged_file_goes_before_everything():
    assert named(close(2.0 * FORCES), ("files", "replay", "ledger"))[0].cause == Cause.FILE


def test_fluctuation_alone_is_the_time_step():
    found = named(None, ("fluctuation",), fluctuation=0.4, timestep_fs=2.0)
    assert found[0].cause == Cause.TIMESTEP
    assert Cause.TIMESTEP not in {d.cause for d in named(close(2.0 * FORCES), ("fluctuation", "replay"))}


def test_final_model_that_differs_is_an_honest_failure():
    assert named(None, ("force_rmse", "force_maxresid"))[0].cause == Cause.MODEL_DIFFERS


def test_steps_that_run_backwards_and_a_clock_in_another_unit():
    step = np.array([0, 1, 3, 2, 4])
    assert named(None, ("order",), step=step, time=step * 5e-4, timestep_fs=0.5)[0].cause == Cause.FRAMES
    step = np.arange(5)
    assert named(None, ("order",), step=step, time=step * 0.5, timestep_fs=0.5)[0].cause == Cause.UNIT


def test_each_class_is_named_once_and_the_likeliest_first():
    found = named(close(2.0 * FORCES, matches={"another model of the run": 6}), ("replay", "models"))
    assert found[0].cause == Cause.WRONG_MODEL
    assert len({d.cause for d in found}) == len(found)
    assert [d.strength for d in found] == sorted((d.strength for d in found), reverse=True)
