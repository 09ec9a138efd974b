"""Warnings point at the line outside of the package that led to them."""

import ast
import types
import warnings
from pathlib import Path

import pytest

import jaxprof
from jaxprof.user_warning import warn_user

INSIDE = """
def outer(function):
    inner(function)

def inner(function):
    function("x")
"""


def module(name):
    """A module of this name with functions that call each other."""
    made = types.ModuleType(name)
    exec(compile(INSIDE, f"{name}.py", "exec"), made.__dict__)
    return made


@pytest.mark.parametrize(
    ("name", "points_here"),
    [("jaxprof", True), ("jaxprof.deep.down", True), ("jaxprofiler", False), ("other", False)],
)
def test_frames_of_the_package_are_passed_over(name, points_here):
    with pytest.warns(UserWarning, match="^x$") as record:
        module(name).outer(warn_user)
    assert [Path(w.filename).name for w in record] == [
        Path(__file__).name if points_here else f"{name}.py"
    ]


def test_line_is_that_of_the_call():
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        first = test_line_is_that_of_the_call.__code__.co_firstlineno
        warn_user("here")
        module("jaxprof.a").outer(warn_user)
    assert [w.lineno - first for w in record] == [4, 5]


def test_package_warns_in_one_way_only():
    """A count of frames by hand is wrong as soon as a call is moved."""
    root = Path(jaxprof.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("warn", "warn_explicit")
    ]
    assert len(found) == 2 and all(where.startswith("user_warning.py") for where in found)
