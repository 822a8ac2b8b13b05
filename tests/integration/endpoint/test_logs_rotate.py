# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotate logs of containers that write, by runs that are killed, without losing a line."""

from __future__ import annotations

import glob
import gzip
import os
import random
import re
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = pytest.mark.host

_WRITE = "i=0; while [ $i -lt {count} ]; do echo line-$i; i=$((i+1)); {pause}; done; exec sleep 1000"


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    with running_endpoint() as made:
        yield made


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint) -> t.Iterator[None]:
    yield
    if not endpoint.is_running:
        endpoint.start()
    endpoint.remove_all()
    assert endpoint.tracebacks() == []


def _writer(endpoint: Endpoint, count: int, pause: str = ":") -> tuple[str, str]:
    """Run a container that writes lines and return its id and log."""
    _pod, container = endpoint.run_container(["sh", "-c", _WRITE.format(count=count, pause=pause)])
    return container, endpoint.cri.container_status(container).log_path


def _lines(log: str) -> list[str]:
    """Return all lines in all files of a log; conmon cuts some in two (CRI, «P» and «F»)."""
    text = ""
    for path in [*sorted(glob.glob(f"{glob.escape(log)}.2*")), log]:
        with gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="ascii") as stream:
            for line in stream:
                _time, _stream, kind, rest = line.rstrip("\n").split(" ", 3)
                text += rest + ("\n" if kind == "F" else "")
    return text.splitlines()


def _rotate(endpoint: Endpoint, *options: str, code: int = 0) -> list[str]:
    done = endpoint.command("logs", "rotate", *options)
    assert done.returncode == code, done.stdout + done.stderr
    return (done.stdout + done.stderr).splitlines()


def _files(log: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(log)))


def test_rotate_as_kubelet_does(endpoint: Endpoint) -> None:
    container, log = _writer(endpoint, 2000)
    eventually(lambda: _lines(log)[-1:] == ["line-1999"])
    assert _rotate(endpoint) == []
    told = _rotate(endpoint, "--max-size", "10k")
    assert len(told) == 1
    assert re.fullmatch(rf"{log}: \d+ bytes moved to app\.log\.\d{{8}}-\d{{6}}", told[0])
    names = _files(log)
    assert [name.startswith(("app.log", "app.log.2")) for name in names] == [True, True]
    assert os.path.getsize(log) == 0
    assert _lines(log) == [f"line-{number}" for number in range(2000)]
    # It goes on in the new file, at its former mode.
    assert os.stat(log).st_mode == os.stat(f"{os.path.dirname(log)}/{names[1]}").st_mode
    assert endpoint.cri.container_status(container).log_path == log


def test_older_ones_are_packed_and_the_oldest_go(endpoint: Endpoint) -> None:
    _container, log = _writer(endpoint, 10**6, "sleep 0.01")
    for _unused in range(5):
        eventually(lambda: os.path.getsize(log) > 200)
        _rotate(endpoint, "--max-size", "100", "--max-files", "3")
    names = _files(log)
    assert len(names) == 3
    assert [name.endswith(".gz") for name in names] == [False, True, False]
    lines = _lines(log)
    first = int(lines[0].removeprefix("line-"))
    assert first > 0
    assert lines == [f"line-{first + number}" for number in range(len(lines))]


def test_killed_runs_lose_no_line(endpoint: Endpoint) -> None:
    _container, log = _writer(endpoint, 10**7, "[ $((i % 50)) -ne 0 ] || sleep 0.01")
    chance = random.Random(1)
    for _unused in range(25):
        run = endpoint.begin_command("logs", "rotate", "--max-size", "1k", "--max-files", "1000")
        time.sleep(chance.uniform(0.12, 0.4))
        run.kill()
        run.wait()
    _rotate(endpoint, "--max-size", "1k", "--max-files", "1000")
    lines = _lines(log)
    assert lines == [f"line-{number}" for number in range(len(lines))]
    assert len(lines) > 1000


def test_run_that_was_killed_in_between_is_gone_on_with(endpoint: Endpoint) -> None:
    _container, log = _writer(endpoint, 10**6, "sleep 0.01")
    eventually(lambda: os.path.getsize(log) > 100)
    os.rename(log, f"{log}.20260102-030405")
    assert _rotate(endpoint) == [f"{log}: begun anew, its file was not there"]
    eventually(lambda: os.path.getsize(log) > 100)
    lines = _lines(log)
    assert lines == [f"line-{number}" for number in range(len(lines))]


def test_container_that_ended_in_between_has_its_log_back(endpoint: Endpoint) -> None:
    container, log = _writer(endpoint, 100)
    eventually(lambda: _lines(log)[-1:] == ["line-99"])
    os.rename(log, f"{log}.20260102-030405")
    endpoint.cri.stop(container)
    eventually(lambda: _rotate(endpoint) == [f"{log}: back in its place, its container has ended"])
    assert _files(log) == ["app.log"]
    assert len(_lines(log)) == 100
    assert _rotate(endpoint, "--max-size", "1") == []


def test_endpoint_that_is_down_moves_nothing(endpoint: Endpoint) -> None:
    _container, log = _writer(endpoint, 2000)
    eventually(lambda: _lines(log)[-1:] == ["line-1999"])
    endpoint.kill()
    told = _rotate(endpoint, "--max-size", "1", code=3)
    assert "nobody listens on it" in told[0]
    assert _files(log) == ["app.log"]


def test_logs_of_nobody_are_left_alone(endpoint: Endpoint) -> None:
    _container, log = _writer(endpoint, 10)
    other = f"{os.path.dirname(log)}/other.log"
    with open(other, "w", encoding="ascii") as stream:
        stream.write("x" * 10_000)
    _rotate(endpoint, "--max-size", "5k")
    assert _files(log) == ["app.log", "other.log"]
