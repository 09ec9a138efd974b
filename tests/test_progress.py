"""Progress bars: shown where somebody looks, and never needed."""

import sys
from types import SimpleNamespace

import pytest

from jaxprof.progress import progress_bar


class Bar:
    made: list = []

    def __init__(self, **options):
        self.options, self.n = options, 0
        Bar.made.append(self)

    def update(self, n=1):
        self.n += n

    def close(self):
        pass


def test_bars_wait_unless_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=Bar))
    Bar.made.clear()
    progress_bar(5, "toys", " chunks").update(2)
    (bar,) = Bar.made
    assert bar.n == 2 and bar.options["total"] == 5
    assert bar.options["disable"] is None and bar.options["delay"] > 1
    progress_bar(5, "toys", " chunks", True)
    assert "delay" not in Bar.made[-1].options
    for silent in (progress_bar(5, "a", "b", False), progress_bar(1, "a", "b")):
        silent.update()
        silent.close()
    assert len(Bar.made) == 2


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    progress_bar(5, "toys", " chunks").update(2)
    with pytest.raises(ImportError, match="progress: a bar needs the package tqdm"):
        progress_bar(5, "toys", " chunks", True)
