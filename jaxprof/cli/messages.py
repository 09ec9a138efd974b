"""What the command line says: logs and warnings on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import click

from jaxprof.cli.sections import Estimator

_KEYS = frozenset(Estimator.model_fields)


# What configurations cannot say, or say otherwise.
_PHRASES = {
    "overwrite=True replaces it": "--overwrite replaces it",
    "Give template=[...] with a PointSpatialModel or a map for such bins, or the point as "
    "sources=[SkyModel(..., free=True)]": "Give the point as one of the sources, with free: true",
    "jaxprof.plotting.plot_regions draws them on a map": "`jaxprof info` tells where the map is",
    "are in profile.nuisance": "are in the nuisance parameters of the file",
}
_ESTIMATORS = {
    "ForwardFoldingProfileEstimator": "type: forward-folded",
    "FluxProfileEstimator": "type: per-region",
}
# Not names of files, nor what is in quotes.
_ALONE = r"""(?<![\w/\\.'"=-])"""
_ENDS = r"""(?![\w/\\'"-]|\.\w)"""
_OPTION = re.compile(
    _ALONE + r"""(\w+)=(?:("[^"]*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|True|False|None"""
    r"""|-?\d[\d.]*(?<!\.)(?:e[+-]?\d+)?)""" + _ENDS + r"|(?=\s|$))"
)
_ESTIMATOR = re.compile(_ALONE + rf"({'|'.join(_ESTIMATORS)})" + _ENDS)
_WORDS = {"True": "true", "False": "false", "None": "null"}


def in_options(text: str) -> str:
    """A message with the words of configurations and options, not of Python."""
    for python, words in _PHRASES.items():
        text = text.replace(python, words)
    text = _ESTIMATOR.sub(lambda found: _ESTIMATORS[found[1]], text)

    def key(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in _KEYS:
            return found.group()
        if value is None or "(" in value or "..." in value:  # objects, or what is left open
            return name
        value = _WORDS.get(value, value)
        for quote in ('"', "'"):
            value = value.replace(quote, "")
        return f"{name}: {value}"

    return _OPTION.sub(key, text)


@dataclass
class Log:
    """Steps and warnings of a run.

    Attributes
    ----------
    quiet : bool
        Whether nothing but errors is said.
    progress : bool
        Whether each step says when it begins, and how long it took.
    warnings : list of str
        Texts of the warnings so far, each once.
    """

    quiet: bool = False
    progress: bool = False
    warnings: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Write a line to stderr."""
        if not self.quiet:
            click.echo(f"jaxprof: {text}", err=True)

    @contextlib.contextmanager
    def step(self, number: int, total: int, text: str) -> Iterator[None]:
        """One step of a run; warnings within are said and kept."""
        start = time.perf_counter()
        if self.progress:
            self.say(f"[{number}/{total}] {text} ...")
        with self.collected():
            yield
        if self.progress:
            self.say(f"[{number}/{total}] {text}: {time.perf_counter() - start:.1f} s")

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Warnings within are said in one line each, and kept; other than the user's are not."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            finally:
                for warning in caught:
                    text = in_options(" ".join(str(warning.message).split()))
                    if issubclass(warning.category, UserWarning) and text not in self.warnings:
                        self.warnings.append(text)
                        self.say(f"warning: {text}")
