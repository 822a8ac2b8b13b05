# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how long the stages of an operation take, for whoever reads the log."""

from __future__ import annotations

import contextlib
import time
import typing as t


class Stages:
    """A clock that is read at the end of each stage."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        #: Milliseconds as the log has them: ``<stage>_ms``.
        self.times: dict[str, float] = {}

    def done(self, stage: str) -> None:
        """Note the end of a stage, which began with the end of the one before."""
        now = time.perf_counter()
        self._note(stage, now - self._last)
        self._last = now

    @contextlib.contextmanager
    def timed(self, stage: str) -> t.Iterator[None]:
        """Note a stage that may run beside others."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._note(stage, time.perf_counter() - begin)

    def _note(self, stage: str, took_s: float) -> None:
        self.times[f"{stage}_ms"] = round(took_s * 1000, 1)
