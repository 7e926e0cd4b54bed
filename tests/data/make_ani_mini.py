"""Make ``ani_mini.safetensors``: a tiny HCNO ensemble for tests that need no real chemistry.

Four members start from random weights and are fitted, each to its own bootstrap sample, to the quantum labels of
ethanol and of five waters in ``quantum/``, so that short dynamics of those molecules stay bound. Nitrogen keeps random
weights.

Run: ``python tests/data/make_ani_mini.py``; the committed file was made by exactly this.
"""

from itertools import pairwise
from pathlib import Path

import ase.io
import numpy as np
import torch

from qmml_md.ensemble.card import EnsembleCard
from qmml_md.ensemble.model import self_energy_hartree
from qmml_md.ensemble.weights import build, save
from qmml_md.learning.features import featurise, member_energies_and_forces
from qmml_md.units import EV_PER_HARTREE

HERE = Path(__file__).parent
MEMBERS, HIDDEN, SEED, EPOCHS = 4, (20, 12), 20181, 3000
CARD = EnsembleCard(
    name="ani-mini",
    symbols=("H", "C", "N", "O"),
    members=MEMBERS,
    radial_cutoff_A=4.5,
    angular_cutoff_A=3.2,
    radial_eta=8.0,
    angular_eta=4.0,
    angular_zeta=14.1,
    radial_shifts=tuple(np.linspace(0.8, 3.8, 8).round(4).tolist()),
    angular_shifts=(0.9, 1.7),
    sections=tuple((np.pi * (np.arange(4) + 0.5) / 4).round(6).tolist()),
    cutoff_function="cosine",
    self_energies_hartree=(-0.60095298, -38.08316124, -54.7077577, -75.19446356),
    level_of_theory="wB97X/6-31G(d), Cartesian d functions (fitted to 100 frames; not for chemistry)",
    source="tests/data/make_ani_mini.py",
    license="MIT",
    citation="none",
)


def main() -> None:
    """Fit and save."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    model = build(CARD, random_tensors(rng), "single")
    frames = ase.io.read(HERE / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", ":60")
    frames += ase.io.read(HERE / "quantum" / "water5_350K_wb97x_631gd.extxyz", ":40")
    features = [featurise(model, f.numbers, f.positions) for f in frames]
    forces = [torch.tensor(f.get_forces(), dtype=torch.float32) for f in frames]
    energies = [f.get_potential_energy() - self_energy_hartree(CARD, f.numbers) * EV_PER_HARTREE for f in frames]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(EPOCHS):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * 0.02 ** (epoch / EPOCHS)
        optimiser.zero_grad()
        loss = torch.zeros(())
        for i in rng.choice(len(frames), size=12):
            weight = torch.tensor(rng.poisson(1.0, MEMBERS), dtype=torch.float32)
            energy, force = member_energies_and_forces(model, features[i], create_graph=True)
            per_atom = (energy * EV_PER_HARTREE - energies[i]) / len(frames[i])
            wrong = (force * EV_PER_HARTREE - forces[i]).square().mean((1, 2))
            loss = loss + (weight * (wrong + 0.1 * per_atom.square())).sum()
        loss.backward()
        optimiser.step()
        if epoch % 100 == 0:
            print(epoch, float(loss.detach()) / 12 / MEMBERS, flush=True)
    print(save(model, HERE / "ani_mini.safetensors"))


def random_tensors(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Random weights of the right shapes."""
    species = len(CARD.symbols)
    width = species * len(CARD.radial_shifts)
    width += species * (species + 1) // 2 * len(CARD.angular_shifts) * len(CARD.sections)
    tensors = {}
    for symbol in CARD.symbols:
        sizes = (width, *HIDDEN, 1)
        for i, (a, b) in enumerate(pairwise(sizes)):
            weight = rng.normal(size=(MEMBERS, a, b)) / np.sqrt(a)
            tensors[f"{symbol}.{i}.weight"] = torch.tensor(weight, dtype=torch.float32)
            tensors[f"{symbol}.{i}.bias"] = torch.zeros((MEMBERS, 1, b))
    return tensors


if __name__ == "__main__":
    main()
