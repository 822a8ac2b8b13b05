# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start and stop a container for systemd: ``pvecri.pyz start NAME`` and ``pvecri.pyz stop NAME``.

systemd runs one job of a unit at a time, and tasks change a container that has a
unit only while the unit is stopped; so no lock is needed here, and none is taken,
since the task that waits for systemd holds it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.program import (
    RUN_VARIABLE,
    STATE_VARIABLE,
    failure_path,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import RUN_DIR, STATE_DIR, Paths

#: Longer than systemd takes to see the main process of a unit.
_EARLY_END_S = 0.3

_USAGE = "usage: pvecri.pyz start|stop NAME"


def perform(engine: Engine, verb: str, name: str) -> None:
    """Start a container that is not running, or stop one; both can be repeated.

    Why a start failed is kept for the task that waits for it: systemctl would only say that it did.
    """
    if verb == "stop":
        engine.stop(name)
        return
    path = failure_path(engine.paths, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        engine.bring_up(name)
    except CoreError as exc:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, str(exc).encode(), mode=0o600)
        raise
    if _is_on_failure(engine, name):
        # systemd takes a main process that ends before it was seen for a failure, and would repeat it.
        with contextlib.suppress(CommandTimeout):
            engine.runtime.wait(name, _EARLY_END_S)
        if has_succeeded(engine, name):
            engine.units.cancel(name)


def has_succeeded(engine: Engine, name: str) -> bool:
    """Tell whether the container is done, and its policy is to repeat failures only."""
    state = engine.state(name)
    is_done = state is not None and not state.is_alive and state.exit_code == 0
    return is_done and _is_on_failure(engine, name)


def _is_on_failure(engine: Engine, name: str) -> bool:
    return engine.known(name)[1].restart.name == "on-failure"


def main() -> t.NoReturn:
    """Do what the command line says; the exit code tells systemd whether it worked."""
    arguments = sys.argv[1:]
    if len(arguments) != 2 or arguments[0] not in {"start", "stop"}:
        raise SystemExit(_USAGE)
    paths = Paths(os.environ.get(STATE_VARIABLE, STATE_DIR), os.environ.get(RUN_VARIABLE, RUN_DIR))
    try:
        perform(Engine(paths, SubprocessRunner()), *arguments)
    except CoreError as exc:
        raise SystemExit(f"pvecri: {exc}") from exc
    raise SystemExit(0)
