# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real containers below short temporary directories; all of them are ended afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support import bundles

#: Other versions to try, as absolute paths: PVECRI_TEST_CRUN, PVECRI_TEST_CONMON.
PROGRAMS = Programs(
    crun=os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun"),
    conmon=os.environ.get("PVECRI_TEST_CONMON", "/usr/bin/conmon"),
)


@pytest.fixture(scope="session", autouse=True)
def host() -> None:
    """Skip everything here where containers cannot run, and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in (PROGRAMS.crun, PROGRAMS.conmon, bundles.BUSYBOX):
        if not os.access(program, os.X_OK):
            pytest.skip(f"needs {program}")


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root directory made of busybox, shared by all tests."""
    return bundles.make_rootfs(str(tmp_path_factory.mktemp("rootfs")))


@pytest.fixture
def paths() -> t.Iterator[Paths]:
    """Directories short enough for sockets."""
    top = tempfile.mkdtemp(prefix="pvecri-")
    yield Paths(os.path.join(top, "state"), os.path.join(top, "run"))
    shutil.rmtree(top)


@pytest.fixture
def runtime(paths: Paths) -> t.Iterator[CrunRuntime]:
    """A driver whose containers are removed at the end, whatever became of them."""
    driver = CrunRuntime(paths, SubprocessRunner(), programs=PROGRAMS)
    yield driver
    for name in driver.names():
        with contextlib.suppress(Exception):
            driver.delete(name, force=True)
        subprocess.run(
            [PROGRAMS.crun, "--root", paths.runtime_root, "delete", "--force", name],
            capture_output=True,
            check=False,
        )


class MakeBundle(t.Protocol):
    """The type of the fixture ``bundle``."""

    def __call__(self, *args: str, change: t.Callable[[bundles.Json], object] | None = None) -> str:
        """Return the path of a new bundle that runs ``args``."""


@pytest.fixture
def bundle(paths: Paths, rootfs: str) -> MakeBundle:
    """Return a function that makes bundles, each with a cgroup of its own."""

    def make(*args: str, change: t.Callable[[bundles.Json], object] | None = None) -> str:
        name = secrets.token_hex(6)
        return bundles.make_bundle(
            os.path.join(paths.bundles, name),
            rootfs,
            args or ("sleep", "1000"),
            cgroup=f"/pvecri-test/{name}",
            change=change,
        )

    return make
