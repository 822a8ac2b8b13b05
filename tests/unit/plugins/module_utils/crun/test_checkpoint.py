# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps and restores: what is started, with which environment, and what a failure says."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import criu, record
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions, Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.checkpoint import Checkpoints
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    MissingDependency,
    NotFound,
    WrongState,
)

LOG = """(00.1) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.2) Warn  (criu/x.c:1): harmless
(00.3)      1: Error (criu/sk-inet.c:9): inet: Connected TCP socket
(00.4) Error (criu/cr-dump.c:2111): Dumping FAILED.
"""
VERSION = "crun version 1.21\nspec: 1.0.0\n+CAP +CRIU +YAJL\n"


class Fitting:
    """Answers what a host that can checkpoint answers, and hands on the rest."""

    def __init__(self, recorder: t.Any) -> None:
        self.recorder = recorder
        self.version = VERSION
        self.check = (0, "Looks good.\n")

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        done = self.recorder.run(argv, **options)
        if argv[-1] == "--version":
            return Completed(list(argv), 0, self.version, "")
        if argv[-1] == "check":
            return Completed(list(argv), self.check[0], "", self.check[1])
        return t.cast("Completed", done)


@pytest.fixture
def fitting(recorder: t.Any) -> Fitting:
    return Fitting(recorder)


@pytest.fixture
def checkpoints(host: CrunHost, fitting: Fitting, tmp_path: pathlib.Path) -> Checkpoints:
    program = tmp_path / "bin" / "criu"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    return Checkpoints(
        CrunHost(
            host.paths,
            fitting,
            Programs(criu=str(program)),
            host.cgroups,
            host.places,
            host.command_timeout_s,
        )
    )


def test_check_host_asks_once(checkpoints: Checkpoints, recorder: t.Any, tmp_path: pathlib.Path) -> None:
    checkpoints.check_host()
    checkpoints.check_host()
    assert recorder.calls == [["/usr/bin/crun", "--version"], [f"{tmp_path}/bin/criu", "check"]]
    assert recorder.options[1]["env"]["PATH"].startswith(f"{tmp_path}/bin:")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"version": "crun version 1.8.1\n+CAP -CRIU\n"},
            "crun version 1.8.1 .* is built without CRIU. Debian 13",
        ),
        ({"version": ""}, "/usr/bin/crun .* is built without CRIU"),
        ({"check": (1, LOG)}, "does not work with its kernel: inet: Connected TCP socket; Dumping FAILED"),
        ({"check": (1, "no\n")}, "does not work with its kernel: no"),
        ({"check": (3, "")}, "does not work with its kernel: exit code 3"),
    ],
)
def test_check_host_names_what_is_missing(
    checkpoints: Checkpoints, fitting: Fitting, changes: dict[str, t.Any], message: str
) -> None:
    for key, value in changes.items():
        setattr(fitting, key, value)
    with pytest.raises(MissingDependency, match=message):
        checkpoints.check_host()
    fitting.version, fitting.check = VERSION, (0, "")
    checkpoints.check_host()


def test_check_host_without_criu(host: CrunHost, fitting: Fitting) -> None:
    programs = Programs(criu="/nowhere/criu")
    bare = Checkpoints(CrunHost(host.paths, fitting, programs, host.cgroups, host.places, 1.0))
    with pytest.raises(MissingDependency, match=r"there is no CRIU at /nowhere/criu. Install .*'criu'"):
        bare.check_host()


def test_dump(checkpoints: Checkpoints, recorder: t.Any, box: t.Any, tmp_path: pathlib.Path) -> None:
    box.alive()
    box.record(started_at=1.0)
    checkpoints.dump("box", "/images", str(tmp_path), timeout_s=7)
    assert recorder.calls[-1][3:] == [
        "checkpoint",
        "--image-path",
        "/images",
        "--work-path",
        str(tmp_path),
        "--file-locks",
        "--leave-running",
        "box",
    ]
    assert recorder.options[-1]["timeout_s"] == 7
    env = recorder.options[-1]["env"]
    assert pathlib.Path(env["CRIU_CONFIG_FILE"]).read_text() == criu.CONFIGURATION


def test_dump_of_what_cannot_be(checkpoints: Checkpoints, box: t.Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotFound):
        checkpoints.dump("box", "/images", str(tmp_path))
    box.alive(fifo=True)
    with pytest.raises(WrongState, match="is created, not running"):
        checkpoints.dump("box", "/images", str(tmp_path))


@pytest.mark.parametrize(
    ("log", "stderr", "message"),
    [
        (
            LOG,
            "CRIU checkpointing failed -52",
            "cannot be checkpointed: inet: Connected TCP socket; Dumping FAILED",
        ),
        ("", "CRIU checkpointing failed -52\n", "cannot be checkpointed: CRIU checkpointing failed -52"),
        (None, "", "cannot be checkpointed: without a message"),
    ],
)
def test_dump_that_fails(
    checkpoints: Checkpoints,
    recorder: t.Any,
    box: t.Any,
    tmp_path: pathlib.Path,
    log: str | None,
    stderr: str,
    message: str,
) -> None:
    box.alive()
    recorder.answers["checkpoint"] = (1, stderr)
    if log is not None:
        (tmp_path / "dump.log").write_text(log)
    with pytest.raises(CommandError, match=message):
        checkpoints.dump("box", "/images", str(tmp_path))


def test_dump_without_the_library(
    checkpoints: Checkpoints, recorder: t.Any, box: t.Any, tmp_path: pathlib.Path
) -> None:
    box.alive()
    recorder.answers["checkpoint"] = (1, "could not load `libcriu.so.2`")
    with pytest.raises(MissingDependency, match="libcriu2"):
        checkpoints.dump("box", "/images", str(tmp_path))


def test_dump_that_takes_too_long(
    checkpoints: Checkpoints, recorder: t.Any, box: t.Any, tmp_path: pathlib.Path
) -> None:
    def late(_argv: list[str], _options: dict[str, t.Any]) -> None:
        raise CommandTimeout("crun did not end within 1 s and was killed")

    box.alive()
    recorder.answers["checkpoint"] = late
    with pytest.raises(CommandTimeout):
        checkpoints.dump("box", "/images", str(tmp_path), timeout_s=1)


def test_restore(checkpoints: Checkpoints, recorder: t.Any, box: t.Any) -> None:
    def answer(_argv: list[str], options: dict[str, t.Any]) -> None:
        os.write(int(options["env"]["_OCI_SYNCPIPE"]), json.dumps({"data": 77}).encode() + b"\n")

    recorder.answers["conmon"] = answer
    assert checkpoints.restore(box.bundle(), "box", "/images", CreateOptions(log_path="/l")) == 77
    made = record.load(box.layout)
    assert made is not None
    assert made.is_complete
    assert made.started_at is not None
    assert "--restore=/images" in recorder.calls[-1]
    env = recorder.options[-1]["env"]
    assert env["CRIU_CONFIG_FILE"] == f"{box.layout.monitor_dir}/criu.conf"


@pytest.mark.parametrize(
    ("log", "said", "kind", "message"),
    [
        (LOG, "CRIU restoring failed -52", CommandError, "cannot be restored: inet: Connected TCP socket"),
        (None, "CRIU restoring failed -52", CommandError, "cannot be restored: CRIU restoring failed -52"),
        (None, "could not load `libcriu.so.2`", MissingDependency, "libcriu2"),
    ],
)
def test_restore_that_fails(
    checkpoints: Checkpoints,
    recorder: t.Any,
    box: t.Any,
    runtime: CrunRuntime,
    log: str | None,
    said: str,
    kind: type[Exception],
    message: str,
) -> None:
    def answer(_argv: list[str], options: dict[str, t.Any]) -> None:
        if log is not None:
            pathlib.Path(options["cwd"], "restore.log").write_text(log)
        text = json.dumps({"data": -1, "message": said})
        os.write(int(options["env"]["_OCI_SYNCPIPE"]), text.encode() + b"\n")

    recorder.answers["conmon"] = answer
    with pytest.raises(kind, match=message):
        checkpoints.restore(box.bundle(), "box", "/images", CreateOptions(log_path="/l"))
    assert runtime.state("box") is None
