# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe what one task asks, with everything that is needed to do it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain, Rule
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import ContainerRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import Recreate, Rerun, State
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, CommandTimeout

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.container.wrapper import Given
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import RootfsSource

#: How long ``state=healthy`` waits unless told otherwise.
WAIT_TIMEOUT_S = 300.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a playbook for one container."""

    name: str
    state: State
    request: ContainerRequest
    #: The shaped request, without the source; None when only the state is asked for.
    plain: Plain | None = None
    #: Where the rootfs comes from: at most one of the two.
    source: RootfsSource | None = None
    bundle: Given | None = None
    rules: t.Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    recreate: Recreate = "auto"
    rerun: Rerun = "always"
    is_attached: bool = False
    #: Time limit of an attached container; None is none.
    timeout_s: float | None = None
    wait_timeout_s: float = WAIT_TIMEOUT_S
    signal: str | None = None
    #: How to stop, where the task says so; None: as recorded.
    stop_signal: str | None = None
    stop_timeout_s: float | None = None

    @property
    def has_source(self) -> bool:
        """Tell whether the container can be made from what the task says."""
        return self.source is not None or self.bundle is not None


class _JobError(CommandError):
    """Report a container that did not do its job; ``values`` are what a module would return."""

    def __init__(self, message: str, *, values: Plain, **details: t.Any) -> None:
        super().__init__(message, **details)
        self.values = values

    def details(self) -> Plain:
        """Return exit code and output whole: they are what the task was for."""
        return {
            "error": self.code,
            "rc": self.rc,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "stdout_lines": self.stdout.splitlines(),
            "stderr_lines": self.stderr.splitlines(),
            **self.values,
        }


class JobFailed(_JobError):
    """Report a container whose program ended badly."""

    code = "container_failed"


class JobTimeout(_JobError, CommandTimeout):
    """Report a container that was stopped because its time was up."""

    code = CommandTimeout.code
