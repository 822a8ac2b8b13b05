# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assemble the daemon, and see it end in order when its start fails."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import pathlib
import sys
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingDependency
from ansible_collections.pvecri.runtime.tests.support.cri_client import AsyncCri
from pvecri.config.load import ConfigError, Loaded, parse
from pvecri.config.model import Config, LogConfig, NetworkConfig
from pvecri.context import Context
from pvecri.daemon import daemon as module
from pvecri.daemon.assembly import build_context, database_path
from pvecri.daemon.daemon import Daemon, changed
from pvecri.daemon.reaper import Reaper

LOG = logging.getLogger("pvecri.test")


@pytest.fixture
def loaded(tmp_path: pathlib.Path) -> Loaded:
    crun = tmp_path / "crun"
    crun.write_text("#!/bin/sh\necho 'crun version 1.8.1'\n")
    crun.chmod(0o755)
    for name in ("s", "r"):
        (tmp_path / name).mkdir()
    text = (
        f'[server]\nsocket = "{tmp_path}/p"\n[paths]\nstate_dir = "{tmp_path}/s"\nrun_dir = "{tmp_path}/r"\n'
        f'[runtime]\ncrun = "{crun}"\n'
    )
    return parse(text.encode(), str(tmp_path / "c.toml"))


@pytest.fixture
def context(loaded: Loaded) -> t.Iterator[Context]:
    made = build_context(loaded, LOG)
    yield made
    made.registry.close()


def with_driver(context: Context, driver: str, *, has_systemd: bool) -> bool:
    runtime = dataclasses.replace(context.config.runtime, cgroup_driver=driver)
    context.config = dataclasses.replace(context.config, runtime=runtime)
    context.host = dataclasses.replace(context.host, has_systemd=has_systemd)
    return context.uses_systemd


@pytest.mark.parametrize(
    ("driver", "has_systemd", "expected"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("systemd", False, True),
        ("cgroupfs", True, False),
    ],
)
def test_uses_systemd(context: Context, driver: str, has_systemd: bool, expected: bool) -> None:
    assert with_driver(context, driver, has_systemd=has_systemd) is expected


def test_build_context_needs_crun(loaded: Loaded, tmp_path: pathlib.Path) -> None:
    (tmp_path / "crun").unlink()
    with pytest.raises(MissingDependency, match=f"program '{tmp_path}/crun' was not found"):
        build_context(loaded, LOG)


def test_build_context_needs_a_policy_that_makes_sense(loaded: Loaded) -> None:
    runtime = dataclasses.replace(loaded.config.runtime, policy={"default": "x"})
    bad = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, runtime=runtime))
    with pytest.raises(ConfigError, match=r"runtime\.policy\.default"):
        build_context(bad, LOG)


def test_build_context_says_where_damaged_records_are(
    loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    pathlib.Path(database_path(loaded.config.paths.state_dir)).write_bytes(b"no database" * 100)
    context = build_context(loaded, LOG)
    context.registry.close()
    (record,) = [each for each in caplog.records if each.message == "records were damaged and begun anew"]
    assert os.path.exists(record.__dict__["kept"])


def test_changed_names_what_differs() -> None:
    other = Config(log=LogConfig(level="debug"), network=NetworkConfig(timeout_s=1))
    assert changed(Config(), Config()) == set()
    assert changed(Config(), other) == {("log", "level"), ("network", "timeout_s")}


def test_daemon_ends_in_order_when_it_cannot_look_around(
    loaded: Loaded, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        made = Daemon(loaded, context, Reaper())
        monkeypatch.setattr(made._recovery, "survey", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await made.serve()

    asyncio.run(run())
    assert not os.path.exists(loaded.config.server.socket)


def test_daemon_says_that_it_is_starting(
    loaded: Loaded, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[str]:
        made = Daemon(loaded, context, Reaper())
        looking, may_go_on = asyncio.Event(), asyncio.Event()

        async def survey(_act: t.Any) -> list[t.Any]:
            looking.set()
            await may_go_on.wait()
            return []

        monkeypatch.setattr(made, "_in_house", survey)
        monkeypatch.setattr(made._monitor, "start", lambda: None)
        monkeypatch.setattr(made._monitor, "stop", lambda: None)
        serving = asyncio.create_task(made.serve())
        await looking.wait()
        said = []
        async with AsyncCri(loaded.config.server.socket) as cri:
            status = await cri.call("Status")
            said += [each.reason for each in status.status.conditions if each.type == "RuntimeReady"]
            may_go_on.set()
            while said[-1]:
                status = await cri.call("Status")
                said += [each.reason for each in status.status.conditions if each.type == "RuntimeReady"]
        made._stop.set()
        assert await serving == 0
        return said

    assert asyncio.run(run())[0] == "Starting"


def test_loop_is_asyncio_s_own_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert module._loop_factory() is None
