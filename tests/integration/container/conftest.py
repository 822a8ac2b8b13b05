# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each test a place of its own in which crun_container runs real containers."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.rootfs import unmount_below
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.procfs import is_same_process
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.tests.support import bundles, images
from ansible_collections.pvecri.runtime.tests.support.host import clear
from ansible_collections.pvecri.runtime.tests.unit.plugins.modules.conftest import run_module

__all__ = ["box", "image", "inner_network", "rootfs", "run_module"]

MODULE = "ansible_collections.pvecri.runtime.plugins.modules.crun_container"

#: Something that runs and ends at once when asked to.
SLEEP = ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]

Json = dict[str, t.Any]


@pytest.fixture(scope="session", autouse=True)
def host() -> None:
    """Skip everything here where containers cannot run, and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("/usr/bin/crun", "/usr/bin/conmon", "/usr/bin/skopeo", bundles.BUSYBOX):
        if not os.access(program, os.X_OK):
            pytest.skip(f"needs {program}")


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root directory made of busybox, shared by all tests."""
    return bundles.make_rootfs(str(tmp_path_factory.mktemp("rootfs")))


@pytest.fixture
def image(tmp_path: pathlib.Path) -> images.OciLayout:
    """A layout with one image, whose configuration has everything that a container takes from it."""
    return images.busybox_image(
        tmp_path / "layout",
        config={
            "Cmd": SLEEP,
            "Labels": {"from": "image"},
            "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "test", "-e", "/healthy"], "Interval": 200000000, "Retries": 3},
        },
    )


class Box:
    """Containers below one short directory."""

    def __init__(self, top: str, rootfs: str, run: t.Callable[..., Json]) -> None:
        self.top = pathlib.Path(top)
        self.paths = Paths(os.path.join(top, "s"), os.path.join(top, "r"))
        self.rootfs = rootfs
        self.run = run
        self.engine = Engine(self.paths, SubprocessRunner())

    def whole(self, **params: t.Any) -> Json:
        """Return the parameters of a task that says the whole container ``c``."""
        sources = {"image", "tarball", "directory", "bundle"} & params.keys()
        source: Json = {} if sources else {"directory": self.rootfs}
        if not {"bundle", "image"} & params.keys():
            source["command"] = SLEEP
        return {"name": "c", **self.places(), **source, **params}

    def places(self) -> Json:
        """Return the options that say where everything is kept."""
        return {"state_dir": self.paths.state_dir, "run_dir": self.paths.run_dir}

    def ensure(self, *, check: bool = False, **params: t.Any) -> Json:
        """Run a task that says the whole container ``c``; it must succeed."""
        return succeeded(self.run("crun_container", self.whole(**params), check=check, diff=True))

    def refuse(self, **params: t.Any) -> Json:
        """Run such a task that must fail; return its result."""
        result = self.run("crun_container", self.whole(**params), diff=True)
        assert result["failed"], result
        return result

    def change(self, state: str | None = None, *, check: bool = False, **params: t.Any) -> Json:
        """Run a task that names the container ``c`` only; it must succeed."""
        task = {"name": "c", **self.places(), **params, **({"state": state} if state else {})}
        return succeeded(self.run("crun_container", task, check=check, diff=True))

    def look(self, **params: t.Any) -> list[Json]:
        """Return what crun_container_info says."""
        result = succeeded(self.run("crun_container_info", {**self.places(), **params}))
        assert result["changed"] is False
        return t.cast("list[Json]", result["containers"])

    def execute(self, *args: str, name: str = "c") -> str:
        """Return what a command in a container prints."""
        done = self.engine.runtime.exec(name, args)
        assert done.rc == 0, done
        return done.stdout

    def await_log(self, lines: list[str], name: str = "c") -> None:
        """Wait until these are all lines that a container has written."""
        deadline = time.monotonic() + 20
        while True:
            (seen,) = self.look(name=[name], log_lines=99)
            if seen["log"] == lines:
                return
            assert time.monotonic() < deadline, seen["log"]
            time.sleep(0.01)

    def await_running(self, name: str = "c") -> None:
        """Wait until a container runs."""
        deadline = time.monotonic() + 20
        while [seen["state"] for seen in self.look(name=[name])] != ["running"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def start_apart(
        self, params: Json, *, env: Json | None = None, prefix: t.Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start the module in a process of its own."""
        arguments = self.top / f"arguments{os.urandom(4).hex()}.json"
        arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {**params, "_ansible_diff": True}}))
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", MODULE, str(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path), **(env or {})},
        )

    def run_apart(self, params: Json, **options: t.Any) -> Json:
        """Run the module in a process of its own and return its result."""
        child = self.start_apart(params, **options)
        out, err = child.communicate(timeout=120)
        assert out, err
        result: Json = json.loads(out)
        result.setdefault("failed", False)
        return result

    def leftovers(self) -> list[str]:
        """Return every file that tells of a container, apart from locks and what is kept for all."""
        found = []
        for top in (self.paths.state_dir, self.paths.run_dir):
            for directory, _subdirectories, files in os.walk(top):
                found += [os.path.join(directory, file) for file in files]
        # Newer versions of crun keep compiled seccomp profiles there, for all containers.
        kept = ("/.cache/", "/locks/", "/storage/", "/lib/pvecri.pyz", "cni-ports", ".keeper")
        return [path for path in found if not any(part in path for part in kept)]

    def mounts(self) -> list[str]:
        """Return the mount points below the test's directory."""
        with open("/proc/self/mountinfo", encoding="utf-8") as stream:
            points = [line.split()[4] for line in stream]
        return [point for point in points if point.startswith(str(self.top))]

    def processes(self) -> list[int]:
        """Return the processes that serve containers of this test, those of containers included."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as stream:
                words = stream.read().split(b"\0")
                mine = any(str(self.top).encode() in word for word in words)
                if (
                    mine
                    and os.path.basename(words[0]) in {b"conmon", b"crun"}
                    and is_same_process(int(entry), 0)
                ):
                    found.append(int(entry))
        return found

    def await_processes(self, count: int) -> None:
        """Wait until so many processes serve containers: a conmon ends a moment after its container."""
        deadline = time.monotonic() + 20
        while len(self.processes()) != count:
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.01)

    def assert_clean(self) -> None:
        """Fail unless nothing of any container is left."""
        assert self.leftovers() == []
        assert self.mounts() == []
        assert self.processes() == []

    def reboot(self) -> None:
        """Do what a restart of the host does: no process, no mount and no volatile file is left."""
        for name in self.engine.runtime.names():
            state = self.engine.state(name)
            for pid in (state.conmon_pid, state.pid) if state else ():
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
        subprocess.run(
            ["/usr/bin/crun", "--root", self.paths.runtime_root, "delete", "--force", "c"],
            capture_output=True,
            check=False,
        )
        unmount_below(str(self.top))
        shutil.rmtree(self.paths.run_dir, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            records = os.path.join(self.paths.state_dir, "records", "play")
            for entry in os.listdir(records):
                file = pathlib.Path(records, entry)
                file.write_text(json.dumps({**json.loads(file.read_text()), "boot_id": "before"}))

    def close(self) -> None:
        """Remove everything, whatever became of it."""
        for name in self.engine.names():
            with contextlib.suppress(Exception):
                self.engine.delete(name)
        for name in self.engine.runtime.names():
            with contextlib.suppress(Exception):
                self.engine.runtime.delete(name, force=True)
        for attachment in self.engine.network._cni.attachments():
            with contextlib.suppress(Exception):
                self.engine.network.down(attachment.container_id)
        clear(self.top, self.paths)


def succeeded(result: Json) -> Json:
    """Return a result that must be none of a failure."""
    assert not result["failed"], json.dumps(result)
    return result


@pytest.fixture
def box(rootfs: str, run_module: t.Callable[..., Json]) -> t.Iterator[Box]:
    """An empty place for containers."""
    made = Box(tempfile.mkdtemp(prefix="pvecri-"), rootfs, run_module)
    yield made
    made.close()


@pytest.fixture
def inner_network(box: Box, tmp_path: pathlib.Path) -> t.Iterator[list[str]]:
    """The command that runs another in a network of its own, so that bridges and ports bother nobody."""
    if shutil.which("nsenter") is None:
        pytest.skip("needs nsenter")
    path = str(tmp_path / "outer")
    netns.pin(path)
    yield ["nsenter", f"--net={path}"]
    netns.unpin(path)
