"""The run configuration: one YAML file, checked by pydantic, units in the key names, unknown keys refused.

The models here are the single source of the config reference (``docs/config.md``), of the JSON schema
(``qmml template --schema``) and of the template (``qmml template``). Reading files and naming lines is in
``config_file.py``.
"""

from .dynamics import THERMOSTATS, Dynamics, Ensemble
from .learning import Learning
from .output import Audit, Output
from .reference import Reference
from .region import Region
from .system import System
from .whole import Config

__all__ = [
    "THERMOSTATS",
    "Audit",
    "Config",
    "Dynamics",
    "Ensemble",
    "Learning",
    "Output",
    "Reference",
    "Region",
    "System",
]
