"""The command ``qmml``. Each command imports what it needs when it is called, so that ``qmml --help`` is at once."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import __version__
from .commands.options import (
    AuditFolder,
    ConfigFile,
    ForcesEvery,
    MaxWall,
    RunFolder,
    Sampled,
    SeriesFolder,
    SpacingFs,
    SpotChecks,
    Thorough,
    TimestepScan,
    Topology,
    Trajectory,
    Units,
    Weights,
)
from .commands.weights_app import weights_app

app = typer.Typer(
    name="qmml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Molecular dynamics with an adaptive QM/ML region, learning in the loop, and an audit of the energy books.",
)
app.add_typer(weights_app, name="weights")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors become one screen with cause and cure.

    Args:
        argv: arguments after the program's name; by default those of the process.

    Returns:
        0 done, 1 a check failed, 2 an error with a cure or wrong usage, 70 a defect of this program,
        75 stopped and resumable (a signal, the wall-clock limit, a full disk), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    logging.getLogger().addFilter(_is_news)
    try:
        return _invoke([a for a in arguments if a != "--debug"])
    except BrokenPipeError:  # whoever read our output has seen enough, as in `qmml template | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        from .commands.failure import show_failure

        return show_failure(error)


def _invoke(arguments: list[str]) -> int:
    """Run typer and make sure that what was printed arrived."""
    try:
        app(args=arguments, prog_name="qmml")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    sys.stdout.flush()
    return code


def _is_news(record: logging.LogRecord) -> bool:
    """Keep back what openmmtorch causes on every start: it imports OpenMM under its old name, which complains."""
    return "importing 'simtk.openmm' is deprecated" not in record.getMessage()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qmml-md {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the command; ``main`` takes ``--debug`` out wherever it stands."""


@app.command()
def run(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="Configuration file (YAML); not needed with --from.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="New run directory; by default `run` beside CONFIG."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN@STEP",
            help="Begin at the frame of that step of another run, on its final model and with its labels; without "
            "CONFIG, run the steps that it had left.",
        ),
    ] = None,
    max_wall: MaxWall = None,
) -> None:
    """Run CONFIG, then audit the run with its final model and write the report."""
    from .commands.runs import run_config, run_from

    if origin is not None:
        raise typer.Exit(run_from(origin, config, out, max_wall=max_wall))
    if config is None:
        raise typer.BadParameter("give a configuration, or --from RUN@STEP", param_hint="CONFIG")
    raise typer.Exit(run_config(config, out, max_wall=max_wall))


@app.command()
def resume(
    run: RunFolder,
    max_wall: MaxWall = None,
    platform: Annotated[
        Literal["Reference", "CPU", "CUDA"] | None,
        typer.Option(help="Go on with another OpenMM platform; the restart is not exact then.", show_default=False),
    ] = None,
) -> None:
    """Continue RUN from its last commit, then audit it."""
    from .commands.runs import resume_run

    raise typer.Exit(resume_run(run, max_wall=max_wall, platform=platform))


@app.command()
def check(run: RunFolder) -> None:
    """Verify every hash of RUN and say what is whole. Exit 0 if everything is, 1 if something is damaged."""
    from .commands.check import check_run

    raise typer.Exit(check_run(run))


@app.command()
def status(run: RunFolder) -> None:
    """Show where RUN stands: steps, region, labels, updates, ledger, where the time went."""
    from .commands.status import show_status

    show_status(run)


@app.command()
def audit(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run directory; not with --trajectory.", show_default=False)
    ] = None,
    forces_every: ForcesEvery = None,
    thorough: Thorough = False,
    timestep_scan: TimestepScan = False,
    spot_checks: SpotChecks = 0,
    trajectory: Trajectory = None,
    weights: Weights = None,
    topology: Topology = None,
    unit: Units = None,
    spacing_fs: SpacingFs = None,
    ensemble: Sampled = None,
    out: AuditFolder = None,
) -> None:
    """Re-evaluate RUN with its final model and write audit.json and the report. Exit 0 pass, 1 fail, 2 undecided."""
    if trajectory:
        if run is not None or weights is None:
            raise typer.BadParameter("give --weights, and no RUN", param_hint="--trajectory")
        from .commands.foreign import audit_trajectory

        raise typer.Exit(
            audit_trajectory(
                trajectory,
                weights=weights,
                topology=topology,
                units=unit or (),
                spacing_fs=spacing_fs,
                ensemble=ensemble,
                out=out,
            )
        )
    if run is None:
        raise typer.BadParameter("give a run directory, or --trajectory FILE", param_hint="RUN")
    from .commands.audit import Wishes, audit_run

    wishes = Wishes(forces_every=forces_every, thorough=thorough, timestep_scan=timestep_scan, spot_checks=spot_checks)
    raise typer.Exit(audit_run(run, wishes))


@app.command()
def report(run: RunFolder) -> None:
    """Write the HTML report of RUN from its last audit."""
    from .commands.runs import report_run

    report_run(run)


@app.command()
def export(
    run: RunFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Ends in .xtc, .dcd, .pdb, .h5 or .extxyz.", show_default=False)
    ],
) -> None:
    """Write the trajectory of RUN to FILE; extended XYZ also carries forces, disagreement and the region."""
    from .commands.runs import export_run

    export_run(run, file)


@app.command()
def validate(
    config: ConfigFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Also read the structure and estimate what labels would cost.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="Run directory to check; by default `run` beside CONFIG."),
    ] = None,
) -> None:
    """Name the line and field of every mistake in CONFIG."""
    from .commands.validate import validate_config

    validate_config(config, dry_run=dry_run, out=out)


@app.command()
def template(
    name: Annotated[Literal["minimal", "full"], typer.Argument(metavar="[NAME]", help="`minimal` or `full`.")] = "full",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema instead.")] = False,
) -> None:
    """Print a commented configuration."""
    from . import template as templates

    sys.stdout.write(templates.json_schema() if schema else templates.template(name))


@app.command()
def train(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="New folder for the weights; by default RUN-trained."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Most optimiser steps.")] = None,
    from_final: Annotated[bool, typer.Option("--from-final", help="Begin from the run's final model.")] = False,
    even_if_refused: Annotated[bool, typer.Option("--even-if-refused", help="Write refused weights too.")] = False,
) -> None:
    """Train on all labels of RUN outside it. Exit 0 when the gate accepts the weights, 1 when it refuses them."""
    from .commands.train import train_run

    raise typer.Exit(train_run(run, out=out, epochs=epochs, from_final=from_final, even_if_refused=even_if_refused))


@app.command()
def learn(
    config: ConfigFile,
    rounds: Annotated[int, typer.Option(metavar="R", help="Most rounds.", show_default=False)],
    out: SeriesFolder,
) -> None:
    """Run CONFIG, audit, and run again on the final model, until the audit passes. Exit 0 pass, 1 fail, 2 undecided."""
    from .commands.learn import learn as learn_in_rounds

    raise typer.Exit(learn_in_rounds(config, rounds=rounds, out=out))


@app.command()
def controls(config: ConfigFile, out: SeriesFolder) -> None:
    """Run CONFIG and, with as many labels, without re-training, with a single member, and with random labels."""
    from .commands.controls import run_controls

    raise typer.Exit(run_controls(config, out=out))


@app.command()
def doctor() -> None:
    """Check the installation and say how to mend it. Exit 1 if anything would keep a run from working."""
    from .doctor import show_diagnosis

    raise typer.Exit(show_diagnosis())
