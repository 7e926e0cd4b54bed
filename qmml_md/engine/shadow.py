"""The last refused candidate: kept, and scored on the next labels, though no atom ever moves on it.

A run that is resumed must know it, so that it stays on the disk until another one is refused or a model is accepted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..ensemble.model import AniEnsemble
from ..ensemble.weights import Precision, load
from ..errors import RunDirectoryError
from ..learning.boundary import counted_rmse
from ..learning.gate import cluster_forces
from ..records.run_directory import RunDirectory
from ..reference.label import Label
from ..system.molecules import Floats


@dataclass(slots=True)
class Shadows:
    """Refused candidates.

    Attributes:
        run: whose candidates they are.
        precision: in which it is evaluated.
    """

    run: RunDirectory
    precision: Precision
    _now: tuple[str, AniEnsemble] | None = field(default=None)

    @property
    def folder(self) -> Path:
        """Where the last one lies."""
        return self.run.root / "refused"

    def keep(self, model_id: str, candidate: AniEnsemble, *, new: bool) -> None:
        """A candidate was refused: it is the shadow from now on.

        Args:
            model_id: its identity.
            candidate: the model.
            new: whether it never moved an atom; it is taken out of the models of the run then.
        """
        if new:
            self.folder.mkdir(exist_ok=True)
            path = self.run.model(model_id)
            for file in (path, path.with_suffix(".json")):
                file.replace(self.folder / file.name)
        self._now = (model_id, candidate)

    def score(self, label: Label, model_id: str | None, weights: Floats) -> dict[str, Any] | None:
        """Force RMSE of the shadow on a label that it has not seen, eV/Å; None where there is no shadow.

        Args:
            label: the label.
            model_id: of the shadow.
            weights: what the atoms count, shape (m,).

        Raises:
            RunDirectoryError: its file is missing.
        """
        if model_id is None:
            return None
        wrong = cluster_forces(self._of(model_id), label.cluster) - label.forces
        return {
            "model": model_id,
            "force_rmse": float(np.sqrt((wrong**2).mean())),
            "weighted_force_rmse": counted_rmse(wrong, weights),
        }

    def prune(self, model_id: str | None) -> None:
        """Remove all but one, once a commit names it."""
        if self.folder.exists():
            for file in self.folder.iterdir():
                if file.stem != model_id:
                    file.unlink()

    def _of(self, model_id: str) -> AniEnsemble:
        if self._now is None or self._now[0] != model_id:
            path = self.folder / f"{model_id}.safetensors"
            if not path.exists():
                path = self.run.model(model_id)
            if not path.exists():
                raise RunDirectoryError(
                    f"the refused candidate {model_id[:12]} is missing in {self.folder}", cure="restore it from a copy"
                )
            self._now = (model_id, load(str(path), self.precision))
        return self._now[1]
