"""The quantum truth: labels, the programs that compute them, and the store that never pays twice."""

import os
from pathlib import Path


def _settle_pyscf() -> None:
    """Name PySCF's configuration file before it is imported: it would run one that lies in the current folder."""
    own = Path(os.environ.get("HOME", "/")) / ".pyscf_conf.py"
    none = Path(__file__).with_name("pyscf_conf.py")
    os.environ.setdefault("PYSCF_CONFIG_FILE", str(own if own.is_file() else none))


_settle_pyscf()
