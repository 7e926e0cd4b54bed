"""The whole potential of a system under a given model: the ensemble on its part, a force field on the rest.

``U(x) = U_field(x) + ⟨E_k⟩(X(x))``, where X takes the positions of the part that is on the ensemble, link atoms
included, from those of all atoms (``system/subsystem.py``). Where everything is on the ensemble there is no field and X
is x: then this is ``model.evaluate`` and nothing more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..system.archive import Simulated
from ..system.field import Field, load_field
from ..system.molecules import Floats, Ints
from ..system.subsystem import Subsystem
from .batch import BatchOutput, evaluate_models
from .disagreement import disagreement, member_forces
from .model import AniEnsemble, EnsembleOutput, evaluate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """A part on the ensemble within a force field.

    Attributes:
        part: what is on the ensemble.
        field: the force field of everything but the interactions within the part.
    """

    part: Subsystem
    field: Field


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Potential:
    """What moves the atoms, but for the model.

    Attributes:
        numbers: atomic numbers of what the ensemble sees, link atoms included.
        mixture: the part and its field; None where everything is on the ensemble.
    """

    numbers: Ints
    mixture: Mixture | None = None

    def evaluate(self, model: AniEnsemble, positions: Floats, box: Floats | None) -> EnsembleOutput:
        """Energy and forces of one configuration, the field included in every energy.

        Args:
            model: the ensemble.
            positions: of all atoms, nm, shape (n, 3).
            box: nm, shape (3, 3); None in vacuum.
        """
        if self.mixture is None:
            return evaluate(model, self.numbers, positions, box)
        part = self.mixture.part
        out = evaluate(model, self.numbers, part.positions(positions, box), box)
        energy, forces = self.mixture.field.evaluate(positions, box)
        return EnsembleOutput(
            energy=out.energy + energy,
            forces=forces + part.spread(out.forces, positions, box),
            member_energies=out.member_energies + energy,
        )

    def evaluate_models(
        self, models: Sequence[AniEnsemble], positions: Floats, boxes: Floats | None, *, forces: bool = True
    ) -> list[BatchOutput]:
        """Energies, and forces if asked for, of several models on c frames; the field is evaluated once for all.

        Args:
            models: which share a descriptor or not.
            positions: of all atoms, nm, shape (c, n, 3).
            boxes: nm, shape (c, 3, 3); None in vacuum.
            forces: whether to compute forces.
        """
        if self.mixture is None:
            return evaluate_models(models, self.numbers, positions, boxes, forces=forces)
        part, cells = self.mixture.part, [None] * len(positions) if boxes is None else list(boxes)
        shape = (len(positions), len(self.numbers), 3)
        seen = np.array([part.positions(x, box) for x, box in zip(positions, cells, strict=True)]).reshape(shape)
        field = [self.mixture.field.evaluate(x, box) for x, box in zip(positions, cells, strict=True)]
        return [
            self._with_field(out, field, positions, cells)
            for out in evaluate_models(models, self.numbers, seen, boxes, forces=forces)
        ]

    def _with_field(
        self, out: BatchOutput, field: Sequence[tuple[float, Floats]], positions: Floats, cells: Sequence[Floats | None]
    ) -> BatchOutput:
        energy = out.energy + np.array([energy for energy, _ in field], dtype=np.float64)
        if out.forces is None or self.mixture is None:
            return BatchOutput(energy=energy, forces=None)
        part = self.mixture.part
        spread = [
            rest + part.spread(own, x, box)
            for own, (_, rest), x, box in zip(out.forces, field, positions, cells, strict=True)
        ]
        return BatchOutput(energy=energy, forces=np.array(spread, dtype=np.float64).reshape(positions.shape))

    def in_double(self) -> "Potential":
        """The same with a field that is computed in double precision, slowly; a fast platform rounds it to single."""
        if self.mixture is None:
            return self
        field = load_field(self.mixture.field.xml, "Reference")
        return replace(self, mixture=replace(self.mixture, field=field))

    def disagreement(self, model: AniEnsemble, positions: Floats, box: Floats | None) -> Floats:
        """σ of all atoms, eV/Å, shape (n,); zero outside of the part: a force field has no doubt.

        Forces on link atoms are handed to the atoms that carry them first.
        """
        if self.mixture is None:
            return disagreement(member_forces(model, self.numbers, positions, box))
        part = self.mixture.part
        members = member_forces(model, self.numbers, part.positions(positions, box), box)
        found = np.zeros(len(positions))
        found[part.atoms] = disagreement(part.spread(members, positions, box))[part.atoms]
        return found


def potential_of(simulated: Simulated) -> Potential:
    """What moves the atoms of a system, but for the model."""
    mixture = None if simulated.field is None else Mixture(part=simulated.part, field=simulated.field)
    return Potential(numbers=simulated.part.molecules.numbers, mixture=mixture)
