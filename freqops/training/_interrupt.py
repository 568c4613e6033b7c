"""Ctrl-C and SIGTERM as a wish that the loop meets where nothing is lost."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

__all__ = ["Interrupts"]

AGAIN = 2.0
"""Seconds after which another Ctrl-C means: now. torchrun repeats that of a terminal at once."""


class Interrupts:
    """Within the block, SIGINT and SIGTERM set ``asked``; a later SIGINT is a KeyboardInterrupt.

    In a thread that is not the main one signals stay as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._when = 0.0
        self._before: dict[int, object] = {}

    def check(self) -> None:
        """Where there is nothing to save.

        Raises:
            KeyboardInterrupt: it is asked for.
        """
        if self.asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def ask(self) -> None:
        """As a signal does; another process got it."""
        if not self.asked:
            self.asked, self._when = True, time.monotonic()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT and time.monotonic() - self._when > AGAIN:
            raise KeyboardInterrupt
        self.ask()
