# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what all verbs of the driver need, and be the one way from them to crun."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.sealed import SealedProgram
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


@dataclasses.dataclass(frozen=True, slots=True)
class CrunHost:
    """Where containers live, and the programs that act upon them."""

    paths: Paths
    runner: Runner
    given: Programs
    cgroups: CgroupTree
    #: As many children may run at once, over all threads.
    places: threading.BoundedSemaphore
    command_timeout_s: float
    #: crun in memory, for processes that live long.
    sealed: SealedProgram | None = None

    @property
    def programs(self) -> Programs:
        """The programs as they are to be started now."""
        if self.sealed is None:
            return self.given
        return dataclasses.replace(self.given, crun=self.sealed.path())

    @property
    def root(self) -> str:
        """crun's state directory."""
        return self.paths.runtime_root

    def run(
        self,
        name: str,
        argv: t.Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
        pass_fds: t.Sequence[int] = (),
    ) -> Completed:
        """Run crun for the container ``name``; raises what `errors.translate` makes of a failure."""
        try:
            with self.place():
                return self.runner.run(
                    argv,
                    timeout_s=timeout_s or self.command_timeout_s,
                    stdin=stdin,
                    pass_fds=pass_fds,
                )
        except CommandError as exc:
            raise errors.translate(exc, name=name) from exc

    @contextlib.contextmanager
    def place(self) -> t.Iterator[None]:
        """Wait for one of the places in which a child may run."""
        with self.places:
            yield
