# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containers from built configurations with the real crun, and look at them from inside."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, ImageConfig
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.build import build_config
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts, gather_host_facts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host_request import with_request
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import ResolvedMount
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import resolve_user
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.validate import check
from ansible_collections.pvecri.runtime.tests.support.host import null_device
from ansible_collections.pvecri.runtime.tests.support.images import BUSYBOX, write_rootfs

# Fixtures from elsewhere.
__all__ = ["null_device"]

#: Another version to try, as an absolute path.
CRUN = os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun")

NO_IMAGE = ImageConfig()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a container that ended left."""

    rc: int
    out: str
    err: str
    warnings: list[str]
    config: dict[str, t.Any]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def field(self, name: str) -> str:
        """Return the value of a line ``Name:  value``, as /proc/self/status has them."""
        return next(line.partition(":")[2].strip() for line in self.lines if line.startswith(f"{name}:"))


class Box:
    """Builds bundles in one directory and runs them; what runs is removed at the end."""

    def __init__(self, top: pathlib.Path, rootfs: str, host: HostFacts) -> None:
        self.top, self.rootfs, self.host = top, rootfs, host
        self.names: list[str] = []

    def argv(self, *args: str) -> list[str]:
        manager = ["--systemd-cgroup"] if self.host.has_systemd else []
        return [CRUN, "--root", str(self.top / "r"), *manager, *args]

    @staticmethod
    def wait_for(path: pathlib.Path, timeout_s: float = 20) -> None:
        """Return when a file exists; a container makes it to say that it is there."""
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} was not made"
            time.sleep(0.01)

    def crun(self, *args: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*args),
            # Else Python lets SIGPIPE kill crun when a hook does not read what crun tells it.
            restore_signals=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def bundle(
        self,
        script: str,
        *,
        image: ImageConfig = NO_IMAGE,
        mounts: t.Sequence[ResolvedMount] = (),
        **asked: t.Any,
    ) -> tuple[str, str, dict[str, t.Any], list[str]]:
        """Write a bundle that runs a shell script; return name, path, configuration and warnings."""
        name = f"t{secrets.token_hex(4)}"
        asked.setdefault("command", ("/bin/sh", "-c", script))
        asked.setdefault("mounts", tuple(item.mount for item in mounts))
        spec = ContainerSpec(name=name, **asked)
        texts = [pathlib.Path(self.rootfs, "etc", file).read_text() for file in ("passwd", "group")]
        user = resolve_user(
            *texts, spec.user or image.user, spec.supplementary_groups, spec.merge_image_groups
        )
        warnings: list[str] = []
        host = with_request(self.host, spec)
        config = build_config(spec, image, user, host, self.rootfs, mounts, warnings=warnings)
        check(config)
        path = self.top / name
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        self.names.append(name)
        return name, str(path), config, warnings

    def run(
        self,
        script: str = "",
        *,
        image: ImageConfig = NO_IMAGE,
        mounts: t.Sequence[ResolvedMount] = (),
        **asked: t.Any,
    ) -> Answer:
        """Run a script to its end."""
        name, path, config, warnings = self.bundle(script, image=image, mounts=mounts, **asked)
        done = self.crun("run", "--bundle", path, name)
        return Answer(done.returncode, done.stdout, done.stderr, warnings, config)

    def start(self, **asked: t.Any) -> tuple[str, dict[str, t.Any]]:
        """Start a container that sleeps; return its name and crun's state."""
        name, path, _config, _warnings = self.bundle("sleep 300", **asked)
        # Not captured: the container would hold the pipes open.
        log = str(self.top / f"{name}.log")
        done = subprocess.run(
            self.argv("--log", log, "run", "--detach", "--bundle", path, name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, pathlib.Path(log).read_text()
        return name, json.loads(self.crun("state", name).stdout)


@pytest.fixture(scope="session")
def host() -> HostFacts:
    """Facts of this host; everything here is skipped, with the reason, where containers cannot run."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in (CRUN, BUSYBOX):
        if not os.access(program, os.X_OK):
            pytest.skip(f"needs {program}")
    return gather_host_facts(SubprocessRunner(), crun=CRUN)


@pytest.fixture(scope="session")
def rootfs() -> t.Iterator[str]:
    """A root directory with busybox and a few users, shared by all tests.

    Not below pytest's own directories, which processes in user namespaces cannot enter.
    """
    top = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    top.chmod(0o755)
    yield write_rootfs(top / "rootfs")
    shutil.rmtree(top)


@pytest.fixture
def box(host: HostFacts, rootfs: str) -> t.Iterator[Box]:
    """Return what runs containers."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    top.chmod(0o755)
    made = Box(top, rootfs, host)
    yield made
    for name in made.names:
        made.crun("delete", "--force", name)
        # Where crun gave up half-way, its groups are left.
        for pattern in (f"*/pvecri/{name}", f"pvecri/{name}"):
            for group in pathlib.Path("/sys/fs/cgroup").glob(pattern):
                group.rmdir()
    shutil.rmtree(top)
