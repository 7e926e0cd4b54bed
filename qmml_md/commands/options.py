"""Arguments and options of the command line, with their help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration file (YAML).", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)]
SeriesFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run directories.", show_default=False)
]

ForcesEvery = Annotated[
    int | None, typer.Option(metavar="N", help="Forces on one stored frame in N; energies on every one.")
]
Thorough = Annotated[
    bool, typer.Option("--thorough", help="Probe the gradient of large systems too, of more frames, and closed loops.")
]
TimestepScan = Annotated[bool, typer.Option("--timestep-scan", help="Run a short stretch again at dt, dt/2 and dt/4.")]
SpotChecks = Annotated[
    int, typer.Option(metavar="N", help="Quantum labels at N random places: an unbiased force error.")
]
Trajectory = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Audit another program's trajectory: H5MD, extended XYZ, or DCD and CSV."),
]
Weights = Annotated[str | None, typer.Option(metavar="NAME", help="With --trajectory: the model to hold it to.")]
Topology = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --trajectory: structure file of the same atoms.")
]
Units = Annotated[
    list[str] | None,
    typer.Option(metavar="QUANTITY=UNIT", help="With --trajectory: units that the files leave open."),
]
SpacingFs = Annotated[float | None, typer.Option(metavar="FS", help="With --trajectory: time between frames.")]
Sampled = Annotated[
    Literal["nve", "nvt"] | None, typer.Option(help="With --trajectory: what it sampled.", show_default=False)
]
MaxWall = Annotated[
    str | None,
    typer.Option(
        "--max-wall",
        metavar="TIME",
        help="Stop resumably within this wall-clock time: HH:MM:SS, or a number with s, m, h or d.",
    ),
]
AuditFolder = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="With --trajectory: for audit.json.")
]
