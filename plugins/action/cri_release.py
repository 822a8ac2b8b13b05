# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the collection's release of the endpoint to a host that lacks it."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

MODULE = "pvecri.runtime.cri_release"
PACKER = pathlib.Path(__file__).resolve().parents[2] / "roles/cri_endpoint/files/pack.py"


def packer() -> t.Any:
    """Return the program that packs releases, imported from the role's files."""
    spec = importlib.util.spec_from_file_location("pvecri_pack", PACKER)
    if spec is None or spec.loader is None or not PACKER.exists():
        raise AnsibleActionFail(f"{PACKER} is missing: install the collection pvecri.runtime anew")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ActionModule(ActionBase):
    """Ask the host which releases it has; pack and send one only if it is not there."""

    TRANSFERS_FILES = True

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        """Run the module, a second time with the packed release if the host wants it."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        packed = None
        pack = packer()
        if not arguments.get("release") and arguments.get("state", "present") != "absent":
            packed = pack.collect()
            arguments["release"] = packed.release
        try:
            result = self._execute(arguments, task_vars)
            if result.get("failed") or not result.get("wanted"):
                return result
            packed = packed or pack.collect()
            if packed.release != arguments["release"]:
                raise AnsibleActionFail(
                    f"neither this host nor this collection ({packed.release}) has release "
                    f"{arguments['release']}: name one that the host has in /usr/lib/pvecri/releases, "
                    "or run a play with the version of the collection that it is of"
                )
            return self._execute({**arguments, "src": self._sent(pack.archive(packed))}, task_vars)
        finally:
            self._remove_tmp_path(self._shell.tmpdir)

    @property
    def _shell(self) -> t.Any:
        return self._connection._shell  # noqa: SLF001 - as all action plugins do

    def _execute(self, arguments: dict[str, t.Any], task_vars: t.Any) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars
        )
        # What was given for the module's own sake is no argument of the user's.
        result.pop("invocation", None)
        return result

    def _sent(self, archive: bytes) -> str:
        """Copy an archive to the host's temporary directory; return its path there."""
        if not self._shell.tmpdir:
            self._make_tmp_path()
        handle, path = tempfile.mkstemp(prefix="pvecri-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(archive)
            remote = self._shell.join_path(self._shell.tmpdir, "release.tar.gz")
            self._transfer_file(path, remote)
        finally:
            os.unlink(path)
        self._fixup_perms2([self._shell.tmpdir, remote])
        return t.cast("str", remote)
