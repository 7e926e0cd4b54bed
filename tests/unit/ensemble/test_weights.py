"""Weights: identity by hash, nothing but safetensors, clear words when they cannot be had."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torchani.arch import Assembler
from torchani.models import SYMBOLS_2X

from qmml_md.ensemble import published, weights, wheel
from qmml_md.ensemble.model import self_energy_hartree
from qmml_md.errors import WeightsError
from qmml_md.records.durable import write_durably

MINI = Path(__file__).parents[2] / "data" / "ani_mini.safetensors"


def test_saving_and_loading_keeps_every_bit(tmp_path: Path) -> None:
    ensemble = weights.load(str(MINI))
    digest = weights.save(ensemble, tmp_path / "copy.safetensors")
    again = weights.load(str(tmp_path / "copy.safetensors"))
    assert again.card == ensemble.card
    for key, tensor in weights.tensors_of(ensemble).items():
        assert torch.equal(tensor, weights.tensors_of(again)[key])
    assert weights.serialise(again)[1] == digest
    assert json.loads((tmp_path / "copy.json").read_text())["sha256"] == digest


def test_identity_changes_with_one_weight() -> None:
    ensemble = weights.load(str(MINI))
    before = weights.serialise(ensemble)[1]
    next(ensemble.networks.parameters()).data[0, 0, 0] += 1e-6
    assert weights.serialise(ensemble)[1] != before


def test_ani1x_comes_from_the_published_wheel() -> None:
    ensemble = weights.load("ani1x")
    assert ensemble.members == 8
    assert ensemble.card.symbols == ("H", "C", "N", "O")
    assert ensemble.card.cutoff_A == 5.2
    # Published self energies, to the last digit of the file and not rounded to float32.
    assert self_energy_hartree(ensemble.card, [8]) == -75.19446356
    assert any(row.name == "ani1x" and row.cached for row in weights.available())


def test_ani1ccx_is_another_model() -> None:
    assert weights.serialise(weights.load("ani1ccx"))[1] != weights.serialise(weights.load("ani1x"))[1]


def test_ani2x_conversion_reproduces_torchani() -> None:
    # TorchANI's own ANI-2x architecture with random weights: conversion does not depend on their values.
    torch.manual_seed(5)
    assembler = Assembler(periodic_table_index=True)
    assembler.set_symbols(SYMBOLS_2X)
    assembler.set_global_cutoff_fn("cosine")
    assembler.set_aev_computer(radial="ani2x", angular="ani2x")
    assembler.set_atomic_networks(ctor="ani2x")
    assembler.set_gsaes_as_self_energies("wb97x-631gd")
    theirs = assembler.assemble(8)
    card, tensors = published.convert_torchani("ani2x", theirs)
    ours = weights.build(card, tensors)
    assert card.symbols == ("H", "C", "N", "O", "S", "F", "Cl")
    positions = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, 1.3], [0.0, 1.7, 1.6], [1.2, 0.2, -0.4]], dtype=torch.float64)
    numbers = torch.tensor([[6, 8, 17, 1]])
    energy = theirs((numbers, positions.unsqueeze(0).float())).energies
    elements = torch.tensor([1, 3, 6, 0])
    expected = float(energy.detach()) - self_energy_hartree(card, [6, 8, 17, 1])
    # Their total carries 573 hartree in float32: 6e-5 of rounding; ours does not.
    assert float(ours(elements, positions, None).mean().detach()) == pytest.approx(expected, abs=2e-4)


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "torchani-2.0-py3-none-any.whl"
    file.write_bytes(b"not a wheel")
    with pytest.raises(WeightsError, match="not the file that was published"):
        wheel.check_hash(file, wheel.WHEEL_SHA256)


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pip's own configuration is honoured: here it points nowhere.
    for key, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("QMML_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"(?s)could not be fetched.*Cure: check that `pip download"):
        weights.load("ani1x")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_unknown_name_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither a known name"):
        weights.load("ani9x")
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        weights.load(str(tmp_path / "x.safetensors"))


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "cut.safetensors"
    shutil.copy(MINI, copy)
    copy.write_bytes(copy.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        weights.load(str(copy))


@pytest.mark.parametrize("written", [0, 1])
def test_a_kill_while_a_model_is_stored_leaves_no_weights_without_their_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    calls: list[Path] = []

    def killed(path: Path, content: bytes) -> str:
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(path)
        return write_durably(path, content)

    ensemble = weights.load(str(MINI))
    monkeypatch.setattr("qmml_md.ensemble.weights.write_durably", killed)
    with pytest.raises(KeyboardInterrupt):
        weights.store(ensemble, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    monkeypatch.undo()
    model_id, new = weights.store(ensemble, tmp_path)
    assert new
    assert {path.name for path in tmp_path.iterdir()} == {f"{model_id}.json", f"{model_id}.safetensors"}
