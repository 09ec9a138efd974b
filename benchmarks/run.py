"""All benchmarks side by side, as a Markdown table and figures in out/bench; `make bench`.

    python benchmarks/run.py --quick      # every benchmark, at tiny sizes

The rows of gammapy need it and its data, see `vs_gammapy.py`; those of packages that are not
installed say so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import astropy.units as u
import many_fits
import matplotlib.pyplot as plt
import vs_gammapy
from astropy.coordinates import SkyCoord
from report import markdown, where

import jaxprof
from jaxprof.simulate import simulate_galactic_centre


def boxes(n: int, dataset: Any) -> dict[str, Any]:
    """Options of either estimator: boxes along the Galactic plane."""
    regions = jaxprof.make_orthogonal_rectangle_sky_regions(
        start_pos=SkyCoord("9d", "0d", frame="galactic"),
        end_pos=SkyCoord("351d", "0d", frame="galactic"),
        wcs=dataset.counts.geom.wcs,
        height="3 deg",
        nbin=n,
    )
    model = jaxprof.PowerLawSpectralModel(index=2.3)
    return {"regions": regions, "spectral_model": model, "energy_edges": [10, 500] * u.GeV}


def row(what: str, seconds: tuple[float, float], **others: Any) -> dict[str, Any]:
    """A row of first and best times."""
    return {"what": what, **others, "first [s]": seconds[0], "best [s]": seconds[1]}


def reductions(dataset: Any, sizes: list[int], repeat: int, clock: str) -> list[dict[str, Any]]:
    """Maps to counts and templates, against the number of regions."""
    found = []
    for n in sizes:
        own = jaxprof.FluxProfileEstimator(**boxes(n, dataset))
        for what, call in (("reduce", own.reduce), ("run", own.run)):
            seconds = many_fits.timed(lambda call=call: call(dataset), repeat, clock)
            found.append(row(what, seconds, regions=n))
    return found


def toys(dataset: Any, n_toys: int, n_bins: int, clock: str) -> list[dict[str, Any]]:
    """Toys of separate fits, with and without limits."""
    likelihood = jaxprof.FluxProfileEstimator(**boxes(n_bins, dataset)).reduce(dataset)
    found = []
    for quantities in (("norm", "ts"), ("norm", "errn-errp", "ul")):

        def drawn(quantities: tuple[str, ...] = quantities) -> Any:
            toys = jaxprof.toys(likelihood, n_toys, quantities=quantities, progress=False)
            return toys.values["norm"]

        seconds = many_fits.timed(drawn, 1, clock)
        rate = {"regions": n_bins, "toys per second": n_toys / seconds[1]}
        found.append(row(", ".join(quantities), seconds, **rate))
    return found


def forward_folding(dataset: Any, n_bins: int, repeat: int, clock: str) -> list[dict[str, Any]]:
    """Forward folding by stages."""
    own = jaxprof.ForwardFoldingProfileEstimator(**boxes(n_bins, dataset))
    response = own.response(dataset)
    stages = {
        "response": lambda: own.response(dataset),
        "reduce": lambda: own.reduce(dataset, response),
        "run": lambda: own.run(dataset, response),
    }
    timed = {name: many_fits.timed(call, repeat, clock) for name, call in stages.items()}
    return [row(name, seconds, regions=n_bins) for name, seconds in timed.items()]


def beside_gammapy(repeat: int, clock: str) -> str:
    """What `vs_gammapy.py` prints, or why it cannot."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            vs_gammapy.in_one_process(repeat, 1, clock)
            vs_gammapy.whole_process(1, clock)
    except (ImportError, SystemExit) as error:
        return f"{printed.getvalue()}gammapy: not compared ({error})\n"
    return printed.getvalue()


def throughput_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Fits per second against the number of bins."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for ax, hard in zip(axes, ("no", "yes"), strict=True):
        for name in dict.fromkeys(r["what"] for r in rows):
            own = [r for r in rows if r["what"] == name and r["hard"] == hard and "fits" in r]
            if own:
                rate = [1e6 / r["us per fit"] for r in own]
                ax.loglog([r["bins"] for r in own], rate, "o-", label=name)
        ax.set_title("with hard bins" if hard == "yes" else "plain")
        ax.set_xlabel("bins")
    axes[0].set_ylabel("fits per second")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def times_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Times against the number of regions."""
    figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
    for name in dict.fromkeys(r["what"] for r in rows):
        own = [r for r in rows if r["what"] == name]
        for column, style in (("first [s]", "o:"), ("best [s]", "o-")):
            values = [r[column] for r in own]
            ax.loglog([r["regions"] for r in own], values, style, label=f"{name}, {column[:-4]}")
    ax.set_xlabel("regions")
    ax.set_ylabel("time [s]")
    ax.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run everything, print and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--clock", choices=many_fits.CLOCKS, default="wall")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--no-gammapy", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    clock, repeat = options.clock, 1 if options.quick else 5
    bins = [10, 100] if options.quick else [10, 100, 1000, 10_000, 100_000, 1_000_000]
    regions = [5, 10] if options.quick else [10, 20, 50, 100, 200, 500]
    n_toys, n_bins = (20, 5) if options.quick else (10_000, 51)

    dataset = simulate_galactic_centre(seed=0)
    fits = list(many_fits.rows(bins, repeat, clock))
    reduced = reductions(dataset, regions, repeat, clock)
    sections = {
        "Separate fits": markdown(fits),
        "From maps to profiles": markdown(reduced),
        f"{n_toys} toys": markdown(toys(dataset, n_toys, n_bins, clock)),
        "Forward folding": markdown(forward_folding(dataset, n_bins, repeat, clock)),
    }
    if not options.no_gammapy:
        sections["Beside gammapy"] = f"```\n{beside_gammapy(repeat, clock)}```\n"
    text = f"# Benchmarks ({clock} time)\n\n{where()}\n"
    text += "\n".join(f"## {title}\n\n{body}" for title, body in sections.items())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.md").write_text(text)
    throughput_figure(fits, options.out / "throughput.png")
    times_figure(reduced, options.out / "regions.png")
    print(text)
    print(f"wrote bench.md, throughput.png and regions.png to {options.out}")


if __name__ == "__main__":
    main()
