"""Objects that refuse attributes they do not have: a typo must not pass for a setting."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar


@cache
def declared_names(cls: type) -> tuple[str, ...]:
    """Names that a class and its bases annotate and that have no leading underscore, in order."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, kind in base.__dict__.get("__annotations__", {}).items():
            if not name.startswith("_") and not str(kind).startswith("ClassVar"):
                names[name] = None
    return tuple(names)


def unknown_attribute(cls: type, name: str, word: str, known: list[str] | tuple[str, ...]) -> str:
    """Message about an attribute that a class does not have, with the one that is most like it."""
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{cls.__name__} has no {word} {name!r}; it takes {', '.join(known)}{hint}"


class KnownAttributes:
    """Base of the classes whose attributes are declared, and checked when they are set.

    Declared is what the class or a base annotates in its body, ``name: type``, gives a value there,
    makes a property with a setter, or has among its ``_options()``. Subclasses declare attributes
    of their own in the same way.
    """

    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    _word: ClassVar[str] = "attribute"

    @classmethod
    def _options(cls) -> tuple[str, ...]:
        """Names of the attributes that users may set."""
        return declared_names(cls)  # type: ignore[arg-type]  # a class has a hash

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute that the class has; its check says what is kept, or raises."""
        cls = type(self)
        if name not in cls._options() and not _is_declared(cls, name):
            raise AttributeError(unknown_attribute(cls, name, self._word, cls._options()))
        check = self._checks.get(name)
        super().__setattr__(name, value if check is None else check(value))


def _is_declared(cls: type, name: str) -> bool:
    if any(name in base.__dict__.get("__annotations__", {}) for base in cls.__mro__):
        return True
    found = inspect.getattr_static(cls, name, None)
    if found is None:
        # Undeclared; a value of None stands with its annotation.
        return False
    # Properties set themselves, or say that they have no setter. Methods are no attributes to set.
    return hasattr(type(found), "__set__") or not (callable(found) or hasattr(found, "__get__"))
