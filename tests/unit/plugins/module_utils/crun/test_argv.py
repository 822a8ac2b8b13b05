# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden command lines."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions, Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

P = Programs()
LAYOUT = Layout(Paths(), "web")
ROOT = "/run/pvecri/crun/play"

CREATE = f"""
/usr/bin/conmon --api-version=1 --cid=web --name=web --cuuid={LAYOUT.socket_id} --runtime=/usr/bin/crun
--bundle=/run/pvecri/monitors/play/web --container-pidfile=/run/pvecri/monitors/play/web/pid
--conmon-pidfile=/run/pvecri/monitors/play/web/conmon.pid --persist-dir=/run/pvecri/monitors/play/web
--exit-dir=/var/lib/pvecri/exits/play --socket-dir-path=/run/pvecri/s/play --log-path=k8s-file:/log/web.log
--log-level=warning --no-sync-log
""".split()
TAIL = ["--runtime-arg=--root", f"--runtime-arg={ROOT}", "--runtime-opt=--bundle", "--runtime-opt=/b/web"]


@pytest.mark.parametrize(
    ("options", "middle"),
    [
        ({}, []),
        ({"log_size_max": 1000, "log_max_files": 3}, ["--log-size-max=1000"]),
        ({"log_total_max": 5000}, ["--log-global-size-max=5000"]),
        ({"terminal": True, "stdin": True}, ["--terminal", "--stdin", "--leave-stdin-open"]),
        ({"stdin": True, "stdin_once": True}, ["--stdin"]),
        ({"stdin_once": True}, []),
        ({"systemd_cgroup": True, "no_pivot": True}, ["--systemd-cgroup", "--no-pivot"]),
    ],
)
def test_create_argv(options: dict[str, t.Any], middle: list[str]) -> None:
    built = argv.create_argv(P, LAYOUT, "/b/web", CreateOptions(log_path="/log/web.log", **options))
    assert built == [*CREATE, *middle, *TAIL]


def test_create_argv_of_a_restore() -> None:
    built = argv.create_argv(P, LAYOUT, "/b/web", CreateOptions(log_path="/log/web.log"), "/images")
    assert built == [*CREATE, "--restore=/images", *TAIL, "--runtime-opt=--file-locks"]


def test_create_argv_without_a_log() -> None:
    built = argv.create_argv(P, LAYOUT, "/b/web", CreateOptions(log_path=""))
    assert [word for word in built if word.startswith("--log-path")] == ["--log-path=none"]


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (argv.start_argv(P, ROOT, "web"), "start web"),
        (argv.kill_argv(P, ROOT, "web", 9, everyone=False), "kill web 9"),
        (argv.kill_argv(P, ROOT, "web", 15, everyone=True), "kill --all web 15"),
        (argv.delete_argv(P, ROOT, "web", force=False), "delete web"),
        (argv.delete_argv(P, ROOT, "web", force=True), "delete --force web"),
        (argv.pause_argv(P, ROOT, "web"), "pause web"),
        (argv.resume_argv(P, ROOT, "web"), "resume web"),
        (argv.update_argv(P, ROOT, "web", "/dev/stdin"), "update --resources /dev/stdin web"),
        (
            argv.checkpoint_argv(P, ROOT, "web", images="/i", work="/w", leave_running=True),
            "checkpoint --image-path /i --work-path /w --file-locks --leave-running web",
        ),
        (
            argv.checkpoint_argv(P, ROOT, "web", images="/i", work="/w", leave_running=False),
            "checkpoint --image-path /i --work-path /w --file-locks web",
        ),
    ],
)
def test_verbs(built: list[str], expected: str) -> None:
    assert built == ["/usr/bin/crun", "--root", ROOT, *expected.split()]


@pytest.mark.parametrize(("console", "words"), [(None, ""), ("/s", "--console-socket /s")])
def test_exec_argv(console: str | None, words: str) -> None:
    built = argv.exec_argv(
        P, ROOT, "web", process_path="/p", pid_file="/pid", log_path="/log", console_socket=console
    )
    expected = f"/usr/bin/crun --root {ROOT} --log=file:/log exec --process /p --pid-file /pid {words} web"
    assert built == expected.split()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"log_max_files": 3}, False),
        ({"log_size_max": 9}, False),
        ({"log_size_max": 9, "log_max_files": 2}, True),
    ],
)
def test_has_rotation(options: dict[str, t.Any], expected: bool) -> None:
    assert CreateOptions(log_path="/l", **options).has_rotation is expected
