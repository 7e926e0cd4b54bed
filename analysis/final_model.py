"""``audit/final_model.h5``: what the final model says about every frame, written a few frames at a time.

Datasets ``step`` and ``potential`` (kJ/mol) have one row for each frame; ``forces_step`` and ``forces`` (kJ/mol/nm,
shape (g, n, 3)) one for each frame whose forces were evaluated.
"""

from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from ..errors import AuditError
from ..records.frames import Floats, Ints


class FinalModelFile:
    """The file while it is written; under its own name only when it is whole.

    Args:
        path: final name.
        atoms: of each frame.

    Raises:
        AuditError: it cannot be written.
    """

    def __init__(self, path: Path, atoms: int) -> None:
        self._path, self._part = path, path.with_suffix(".h5.part")
        try:
            path.parent.mkdir(exist_ok=True)
            self._file = h5py.File(self._part, "w")
            rows = max(1, 65536 // max(1, atoms))
            self._file.create_dataset("forces_step", shape=(0,), maxshape=(None,), dtype="i8", chunks=(1024,))
            self._file.create_dataset(
                "forces", shape=(0, atoms, 3), maxshape=(None, atoms, 3), dtype="f8", chunks=(rows, atoms, 3)
            )
        except OSError as error:
            raise self._refusal(error) from error
        self._file["forces"].attrs["units"] = np.bytes_("kilojoules_per_mole/nanometer")

    def append(self, steps: Ints, forces: Floats) -> None:
        """Add forces, kJ/mol/nm, shape (g, n, 3), of the frames of these steps.

        Raises:
            AuditError: they cannot be written.
        """
        try:
            for name, data in (("forces_step", steps), ("forces", forces)):
                dataset = self._file[name]
                count = len(dataset)
                dataset.resize(count + len(data), axis=0)
                dataset[count:] = data
        except OSError as error:
            raise self._refusal(error) from error

    def energies(self, steps: Ints, potential: Floats) -> None:
        """Add the energies of all frames, kJ/mol, shape (f,).

        Raises:
            AuditError: they cannot be written.
        """
        try:
            self._file.create_dataset("step", data=steps)
            self._file.create_dataset("potential", data=potential).attrs["units"] = np.bytes_("kilojoules_per_mole")
        except OSError as error:
            raise self._refusal(error) from error

    def __enter__(self) -> "FinalModelFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; give it its name if all went well, else remove it."""
        try:
            self._file.close()
            if kind is None:
                self._part.replace(self._path)
        except OSError as failure:
            if kind is None:
                raise self._refusal(failure) from failure
        finally:
            self._part.unlink(missing_ok=True)

    def _refusal(self, error: OSError) -> AuditError:
        return AuditError(
            f"cannot write the audit to {self._path.parent}: {error.strerror or error}",
            cure="make the folder writable, or free some space",
        )
