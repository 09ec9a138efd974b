"""The self-test agrees with its reference, and notices when it does not."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from jaxprof import selftest

KINDS = {"per region": "separate", "forward-folded": "joint"}


def stored(reference):
    """What profiles that agree to the last digit have."""
    return {kind: SimpleNamespace(**reference[name]) for kind, name in KINDS.items()}


def wrong(rows):
    return [name for name, difference, limit, _ in rows if not difference <= limit]


def test_each_number_that_is_changed_is_noticed():
    reference = selftest.read_reference()
    profiles = stored(copy.deepcopy(reference))
    assert wrong(selftest.compare(profiles, reference)) == []
    n = 0
    for kind, section in KINDS.items():
        for name, values in reference[section].items():
            for bin_, row in enumerate(values):
                for group in range(len(row)):
                    for changed in (1.01 * row[group], np.nan):
                        other = copy.deepcopy(reference)
                        other[section][name][bin_][group] = changed
                        assert f"{kind}: {name}" in wrong(selftest.compare(profiles, other))
                        n += 1
    assert n == 2 * 6 * 10


@pytest.mark.slow
def test_exit_code(monkeypatch, capsys):
    assert selftest.main() == 0
    printed = capsys.readouterr().out
    assert printed.count(": ok") == 6 and "WRONG" not in printed and "device: " in printed
    other = selftest.read_reference()
    other["counts"][0][4][7] += 1
    monkeypatch.setattr(selftest, "read_reference", lambda: other)
    assert selftest.main() == 1
    printed = capsys.readouterr().out
    assert printed.count("WRONG") >= 6


def test_the_solution_solves_the_problem():
    """The stored norms are where the score vanishes, computed here once more by numpy alone."""
    reference = selftest.read_reference()
    problem, counts = reference["problem"], np.array(reference["counts"])
    edges, gamma = np.array(problem["energy_edges"]), problem["index"]
    integral = -np.diff(edges ** (1 - gamma)) / (gamma - 1)
    signal = problem["amplitude"] * problem["exposure"] * integral
    boxes = counts[:, 2:7].reshape(3, 5, 5, 3).sum(axis=(1, 3)).T
    background = 15 * np.array(problem["background"])
    norm = np.array(reference["separate"]["norm"])
    for group, energies in enumerate((slice(0, 2), slice(2, 3))):
        mu = background[energies] + norm[:, [group]] * signal[energies]
        score = np.sum(signal[energies] * (1 - boxes[:, energies] / mu), axis=1)
        np.testing.assert_allclose(score, 0, atol=1e-10 * signal.sum())
