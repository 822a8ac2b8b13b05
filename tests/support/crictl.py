# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run crictl against a runtime as a person does, and read what it prints.

scripts/test builds crictl and names it in the environment (PVECRI_CRICTL).
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import typing as t

#: crictl, or the empty string.
PROGRAM = os.environ.get("PVECRI_CRICTL", "")


def missing() -> str | None:
    """Return why crictl cannot be run, or None."""
    if not PROGRAM:
        return "needs crictl: scripts/test builds it, or set PVECRI_CRICTL to one"
    return None if os.access(PROGRAM, os.X_OK) else f"needs crictl: {PROGRAM} is no program"


class Crictl:
    """crictl with the socket of one runtime; ``directory`` is for the files that it is given."""

    def __init__(self, socket: str, directory: pathlib.Path, timeout_s: int = 30) -> None:
        self.directory = directory
        self._timeout_s = timeout_s
        config = directory / "crictl.yaml"
        services = "".join(f"{name}-endpoint: unix://{socket}\n" for name in ("runtime", "image"))
        config.write_text(f"{services}timeout: {timeout_s}\n")
        self._argv = [PROGRAM, "--config", str(config)]

    def argv(self, *arguments: str) -> list[str]:
        """Return the argument list of crictl."""
        return [*self._argv, *arguments]

    def try_(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run crictl to its end, whatever that is."""
        return subprocess.run(
            self.argv(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * self._timeout_s,
        )

    def __call__(self, *arguments: str) -> str:
        """Run crictl, which must succeed, and return what it printed."""
        done = self.try_(*arguments)
        assert done.returncode == 0, f"crictl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def fails(self, *arguments: str) -> str:
        """Run crictl, which must fail, and return what it said."""
        done = self.try_(*arguments)
        assert done.returncode != 0, f"crictl {' '.join(arguments)} succeeded: {done.stdout}"
        return done.stderr

    def json(self, *arguments: str) -> t.Any:
        """Run crictl for an answer in JSON."""
        command, *rest = arguments
        return json.loads(self(command, "-o", "json", *rest))

    def file(self, name: str, content: t.Mapping[str, t.Any]) -> str:
        """Write a config for crictl and return its path."""
        path = self.directory / name
        path.write_text(json.dumps(content, indent=2))
        return str(path)

    @contextlib.contextmanager
    def running(self, *arguments: str) -> t.Iterator[subprocess.Popen[str]]:
        """Run crictl while the block lasts; what it prints can be read line by line."""
        process = subprocess.Popen(
            self.argv(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
