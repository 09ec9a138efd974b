"""Write jaxprof/selftest.json: a small problem and its solution, without jaxprof.

Closed forms and general solvers only: the integral of a power law and the roots of the score with
mpmath, Gaussian point-spread functions of boxes by error functions on a flat sky, and the joint
minimum by scipy's trust region with exact derivatives. Run it from the root of the repository:

    python benchmarks/selftest_reference.py
"""

import json
from pathlib import Path

import mpmath
import numpy as np
from scipy.optimize import minimize
from scipy.special import erf

PROBLEM = {
    "pixel": 0.1,  # deg
    "shape": [9, 15],  # pixels in latitude, longitude
    "energy_edges": [1.0, 2.0, 4.0, 8.0],  # TeV
    "group_edges": [1.0, 4.0, 8.0],
    "index": 2.3,
    "amplitude": 1e-12,  # cm-2 s-1 TeV-1 at 1 TeV
    "exposure": 2e14,  # cm2 s
    "background": [0.6, 0.3, 0.1],  # counts per pixel
    "psf_sigma": 0.1,  # deg
    "n_boxes": 5,  # along the longitude, from l = 0.75 to -0.75 deg
    "height": 0.5,  # deg
}
TRUTH = [0.5, 1.0, 3.0, 1.0, 0.6]
mpmath.mp.dps = 40


def geometry():
    """Pixel edges [deg], in latitude and in longitude, which decreases; box of each pixel."""
    ny, nx = PROBLEM["shape"]
    lat = (np.arange(ny + 1) - ny / 2) * PROBLEM["pixel"]
    lon = -(np.arange(nx + 1) - nx / 2) * PROBLEM["pixel"]
    rows = np.abs(0.5 * (lat[1:] + lat[:-1])) < PROBLEM["height"] / 2
    box = np.where(rows[:, None], np.arange(nx) // (nx // PROBLEM["n_boxes"]), -1)
    return lat, lon, box


def reference_counts():
    """Counts of a bin at norm one in each energy."""
    gamma = mpmath.mpf(str(PROBLEM["index"]))
    edges = [mpmath.mpf(edge) for edge in PROBLEM["energy_edges"]]
    scale = mpmath.mpf(PROBLEM["amplitude"]) * PROBLEM["exposure"] / (1 - gamma)
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return [scale * (high ** (1 - gamma) - low ** (1 - gamma)) for low, high in pairs]


def share(low, high, edges):
    """Mean over an even segment of a Gaussian's integral over each pixel."""
    sigma = PROBLEM["psf_sigma"]

    def first(x):  # integral of the cumulative distribution
        z = x / sigma
        return sigma * (
            0.5 * z * (1 + erf(z / np.sqrt(2))) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        )

    cumulated = (first(edges - low) - first(edges - high)) / (high - low)
    return np.abs(np.diff(cumulated))


def templates():
    """Expected counts per pixel at norm one, (boxes, energies, latitude, longitude)."""
    lat, lon, _ = geometry()
    across = share(-PROBLEM["height"] / 2, PROBLEM["height"] / 2, lat)
    ends = np.linspace(lon[0], lon[-1], PROBLEM["n_boxes"] + 1)
    along = [share(low, high, lon) for high, low in zip(ends[:-1], ends[1:], strict=True)]
    counts = np.array([float(n) for n in reference_counts()])
    return np.einsum("bx,y,e->beyx", along, across, counts)


def groups():
    """Energies of each group."""
    edges = PROBLEM["energy_edges"]
    at = [edges.index(edge) for edge in PROBLEM["group_edges"]]
    return [slice(low, high) for low, high in zip(at[:-1], at[1:], strict=True)]


def separate(counts):
    """Each box and group by itself: roots of the score, with 40 digits."""
    _, _, box = geometry()
    signal = reference_counts()
    found = {"norm": [], "norm_err": [], "norm_ul": [], "ts": []}
    for b in range(PROBLEM["n_boxes"]):
        rows = {name: [] for name in found}
        for group in groups():
            n = [mpmath.mpf(int(c[box == b].sum())) for c in counts[group]]
            back = [mpmath.mpf(str(v)) * int((box == b).sum()) for v in PROBLEM["background"]]
            bins = list(zip(n, back[group], signal[group], strict=True))

            def stat(x, bins=bins):
                return 2 * mpmath.fsum(b + x * s - n * mpmath.log(b + x * s) for n, b, s in bins)

            def score(x, bins=bins):
                return mpmath.fsum(s * (1 - n / (b + x * s)) for n, b, s in bins)

            start = mpmath.fsum(n - b for n, b, _ in bins) / mpmath.fsum(s for *_, s in bins)
            x = mpmath.findroot(score, start)
            curvature = mpmath.fsum(n * s**2 / (b + x * s) ** 2 for n, b, s in bins)
            err = 1 / mpmath.sqrt(curvature)
            upper = mpmath.findroot(
                lambda v, x=x, stat=stat: stat(v) - stat(x) - 4, (x + err, x + 4 * err), "anderson"
            )
            ts = stat(mpmath.mpf(0)) - stat(x)
            for name, value in zip(found, (x, err, upper, ts), strict=True):
                rows[name].append(float(value))
        for name, values in rows.items():
            found[name].append(values)
    return found


def joint(counts):
    """All boxes of a group together, by the pixels of the boxes."""
    _, _, box = geometry()
    inside, shapes = box >= 0, templates()
    norms, errors = [], []
    for group in groups():
        n = counts[group][:, inside].ravel()
        back = np.repeat(PROBLEM["background"][group], inside.sum())
        a = shapes[:, group][:, :, inside].reshape(PROBLEM["n_boxes"], -1)

        def value(x, n=n, back=back, a=a):
            mu = back + x @ a
            return np.sum(mu - n * np.log(mu)) if np.all(mu > 0) else np.inf

        def gradient(x, n=n, back=back, a=a):
            return a @ (1 - n / (back + x @ a))

        def hessian(x, n=n, back=back, a=a):
            return (a * (n / (back + x @ a) ** 2)) @ a.T

        x = minimize(
            value, np.ones(len(a)), jac=gradient, hess=hessian, method="trust-exact", tol=1e-10
        ).x
        for _ in range(5):  # Newton steps to the last digits
            x = x - np.linalg.solve(hessian(x), gradient(x))
        assert np.all(back + x @ a > 0) and np.abs(gradient(x)).max() < 1e-9
        norms.append(x)
        errors.append(np.sqrt(np.diag(np.linalg.inv(hessian(x)))))
    return {"norm": np.transpose(norms).tolist(), "norm_err": np.transpose(errors).tolist()}


def main():
    """Draw the counts, solve, write."""
    back = np.array(PROBLEM["background"])[:, None, None]
    expected = back + np.einsum("b,beyx->eyx", TRUTH, templates())
    counts = np.random.default_rng(1).poisson(expected)
    content = {
        "made": "benchmarks/selftest_reference.py, with mpmath "
        f"{mpmath.__version__}: {__doc__.split(chr(10) * 2)[1]}".replace("\n", " "),
        "problem": PROBLEM,
        "counts": counts.tolist(),
        "separate": separate(counts),
        "joint": joint(counts),
    }
    path = Path(__file__).parent.parent / "jaxprof" / "selftest.json"
    path.write_text(json.dumps(content) + "\n")
    print(path, json.dumps(content["separate"]), json.dumps(content["joint"]), sep="\n")


if __name__ == "__main__":
    main()
