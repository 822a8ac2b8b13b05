# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on paper: directories of the test's own, and a runner that remembers instead of running."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs, record
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

BOOT = "11111111-2222-3333-4444-555555555555"


class Recorder:
    """Remember each command; ``answers`` by verb are (exit code, stderr) or a function to call first."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.options: list[dict[str, t.Any]] = []
        self.answers: dict[str, t.Any] = {}

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        self.calls.append(list(argv))
        self.options.append(options)
        verb = next((word for word in argv if word in self.answers), os.path.basename(argv[0]))
        answer = self.answers.get(verb, (0, ""))
        if callable(answer):
            answer = answer(list(argv), options) or (0, "")
        rc, stderr = answer
        if rc and options.get("check", True):
            raise CommandError(f"{verb} failed", argv=argv, rc=rc, stderr=stderr)
        return Completed(list(argv), rc, "", stderr)


@pytest.fixture
def paths(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Directories below the test's own; the boot is always the same."""
    monkeypatch.setattr(procfs, "boot_id", lambda: BOOT)
    return Paths(str(tmp_path / "state"), str(tmp_path / "r"))


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> CgroupTree:
    """An empty cgroup v2 hierarchy."""
    root = tmp_path / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    return CgroupTree(str(root))


@pytest.fixture
def recorder() -> Recorder:
    """A runner that remembers."""
    return Recorder()


@pytest.fixture
def host(paths: Paths, recorder: Recorder, tree: CgroupTree) -> CrunHost:
    """What the verbs need, on paper."""
    return CrunHost(paths, recorder, Programs(), tree, threading.BoundedSemaphore(4), 60.0)


@pytest.fixture
def runtime(paths: Paths, recorder: Recorder, tree: CgroupTree) -> CrunRuntime:
    """A driver on paper."""
    return CrunRuntime(paths, recorder, cgroups=tree)


@dataclasses.dataclass
class Box:
    """Files of one container, written as crun, conmon and the driver would."""

    paths: Paths
    name: str = "box"

    @property
    def layout(self) -> Layout:
        return Layout(self.paths, self.name)

    def bundle(self, **config: t.Any) -> str:
        path = self.layout.bundle
        os.makedirs(path, exist_ok=True)
        pathlib.Path(path, "config.json").write_text(json.dumps(config))
        return path

    def record(self, **changes: t.Any) -> record.Record:
        values: dict[str, t.Any] = {
            "name": self.name,
            "bundle": self.bundle(),
            "log_path": self.layout.default_log,
            "boot_id": BOOT,
            "created_at": 100.0,
            "started_at": None,
            "is_complete": True,
            **changes,
        }
        made = record.Record(**values)
        os.makedirs(os.path.dirname(self.layout.record), exist_ok=True)
        record.save(self.layout, made)
        return made

    def crun(self, pid: int, start_time: int, *, fifo: bool = False, **changes: t.Any) -> None:
        os.makedirs(self.layout.runtime_dir, exist_ok=True)
        status = {
            "pid": pid,
            "process-start-time": start_time,
            "cgroup-path": "/group",
            "bundle": self.bundle(),
            "created": "2026-01-02T03:04:05.678901Z",
            **changes,
        }
        directory = pathlib.Path(self.layout.runtime_dir)
        (directory / "status").write_text(json.dumps(status))
        if fifo:
            (directory / "exec.fifo").touch()

    def alive(self, **options: t.Any) -> None:
        """Let the container's process be this one."""
        stat = procfs.read_stat(os.getpid())
        assert stat is not None
        self.crun(stat.pid, stat.start_time, **options)

    def dead(self, **options: t.Any) -> None:
        """Let the container's process id be that of another process, this one."""
        self.crun(os.getpid(), 1, **options)

    def exit(self, code: int) -> None:
        os.makedirs(self.paths.exits, exist_ok=True)
        pathlib.Path(self.layout.exit_file).write_text(str(code))

    def monitor(self, name: str, text: str = "") -> None:
        os.makedirs(self.layout.monitor_dir, exist_ok=True)
        pathlib.Path(self.layout.monitor_dir, name).write_text(text)


@pytest.fixture
def box(paths: Paths) -> Box:
    """The files of a container that are written by the test."""
    return Box(paths)
