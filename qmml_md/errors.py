"""One root for every error that a user may meet; each says what is wrong, why, and how to mend it.

The command line prints these on one screen without a traceback (``--debug`` shows it). Leaves also derive from the
built-in that a library user would catch.
"""


class QmmlError(Exception):
    """Root of all errors raised on purpose.

    Attributes:
        what: what went wrong, with the offending name and value.
        cure: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, cure: str = "") -> None:
        super().__init__(f"{what}\n  Cure: {cure}" if cure else what)
        self.what = what
        self.cure = cure


class ConfigError(QmmlError, ValueError):
    """The configuration file is not valid; names every line and field at once."""


class StructureError(QmmlError, ValueError):
    """The structure cannot be simulated as it stands."""


class WeightsError(QmmlError, RuntimeError):
    """Model weights are missing, cannot be fetched, or do not have the expected hash."""


class ElementError(StructureError):
    """An element of the structure is unknown to the weights."""


class ForceFieldError(QmmlError, ValueError):
    """A force field cannot be built, or must not be loaded."""


class RegionError(QmmlError, ValueError):
    """No cluster can be cut with the present settings."""


class NoRoom(RegionError):
    """What joins together with an atom is more than a region may hold, with the atoms where they are."""


class LabelError(QmmlError, RuntimeError):
    """A quantum label could not be computed; logged and skipped, never trained on."""


class NotConverged(LabelError):
    """No rung of the SCF ladder converged."""


class LabelTimeout(LabelError):
    """The label took longer than ``reference.time_limit_s``."""


class WorkerDied(LabelError):
    """The process that computes labels ended, hung, or answered what is no answer, more often than may be retried."""


class OutOfMemory(LabelError):
    """The label needed more memory than there is, or than ``reference.memory_limit_GB``."""


class BadLabel(LabelError):
    """A label is not what was asked for, cannot be right by itself, or is nothing like what the ensemble says.

    Attributes:
        key: of what was asked for.
        reason: why it is not used, in words.
        label: what was computed, as ``reference.label.Label``; None where that is not at hand.
    """

    def __init__(self, what: str, *, key: str = "", reason: str = "", label: object = None, cure: str = "") -> None:
        super().__init__(what, cure=cure)
        self.key = key
        self.reason = reason
        self.label = label


class LabelAbandoned(QmmlError):
    """Somebody asked the run to stop while it waited for a label, which is lost."""

    exit_code = 75


class MixedLabels(QmmlError, ValueError):
    """Labels of several levels of theory, or embedded and unembedded ones, would be trained on together."""


class RunDirectoryError(QmmlError, RuntimeError):
    """A run directory exists already, is missing, locked, incomplete or of another version."""


class CannotCommit(RunDirectoryError):
    """A run cannot be written any more, and ends at its last commit, which is whole; ``qmml resume`` goes on."""

    exit_code = 75


class AuditError(QmmlError, RuntimeError):
    """The audit could not be carried out (as opposed to: was carried out and failed)."""


class DynamicsError(QmmlError, RuntimeError):
    """The dynamics cannot go on: NaN, or forces beyond reason."""


class StoppedEarly(QmmlError):
    """Somebody asked a run to stop before its first step."""

    exit_code = 75


class InstallationError(QmmlError, RuntimeError):
    """A library is missing or of a version that cannot work; ``qmml doctor`` tells more."""
