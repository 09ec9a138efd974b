"""One kind of error for whatever is wrong with a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

#: Longer messages, such as those that quote what a damaged file holds, are cut.
LONGEST = 1000


def description(error: BaseException) -> str:
    """What an error says, in one line that names errors other than ValueError."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for what it says it holds"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(str(error).split())
    if not text or not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def repeated(names: Sequence[str]) -> str | None:
    """The first name that is there twice; None if there is none. Empty names do not count."""
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            return name
        seen.add(name)
    return None


@contextlib.contextmanager
def naming(what: str, *, always: bool = False) -> Iterator[None]:
    """Turn every error in a block into a ValueError that says where it came up.

    Damaged contents make the libraries that parse them raise nearly anything, so nothing is
    singled out but a file that may not be opened, and a package that is not installed.

    Parameters
    ----------
    what : str
        File, HDU or column. Blocks may be nested, the file outermost.
    always : bool
        Whether to put it first even if the message has it somewhere.

    Raises
    ------
    ValueError
        "<what>: <description of the error>".
    """
    try:
        yield
    except (PermissionError, ImportError):
        raise
    except Exception as error:
        text = description(error)
        named = text.startswith(f"{what}: ") or (not always and what in text)
        raise ValueError(text if named else f"{what}: {text}") from error
