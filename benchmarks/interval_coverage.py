"""Coverage of the intervals of every kind, by sums over all counts: a table and a figure for docs/.

    python benchmarks/interval_coverage.py [--output docs]

For each expected signal the probabilities of all counts whose interval holds it are added up, so
that there is no noise. On-Off counts are pairs of ON and OFF counts. Their Feldman-Cousins
intervals take toys, minutes for thousands of pairs: what toys would draw is summed here instead.
"""

import argparse
import time
from pathlib import Path

import jax
import matplotlib
import numpy as np
from scipy.stats import poisson

import jaxprof
from jaxprof.core import wstat
from jaxprof.likelihood.arrays import separate_counts
from jaxprof.likelihood.data import OnOffData, ProfileData
from jaxprof.likelihood.statistics import wstat_rates

CL = 0.9
SIGNALS = np.geomspace(0.1, 100.0, 121)
TABLE = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
BACKGROUND, ALPHA = 3.0, 0.2
KINDS = ("profile", "one-sided", "bounded", "feldman-cousins", "cls", "bayesian")


def known_background(background):
    """All counts that matter, and the probability of each for each signal, (N, V)."""
    counts = np.arange(0.0, 175.0)
    shape = (len(counts), 1, 1)
    data = ProfileData(
        counts=counts.reshape(shape),
        background=np.full(shape, background),
        npred_ref=np.ones(shape),
    )
    return data, poisson.pmf(counts[:, None], SIGNALS + background)


def on_off():
    """The same of pairs, whose probability is not negligible for some signal."""
    on, off = np.meshgrid(np.arange(0.0, 175.0), np.arange(0.0, 40.0), indexing="ij")
    weight = poisson.pmf(on.reshape(-1, 1), SIGNALS + BACKGROUND)
    weight *= poisson.pmf(off.reshape(-1, 1), BACKGROUND / ALPHA)
    kept = weight.max(axis=1) > 1e-7
    shape = (int(kept.sum()), 1, 1)
    data = OnOffData(
        n_on=on.ravel()[kept].reshape(shape),
        n_off=off.ravel()[kept].reshape(shape),
        alpha=np.full(shape, ALPHA),
        npred_ref=np.ones(shape),
    )
    return data, weight[kept]


def coverage(data, weight, kind):
    """Coverage for each signal."""
    if kind == "feldman-cousins" and isinstance(data, OnOffData):
        return np.array(
            [unified_on_off(data, *each) for each in zip(SIGNALS, weight.T, strict=True)]
        )
    likelihood = separate_counts(data)
    found = jaxprof.intervals(likelihood, kind=kind, cl=CL)
    low, high = (np.asarray(end)[:, 0, 0] if np.ndim(end) > 2 else np.asarray(end)[:, 0]
                 for end in (found.low, found.high))  # fmt: skip
    # Errors that do not exist hold everything on their side.
    low = np.where(np.isnan(low), -np.inf, low)[:, None]
    inside = (low <= SIGNALS) & (SIGNALS <= high[:, None] * (1 + 1e-12))
    return np.sum(weight * inside, axis=0) / np.sum(weight, axis=0)


def unified_on_off(data, signal, weight):
    """Coverage of Feldman-Cousins intervals of pairs at one signal.

    OFF rates are as the data have them. A pair holds the signal unless pairs as unlikely, by the
    likelihood ratio with the best signal that is not negative, have a probability below ``1 - CL``
    at its own OFF rate for that signal.
    """
    on, off = np.asarray(data.n_on).ravel(), np.asarray(data.n_off).ravel()
    best = np.maximum(on - ALPHA * off, 0.0)
    ratio = np.asarray(wstat(on, off, ALPHA, signal) - wstat(on, off, ALPHA, best))
    own = np.flatnonzero(weight > 1e-6 * weight.max())
    rate = np.asarray(wstat_rates(on[own], off[own], ALPHA, signal)[0])[:, None]
    chances = poisson.pmf(np.arange(on.max() + 1), signal + ALPHA * rate)[:, on.astype(int)]
    chances *= poisson.pmf(np.arange(off.max() + 1), rate)[:, off.astype(int)]
    as_unlikely = ratio >= ratio[own, None] - 1e-9
    inside = np.sum(chances * as_unlikely, axis=1) > 1.0 - CL
    return np.sum(weight[own] * inside) / np.sum(weight)


def main():
    """Write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    output = parser.parse_args().output
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    start = time.time()
    cases = {
        "no background": known_background(0.0),
        f"background {BACKGROUND:g}, known": known_background(BACKGROUND),
        f"On-Off, background {BACKGROUND:g}, alpha {ALPHA:g}": on_off(),
    }
    figure, axes = plt.subplots(3, 1, figsize=(7, 9), sharex=True, layout="constrained")
    lines = ["| data | kind | " + " | ".join(f"{s:g}" for s in TABLE) + " |"]
    lines.append("|---" * (len(TABLE) + 2) + "|")
    at = [int(np.argmin(np.abs(np.log(SIGNALS / s)))) for s in TABLE]
    with jax.enable_x64(True):
        for ax, (name, case) in zip(axes, cases.items(), strict=True):
            for number, kind in enumerate(KINDS):
                found = coverage(*case, kind)
                ax.semilogx(SIGNALS, found, label=kind, color=f"C{number}", lw=1.2)
                row = " | ".join(f"{found[i]:.3f}" for i in at)
                lines.append(f"| {name} | {kind} | {row} |")
            ax.axhline(CL, color="k", lw=0.8, ls=":")
            ax.set(title=name, ylabel=f"Coverage at a level of {CL:g}", ylim=(0.5, 1.01))
    axes[-1].set_xlabel("Expected signal counts")
    axes[0].legend(loc="lower right", ncols=2)
    figure.savefig(output / "coverage.png", dpi=150)
    text = "\n".join(lines)
    (output / "coverage.md").write_text(
        f"# Coverage at a level of {CL:g}\n\nBy `python benchmarks/interval_coverage.py`, by sums "
        "over all counts; columns are expected signal counts. Counts are whole numbers, so that "
        "coverage jumps. Feldman-Cousins intervals of On-Off data take toys: what these would draw "
        "is summed. "
        f"See [intervals](intervals.md).\n\n{text}\n\n"
        "![coverage](coverage.png)\n",
        encoding="utf-8",
    )
    print(text)
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
