"""YAML documents that know the line of each key, and errors that name it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

Location = tuple[str | int, ...]


class ConfigError(ValueError):
    """What is wrong with a configuration: file, line, key, and what would do."""


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-12 is a number too."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A YAML document.

    Attributes
    ----------
    path : str
        Its file, as messages name it.
    text : str
        The whole text.
    data : dict
        What it says.
    lines : dict
        Line of each key and item, from one, by its location: keys and indices from the top.
    """

    path: str
    text: str
    data: dict[str, Any]
    lines: dict[Location, int]

    def line(self, location: Location) -> int:
        """Line of the key, or of the innermost key around it that the document has."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.lines:
                return self.lines[location[:end]]
        return 1

    def message(self, location: Location, text: str) -> str:
        """The text with file, line and key in front."""
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location)
        head = f"{self.path}:{self.line(location)}: "
        return head + (f"{key.lstrip('.')}: " if key else "") + text

    def error(self, location: Location, text: str) -> ConfigError:
        """Error that names file, line and key."""
        return ConfigError(self.message(location, text))

    @contextmanager
    def at(self, *location: str | int) -> Iterator[None]:
        """Errors of values and files within are those of a key.

        Where a message begins with the name of a key of the section, or has it as a word, that key
        is named.
        """
        try:
            yield
        except ConfigError:
            raise
        except (ValueError, TypeError, OSError) as error:
            text = str(error) or type(error).__name__
            words = re.findall(r"\w+", text)
            # A key further down is named where the message begins with it.
            deeper = [
                found
                for found in self.lines
                if found[: len(location)] == location and found[-1:] == tuple(words[:1])
            ]
            inner = {
                found[len(location)]: None
                for found in self.lines
                if found[: len(location)] == location and len(found) > len(location)
            }
            named = next((word for word in words[:6] if word in inner), None)
            where = location if named is None else (*location, named)
            if named is None and len(deeper) == 1 and re.match(r"\w+:", text):
                where, text = deeper[0], text.partition(":")[2].strip()
            elif named is not None:  # the message has it once
                text = text.removeprefix(f"{named}: ")
            raise self.error(where, text) from error


def parse_document(text: str, path: str) -> Document:
    """Parse YAML.

    Parameters
    ----------
    text : str
        One document, a mapping at the top.
    path : str
        Name of the file, for messages.

    Raises
    ------
    ConfigError
        If it is no YAML, no mapping, or has a key twice.
    """
    lines: dict[Location, int] = {(): 1}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _collect(node, (), lines, path, frozenset())
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        said = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{path}:{line}: not valid YAML: {said}") from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        said = " ".join(str(error).split())
        raise ConfigError(f"{path}:1: not valid YAML: {said}") from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(
            f"{path}:1: a configuration is keys with values, and this is {found}; "
            "`jaxprof init` writes one"
        )
    return Document(path, text, data, lines)


def _collect(
    node: Any, location: Location, lines: dict[Location, int], path: str, above: frozenset[int]
) -> None:
    """The lines of all keys and items within a node."""
    if id(node) in above:
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: an alias within its own anchor")
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            own = (*location, str(key.value))
            if own in lines:
                raise ConfigError(
                    f"{path}:{line}: {key.value}: this key was given before, in line {lines[own]}; "
                    "leave one out"
                )
            lines[own] = line
            _collect(value, own, lines, path, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*location, index)] = value.start_mark.line + 1
            _collect(value, (*location, index), lines, path, above)
