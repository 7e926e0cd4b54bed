"""The bulk is held by energies of whole molecules: nothing at the start, something as soon as a weight moves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qmml_md.config import Learning
from qmml_md.ensemble.model import evaluate
from qmml_md.learning.anchors import SNAPSHOTS, AnchorPool
from qmml_md.learning.block import Networks, bare_networks
from qmml_md.learning.bulk import bulk_loss, make_bulk
from qmml_md.learning.finetune import finetune
from qmml_md.learning.images import make_image
from qmml_md.system.structures import read_structure
from qmml_md.units import EV_PER_KJ_PER_MOL

NMA = Path(__file__).parents[3] / "examples" / "nma_in_water" / "nma_in_water.pdb"


@pytest.fixture(scope="module")
def water():
    """651 atoms: N-methylacetamide in a periodic box of water."""
    return read_structure(NMA)


def bare(ensemble) -> tuple[Networks, torch.Tensor]:
    """All weights of an ensemble, and all columns of its AEV."""
    columns = torch.arange(ensemble.aev.out_dim)
    return bare_networks(ensemble, range(len(ensemble.networks)), columns), columns


def test_molecules_sum_to_the_energy_of_the_system(mini, water) -> None:
    bulk = make_bulk(mini, water)
    total = evaluate(mini, water.numbers, water.positions, water.box).member_energies * EV_PER_KJ_PER_MOL
    # Float64 throughout; 651 atomic energies.
    assert bulk.energies.sum(1).numpy() == pytest.approx(total, rel=1e-12)
    assert int(bulk.sizes.sum()) == water.size


def test_costs_nothing_until_a_weight_moves(mini, water) -> None:
    bulk = make_bulk(mini, water)
    rng = np.random.default_rng(5)
    assert float(bulk_loss(*bare(mini), bulk, rng).detach()) < 1e-20
    mini.networks[3].last.bias.data += 1e-3
    # 1e-3 hartree on each oxygen: 0.0272 eV shared by the three atoms of a water, for each of four members.
    expected = 4 * (1e-3 * 27.211386 / 3) ** 2
    assert float(bulk_loss(*bare(mini), bulk, rng).detach()) == pytest.approx(expected, rel=0.05)


def test_holds_the_energy_of_the_bulk_while_a_cluster_is_learned(ani1x, water, frames, label_of) -> None:
    # Ethanol is taught an energy that is 0.2 eV too high; the box of water must stay where it was. The twin without the
    # bulk term shows that it would not.
    images = [make_image(ani1x, label_of(frames[0], "a"))]
    images[0] = replace(images[0], energy=images[0].energy + 0.2)
    bulk = [make_bulk(ani1x, water)]
    settings = Learning(max_epochs=60, force_rmse_eV_per_A=1e-6, energy_weight=1.0)
    before = evaluate(ani1x, water.numbers, water.positions, water.box).energy
    moved = {}
    for name, held in (("held", bulk), ("free", [])):
        fit = finetune(ani1x, images, [], settings, np.random.default_rng(0), held)
        moved[name] = abs(evaluate(fit.ensemble, water.numbers, water.positions, water.box).energy - before)
    assert moved["held"] < 0.2 * moved["free"]


def test_pool_keeps_few_snapshots(mini, water) -> None:
    pool, rng = AnchorPool(mini, 4, hold_bulk=True), np.random.default_rng(0)
    for i in range(3 * SNAPSHOTS):
        pool.visit(water.at(water.positions + 0.01 * i, water.box), rng)
    assert len(pool.snapshots.kept) == SNAPSHOTS
    pool.snapshots.kept[1:] = []
    assert torch.equal(pool.bulk()[0].energies, pool.bulk()[0].energies)


def test_a_single_molecule_has_no_bulk(mini, water) -> None:
    pool = AnchorPool(mini, 4)
    pool.visit(water, np.random.default_rng(0))
    assert pool.bulk() == []
