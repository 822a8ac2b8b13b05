# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know what all sections share: where things are, and how to run a module as Ansible would."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.report import Unavailable

OWN_COLLECTION = "pvecri.runtime"
_MODULE_TIMEOUT_S = 900


@dataclasses.dataclass(frozen=True)
class Context:
    """One run of the tool; ``work_dir`` is empty and removed at the end."""

    runs: int
    work_dir: str
    #: Python of a virtual environment with the package ``ansible``, for the peers' modules.
    peers_python: str | None
    progress: t.Callable[[str], None]
    #: Measure, too, what takes very long.
    is_thorough: bool = False

    def directory(self, name: str) -> str:
        """Return a new directory in the work directory."""
        path = os.path.join(self.work_dir, name)
        os.makedirs(path)
        return path


def need_programs(*programs: str) -> None:
    """Raise Unavailable unless all ``programs`` are installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"these programs are not installed: {', '.join(missing)}")


def need_root() -> None:
    """Raise Unavailable unless this is root."""
    if os.geteuid() != 0:
        raise Unavailable("this section starts containers and mounts file systems, which needs root")


class ModuleProcess:
    """Run a module in a process of its own, as it runs on a host: start, imports, work, result.

    What Ansible does around it (connecting, sending the module, reading the result)
    is the same for all modules and is left out.
    """

    def __init__(
        self, context: Context, module: str, *, environment: t.Mapping[str, str] | None = None
    ) -> None:
        """Set up for ``module``, its whole name with the collection."""
        namespace, collection, name = module.split(".")
        own = f"{namespace}.{collection}" == OWN_COLLECTION
        if not own and context.peers_python is None:
            raise Unavailable(
                f"{module} needs a virtual environment with the package 'ansible' (scripts/bench makes one)"
            )
        python = sys.executable if own else t.cast("str", context.peers_python)
        self._module = f"ansible_collections.{namespace}.{collection}.plugins.modules.{name}"
        self._argv = [python, "-m", self._module]
        passed_on = ["PYTHONPYCACHEPREFIX", *(["PYTHONPATH"] if own else [])]
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": os.environ.get("HOME", "/root"),
            "LC_ALL": "C.UTF-8",
            **{variable: os.environ[variable] for variable in passed_on if variable in os.environ},
            **(environment or {}),
        }
        self._arguments = os.path.join(context.work_dir, f"{name}-arguments.json")

    def arguments(self, parameters: t.Mapping[str, t.Any]) -> str:
        """Write the arguments of the next runs and return the file."""
        with open(self._arguments, "w", encoding="utf-8") as stream:
            json.dump({"ANSIBLE_MODULE_ARGS": parameters}, stream)
        return self._arguments

    def run(self) -> bytes:
        """Run with the arguments that were written last and return what it printed."""
        done = subprocess.run(
            [*self._argv, self._arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environment,
            timeout=_MODULE_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self._module} failed: {_message(done)}")
        return done.stdout

    def __call__(self, parameters: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Write the arguments, run, and return the result."""
        self.arguments(parameters)
        return t.cast("dict[str, t.Any]", json.loads(self.run()))

    def expect(self, parameters: t.Mapping[str, t.Any], *, changed: bool) -> dict[str, t.Any]:
        """Run and make sure that the figures are about what they are called."""
        result = self(parameters)
        if result["changed"] is not changed:
            raise RuntimeError(
                f"{self._module} says changed={result['changed']} instead of {changed}: {result}"
            )
        return result


_BARE = """
from ansible.module_utils.basic import AnsibleModule
AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True).exit_json(changed=False)
"""


class BareModule(ModuleProcess):
    """Run a module that does nothing, to know what starting any module costs."""

    def __init__(self, context: Context) -> None:
        """Set up with one argument."""
        super().__init__(context, f"{OWN_COLLECTION}.nothing")
        self._argv = [sys.executable, "-c", _BARE]
        self.arguments({"name": "bench"})


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    try:
        return str(json.loads(done.stdout)["msg"])
    except (ValueError, KeyError):
        return (done.stdout + done.stderr).decode(errors="replace")[-2000:]
