"""The wheel that holds the published weights ANI-1x and ANI-1ccx: fetched with pip, checked against a hash, unpacked.

Nothing of it is installed or run: its numbers are read as text and as plain binary arrays.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from ..errors import WeightsError

WHEEL = "torchani==2.0"
WHEEL_SHA256 = "87db70affc847c3aa26081607166580a6e6b01f33e09218e2c5b26f66b45ed89"
FETCH_TIMEOUT_S = 900
#: Where the weights lie in the wheel, and what they unpack to at most, bytes: there are 95 MB of them.
RESOURCES, MOST_UNPACKED_BYTES = "torchani/resources/", 512 * 1024**2
_DO_NOT = "fetch it again; if it happens again, the index or a proxy is serving another file: do not use it"


def download_wheel(folder: Path) -> Path:
    """Fetch the wheel that holds ANI-1x and ANI-1ccx with the user's own pip, and check its hash.

    Raises:
        WeightsError: pip cannot fetch it, or what came is not what was published.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)  # noqa: S603
    except (subprocess.SubprocessError, OSError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise WeightsError(
            f"the wheel {WHEEL}, which holds the weights, could not be fetched: {' '.join(detail)}",
            cure="check that `pip download torchani==2.0 --no-deps` works here; or run `qmml weights fetch ani1x` on a "
            f"machine with a network and copy its cache folder to {user_cache_path('qmml-md')} (or $QMML_CACHE)",
        ) from error
    wheels = list(folder.glob("torchani-2.0-*.whl"))
    if len(wheels) != 1:
        raise WeightsError(
            f"pip fetched {len(wheels)} wheels for {WHEEL}", cure="check the index that pip is set up with"
        )
    check_hash(wheels[0], WHEEL_SHA256)
    return wheels[0]


def check_hash(path: Path, expected: str) -> None:
    """Compare the SHA-256 of a file with what it must be.

    Raises:
        WeightsError: they differ.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise WeightsError(
            f"{path.name} has SHA-256 {found}, expected {expected}: this is not the file that was published",
            cure=_DO_NOT,
        )


def unpack(wheel: Path, folder: Path) -> Path:
    """Unpack the resources of the wheel.

    Args:
        wheel: as fetched.
        folder: to put them in.

    Returns:
        The folder of the resources.

    Raises:
        WeightsError: it is no wheel, unpacks to more than ``MOST_UNPACKED_BYTES``, or a name in it steps up.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = [about for about in archive.infolist() if about.filename.startswith(RESOURCES)]
            if sum(about.file_size for about in chosen) > MOST_UNPACKED_BYTES or any(
                ".." in PurePosixPath(about.filename).parts for about in chosen
            ):
                raise WeightsError(f"{wheel.name} holds more than weights, or files that lie elsewhere", cure=_DO_NOT)
            for about in chosen:
                if not about.is_dir():
                    target = folder / about.filename
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(about))
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{wheel.name} is no wheel: {error}", cure=_DO_NOT) from error
    return folder / RESOURCES
