"""The commands of ``jaxprof``.

Exit codes: 0, all is well; 1, the configuration or the data are wrong, or a file exists; 2, wrong
usage; 3, all is written, but some bins have no estimate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import matplotlib
import matplotlib.pyplot as plt

import jaxprof
from jaxprof.cli.config import load_config
from jaxprof.cli.figures import image
from jaxprof.cli.initial import initial_config
from jaxprof.cli.messages import Log, in_options
from jaxprof.cli.run import in_folder, run
from jaxprof.io.kinds import read_dataset, read_file
from jaxprof.io.paths import known_extension, stem
from jaxprof.io.textfile import write_bytes
from jaxprof.io.texttable import TEXT
from jaxprof.profile import FluxProfile
from jaxprof.profile.html import profile_rows
from jaxprof.profile.quantities import UNITS
from jaxprof.sky.regions import AXES

_SED_TYPES = (*UNITS, "likelihood")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace files that exist.")
_quiet = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
_file = click.argument("path", metavar="FILE", type=click.Path())


def _sed_type(**options: Any) -> Callable[[Any], Any]:
    return click.option("--sed-type", type=click.Choice(_SED_TYPES), **options)


def _errors_said(command: Callable[..., None]) -> Callable[..., None]:
    """Errors of values and files, one a line, and exit code 1."""

    @wraps(command)
    def wrapped(**arguments: Any) -> None:
        try:
            command(**arguments)
        except BrokenPipeError:
            # Whoever reads our output has enough of it, such as `head`; click ends quietly then.
            raise
        except (ValueError, OSError) as error:
            for line in in_options(str(error) or type(error).__name__).splitlines():
                click.echo(f"jaxprof: error: {line}", err=True)
            raise SystemExit(1) from None

    return wrapped


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0, all is well; 1, the configuration or the data are wrong, or a file "
    "exists; 2, wrong usage; 3, all is written, but some bins have no estimate.",
)
@click.version_option(jaxprof.__version__, prog_name="jaxprof")
def app() -> None:
    """Flux profiles of gamma-ray data."""
    # Figures go into files: no display is needed.
    matplotlib.use("Agg")


@app.command("profile")
@click.argument("config", metavar="CONFIG", type=click.Path())
@click.option("--output", "-o", metavar="FOLDER", help="Write there, not where CONFIG says.")
@_overwrite
@_quiet
@click.option("--progress", is_flag=True, help="Say when each step begins and what it took.")
@_errors_said
def profile_command(
    config: str, output: str | None, overwrite: bool, quiet: bool, progress: bool
) -> None:
    """Make the profile that a CONFIG file describes.

    Writes the profile, its figures, a report, the configuration and the provenance, and prints
    their paths.
    """
    loaded = in_folder(load_config(config), output)
    log = Log(quiet=quiet, progress=progress and not quiet)
    written, code = run(loaded, log, overwrite=overwrite)
    for path in written:
        click.echo(path)
    raise SystemExit(code)


@app.command("init")
@_file
@click.option("--output", "-o", metavar="CONFIG", help="Write there, not to the terminal.")
@_overwrite
@_quiet
@_errors_said
def init_command(path: str, output: str | None, overwrite: bool, quiet: bool) -> None:
    """Propose a configuration for the dataset in FILE, with a comment for each key."""
    with Log(quiet=quiet).collected():
        dataset = _read(path, read_dataset)
    named = path
    if output is not None and not os.path.isabs(os.path.expandvars(os.path.expanduser(path))):
        # The configuration's paths are relative to itself.
        named = os.path.relpath(path, os.path.dirname(output) or ".")
    text = initial_config(dataset, named)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_bytes(output, text.encode(), overwrite=overwrite)
        click.echo(output)


@app.command("info")
@_file
@_errors_said
def info_command(path: str) -> None:
    """Say what is in FILE, a profile or a dataset."""
    with Log().collected():
        found = _read(path, read_file)
        click.echo(str(found))
        if isinstance(found, FluxProfile):
            heads, rows = profile_rows(found, _flux(found))
            widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
            for row in (heads, *rows):
                cells = (text.rjust(width) for text, width in zip(row, widths, strict=True))
                click.echo("  ".join(cells))


@app.command("plot")
@_file
@_sed_type(help="What to draw; by default what the file is for, or flux.")
@click.option(
    "--axis",
    type=click.Choice(["distance", "energy", *AXES]),
    default="distance",
    show_default=True,
    help="What the points lie along.",
)
@click.option("--group", type=int, metavar="N", help="One energy group, counted from 0.")
@click.option("--scan", is_flag=True, help="Draw the likelihood scans as well (of one --group).")
@click.option("--output", "-o", metavar="IMAGE", help="PNG, PDF or SVG; FILE_flux.png by default.")
@_overwrite
@_errors_said
def plot_command(
    path: str,
    sed_type: str | None,
    axis: str,
    group: int | None,
    scan: bool,
    output: str | None,
    overwrite: bool,
) -> None:
    """Draw the profile in FILE."""
    with Log().collected():
        profile = _profile(path)
        n_groups = len(profile.energy_edges)
        if group is not None:
            if not 0 <= group < n_groups:
                raise ValueError(f"--group {group}: there are {n_groups}, counted from 0")
            profile = profile.slice_by_idx({"energy": [group]})
        elif scan and n_groups > 1:
            raise ValueError(f"--scan: the file has {n_groups} energy groups; choose a --group")
        shown = sed_type or _flux(profile)
        if output is None:
            output = f"{stem(Path(path).name)}_{shown}.png"
        kind = known_extension(output, (".png", ".pdf", ".svg"))[1:]
        figure, ax = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
        along = "projected-distance" if axis == "distance" else axis
        profile.plot(ax=ax, sed_type=shown, axis_name=along)
        if scan:
            profile.plot_ts_profiles(ax=ax, sed_type=shown)
        write_bytes(output, image(figure, kind), overwrite=overwrite)
        plt.close(figure)
    click.echo(output)


@app.command("convert")
@_file
@click.argument("output", metavar="OUTPUT", type=click.Path())
@_sed_type(help="What norms are written as.")
@_overwrite
@_errors_said
def convert_command(path: str, output: str, sed_type: str | None, overwrite: bool) -> None:
    """Write the profile in FILE as OUTPUT: .fits, .fits.gz, .ecsv, .csv, .txt or .tex.

    Text has a row for each bin and energy group: .csv and .txt with all columns, .tex as a table
    for a paper, in LaTeX (value with errors or limit, and significance).
    """
    with Log().collected():
        profile = _profile(path)
        ending = known_extension(output, (".fits", ".fits.gz", ".ecsv", *TEXT))
        # Other files keep what the profile itself says.
        default = _flux(profile) if ending in TEXT else None
        profile.write(output, sed_type=sed_type or default, overwrite=overwrite)
    click.echo(output)


def _read(path: str, read: Callable[[str], Any]) -> Any:
    """What a file of data holds; a configuration is none."""
    if path.lower().endswith((".yaml", ".yml")):
        raise ValueError(
            f"{path}: a configuration, no file of data; `jaxprof profile {path}` makes the profile "
            "that it describes"
        )
    return read(path)


def _profile(path: str) -> FluxProfile:
    found = _read(path, read_file)
    if not isinstance(found, FluxProfile):
        raise ValueError(
            f"{path}: a dataset, not a flux profile; `jaxprof init` writes a configuration for it, "
            "with which `jaxprof profile` makes one"
        )
    return found


def _flux(profile: FluxProfile) -> str:
    return "flux" if profile.sed_type_init == "likelihood" else profile.sed_type_init
