"""Skips the examples of freqops.jpeg in a build without libjpeg-turbo."""

from __future__ import annotations

from pathlib import Path

import pytest

from freqops import jpeg

EXAMPLES = Path(jpeg.__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := jpeg.missing():
        for item in items:
            if item.path == EXAMPLES:
                item.add_marker(pytest.mark.skip(reason=f"no JPEG reader: {reason}"))
