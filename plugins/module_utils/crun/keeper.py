# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See to it that a log keeper runs: one small process for all containers of an owner.

It sleeps until conmon replaces a log file, gives the old one its number (see
`rotation`), and ends with the last container.  Without it nothing breaks: a
log then keeps within its bound by losing its older part.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs, rotation
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout, records
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import is_locked

#: Shown by ps(1).
_TITLE = "pvecri-log-keeper"


def lock_path(layout: Layout) -> str:
    """Return the file whose lock the keeper of this owner holds."""
    return os.path.join(layout.paths.run_dir, "s", f"{layout.paths.owner.value}.keeper")


@contextlib.contextmanager
def ensured(host: CrunHost, layout: Layout) -> t.Iterator[None]:
    """Start the keeper unless it runs, beside what is done meanwhile; wait for that at the end.

    A keeper that cannot be started costs older log files and no container.
    """
    if is_locked(lock_path(layout)):
        yield
        return
    starter = threading.Thread(target=_start, args=(host, layout), name="log-keeper", daemon=True)
    starter.start()
    try:
        yield
    finally:
        starter.join()


def _start(host: CrunHost, layout: Layout) -> None:
    boot = procfs.boot_id()
    arguments = [records(layout.paths), layout.paths.exits, lock_path(layout), boot, _TITLE]
    with contextlib.suppress(CoreError, ValueError):
        started = host.runner.run(
            [sys.executable, "-I", "-S", "-", *arguments],
            stdin=_program(),
            timeout_s=host.command_timeout_s,
        )
        host.cgroups.adopt(int(started.stdout))


def _program() -> bytes:
    """Return the keeper's text through the import system, since modules may come out of a zip file."""
    loader: t.Any = rotation.__spec__.loader if rotation.__spec__ else None
    return str(loader.get_source(rotation.__name__)).encode()
