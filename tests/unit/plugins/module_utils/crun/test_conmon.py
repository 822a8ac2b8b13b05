# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What conmon says on its sync pipe, and what it takes on its fifo."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.conmon import Answer
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    InvalidSpec,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


class Speaker:
    """A runner that writes to the sync pipe as conmon would, and may keep it open."""

    def __init__(self, text: bytes, *, keep_open: bool = False) -> None:
        self._text = text
        self._keep_open = keep_open
        self.kept: int | None = None
        self.options: dict[str, t.Any] = {}

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        self.options = options
        pipe = int(options["env"]["_OCI_SYNCPIPE"])
        assert options["pass_fds"] == (pipe,)
        os.write(pipe, self._text)
        if self._keep_open:
            self.kept = os.dup(pipe)
        return Completed(list(argv), 0, "", "")


def launch(runner: t.Any, timeout_s: float = 20.0) -> Answer:
    return conmon.launch(runner, ["conmon"], cwd="/monitor", timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b'{"data": 42}\n', Answer(42)),
        (b'{"pid": 42}\n', Answer(42)),
        (b'{"data": -1, "message": "went \\"wrong\\"\\n"}\n', Answer(None, 'went "wrong"')),
        (b'{"data": 0}\n', Answer(None)),
        (b"", Answer(None)),
        (b"garbage\n", Answer(None, "garbage")),
        (b"[1]\n", Answer(None, "[1]")),
    ],
)
def test_launch_reads_the_answer(text: bytes, answer: Answer) -> None:
    runner = Speaker(text)
    assert launch(runner) == answer
    assert runner.options["cwd"] == "/monitor"


def test_launch_does_not_wait_for_the_pipe_s_end() -> None:
    runner = Speaker(b'{"data": 7}\n', keep_open=True)
    assert launch(runner) == Answer(7)
    assert runner.kept is not None
    os.close(runner.kept)


def test_launch_has_a_time_limit_and_leaks_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    runner = Speaker(b"", keep_open=True)
    with pytest.raises(CommandTimeout, match="did not report"):
        launch(runner, timeout_s=0.01)
    assert runner.kept is not None
    os.close(runner.kept)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("outlives_us", [False, True])
def test_launch_that_is_killed(tmp_path: pathlib.Path, outlives_us: bool) -> None:
    """What conmon then writes it can write only if it is to go on."""
    waits = "touch begun; while [ ! -e go ]; do sleep 0.02; done"
    work = f"{waits}; echo x >&$_OCI_SYNCPIPE && touch told; touch over"
    code = (
        "from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner\n"
        "from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon\n"
        f"argv = ['sh', '-c', 'trap \"\" PIPE; setsid sh -c \"$0\" >log 2>&1 &', {work!r}]\n"
        f"options = dict(cwd={str(tmp_path)!r}, timeout_s=20, outlives_us={outlives_us})\n"
        "conmon.launch(SubprocessRunner(), argv, **options)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as launching:
        eventually((tmp_path / "begun").exists)
        launching.kill()
    (tmp_path / "go").touch()
    eventually((tmp_path / "over").exists)
    assert (tmp_path / "told").exists() == outlives_us


def test_launch_passes_on_conmon_s_refusal() -> None:
    class Refusing:
        def run(self, argv: t.Sequence[str], **_options: t.Any) -> Completed:
            raise CommandError("conmon failed", argv=argv, rc=1)

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandError):
        launch(Refusing())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("send", "line"),
    [
        (conmon.reopen_log, b"2 0 0\n"),
        (lambda fifo: conmon.resize_terminal(fifo, 80, 24), b"1 24 80\n"),
    ],
)
def test_commands(tmp_path: pathlib.Path, send: t.Callable[[str], None], line: bytes) -> None:
    fifo = str(tmp_path / "ctl")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        send(fifo)
        assert os.read(reader, 100) == line
    finally:
        os.close(reader)


@pytest.mark.parametrize("exists", [True, False])
def test_commands_without_a_conmon(tmp_path: pathlib.Path, exists: bool) -> None:
    fifo = str(tmp_path / "ctl")
    if exists:
        os.mkfifo(fifo)
    with pytest.raises(WrongState, match="no conmon"):
        conmon.reopen_log(fifo)


def test_commands_on_what_is_no_fifo(tmp_path: pathlib.Path) -> None:
    with pytest.raises(IsADirectoryError):
        conmon.reopen_log(str(tmp_path))


@pytest.mark.parametrize(
    ("width", "height", "field"), [(0, 1, "width"), (1, 0, "height"), (1001, 1, "width")]
)
def test_resize_out_of_range(width: int, height: int, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        conmon.resize_terminal("/no/fifo", width, height)
    assert caught.value.field == field


@pytest.mark.parametrize("path", ["relative", "/with:colon"])
def test_log_path(path: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        conmon.check_log_path(path)
    assert caught.value.field == "log_path"
