"""Small results as JSON files that say what they hold and in which version."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping

__all__ = ["parse", "reading", "write"]

VERSION = 1


def write(path: str | os.PathLike[str], kind: str, content: Mapping[str, object]) -> None:
    """Writes content and what it is: the name of a public class. Floats keep every bit."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"format": f"freqops.{kind}", "version": VERSION, **content}) + "\n")


def parse(text: str, kind: str) -> dict[str, object]:
    """The content of a file of that kind, or a ValueError that says why it is none."""
    content: object = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != f"freqops.{kind}":
        raise ValueError(f'"format" is not "freqops.{kind}"')
    if content.get("version") != VERSION:
        raise ValueError(f'"version" is {content.get("version")!r}, known is {VERSION}')
    return content


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[dict[str, object]]:
    """Gives the content of a file; errors in it, found here or in the block, name the file."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        yield parse(text, kind)
    except (ValueError, TypeError) as error:  # JSON's and UTF-8's own errors are ValueErrors
        raise ValueError(
            f"path must name a {kind} saved by freqops, got {os.fspath(path)!r}: {error}"
        ) from error
