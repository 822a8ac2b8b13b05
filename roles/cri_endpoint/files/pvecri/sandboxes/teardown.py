# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a sandbox apart, however much of it there is.

Each step is made whatever became of the ones before, and finds by itself what is left
to do; so what was half made, half gone or survived a reboot needs no code of its own.
Recovery calls `teardown` and `erase` with the record of a sandbox that was cut short.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.context import Context
from pvecri.sandboxes import cgroup, files, namespaces, pause
from pvecri.sandboxes.places import Places
from pvecri.state.records import SandboxRecord

#: What was being done when it failed, and how.
Failure = tuple[str, Exception]


class TeardownError(CoreError):
    """Report what of a sandbox is still there; repeating the call goes on with it."""

    code = "teardown_failed"

    def __init__(self, sandbox_id: str, failures: t.Sequence[Failure]) -> None:
        told = "; ".join(f"{step}: {exc}" for step, exc in failures)
        super().__init__(f"sandbox {sandbox_id} is not completely gone: {told}", hint="Try again")
        self.failures = list(failures)


def teardown(context: Context, record: SandboxRecord) -> None:
    """Take away a sandbox's pause process, network, namespaces and shared memory; its files stay.

    Raises TeardownError after all was tried.  The network namespace stays when the network
    could not be left, since the plugins will want it when they are called again.
    """
    places = Places(context.paths, record.id)
    steps = Steps(record.id)
    steps.take("pause process", lambda: pause.end(context, record.id))
    steps.take("shared memory", lambda: files.unmount_shm(places))
    # Last, so that recovery sees by them that something is left.
    if steps.take("network", lambda: context.cni.delete(record.id)):
        steps.take("namespaces", lambda: namespaces.release(places))
    steps.finish()


def erase(context: Context, record: SandboxRecord) -> None:
    """Remove a sandbox's files and its own cgroup, once `teardown` has succeeded; raises TeardownError."""
    places = Places(context.paths, record.id)
    steps = Steps(record.id)
    # A record that was lost says nothing: then only what has the sandbox's own name is its own.
    if record.extra.get("owns_cgroup") or not record.cgroup_parent:
        parent = record.cgroup_parent or cgroup.own_parent(record.id, is_systemd=context.uses_systemd)
        steps.take("cgroup", cgroup.PodCgroup(parent, context.runner).remove)
    steps.take("volatile files", lambda: files.remove(places.volatile))
    steps.take("files", lambda: files.remove(places.files))
    steps.finish()


class Steps:
    """Do one thing after the other, past what fails."""

    def __init__(self, sandbox_id: str) -> None:
        self._id = sandbox_id
        self.failures: list[Failure] = []

    def take(self, what: str, action: t.Callable[[], t.Any]) -> bool:
        """Do one step; return whether it succeeded."""
        try:
            action()
        except Exception as exc:
            self.failures.append((what, exc))
            return False
        return True

    def finish(self) -> None:
        """Raise TeardownError if anything failed; what nobody foresaw is raised as it is."""
        for _step, exc in self.failures:
            if not isinstance(exc, (CoreError, OSError)):
                raise exc
        if self.failures:
            raise TeardownError(self._id, self.failures) from self.failures[0][1]
