# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give out URLs, let their clients in, and end their sessions."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import pathlib
import subprocess
import types
import typing as t
import urllib.parse

import pytest
import uvloop

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.tests.support import endpoint_process, records
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import Config, StreamingConfig
from pvecri.daemon.operations import Operations
from pvecri.errors import TooBusy, Unavailable
from pvecri.rpc.streams import StreamRpc
from pvecri.state.records import Phase
from pvecri.state.registry import Registry
from pvecri.streaming import server
from pvecri.streaming.channel import Limits
from pvecri.streaming.requests import Kind
from pvecri.streaming.service import Streaming
from pvecri.streaming.tokens import MAX_OUTSTANDING

POD, APP = records.new_id("aa"), records.new_id("cc")
SPDY = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {}\r\n"
EXEC, FORWARD = SPDY.format("v4.channel.k8s.io"), SPDY.format("portforward.k8s.io")
WEBSOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)


class Lab:
    """Streams of a registry with one pod and one container."""

    def __init__(self, path: pathlib.Path, **config: t.Any) -> None:
        self.registry = Registry.open(str(path / "db"))
        self.registry.reserve_sandbox(records.sandbox(id=POD))
        self.registry.reserve_container(records.container(POD, id=APP, phase=Phase.RUNNING))
        context: t.Any = types.SimpleNamespace(
            config=Config(streaming=StreamingConfig(**config)), registry=self.registry, runtimes=None
        )
        self.operations = Operations()
        self.streaming = Streaming(context, self.operations)
        self.handlers: t.Any = StreamRpc(self.streaming, self.registry).handlers()

    async def exec(self, **fields: t.Any) -> str:
        request = pb.ExecRequest(**{"container_id": APP, "cmd": ["true"], "stdout": True, **fields})
        return str(pb.ExecResponse.FromString(await self.handlers["Exec"](request)).url)

    async def attach(self, **fields: t.Any) -> str:
        request = pb.AttachRequest(**{"container_id": APP, "stdout": True, **fields})
        return str(pb.AttachResponse.FromString(await self.handlers["Attach"](request)).url)

    async def forward(self, **fields: t.Any) -> str:
        request = pb.PortForwardRequest(**{"pod_sandbox_id": POD, **fields})
        return str(pb.PortForwardResponse.FromString(await self.handlers["PortForward"](request)).url)


async def connect(url: str, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{head}\r\n".encode())
    return reader, writer


async def ask(url: str, head: str = "") -> tuple[int, dict[str, t.Any]]:
    """Return status and content of an answer that is no upgrade."""
    reader, writer = await connect(url, head)
    head_bytes, _blank, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    assert b"Content-Type: application/json" in head_bytes
    return int(head_bytes.split()[1]), json.loads(body)


def run(
    scenario: t.Callable[[Lab], t.Coroutine[t.Any, t.Any, None]], path: pathlib.Path, **config: t.Any
) -> None:
    async def work() -> None:
        lab = Lab(path, **config)
        try:
            await scenario(lab)
        finally:
            await lab.streaming.close(1)
            lab.operations.close()
            lab.registry.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work(), 30))


def test_urls_name_kind_and_address_and_start_one_listener(tmp_path):
    async def scenario(lab: Lab) -> None:
        assert dict(lab.streaming.sessions) == dict(lab.streaming.served) == dict.fromkeys(Kind, 0)
        urls = await asyncio.gather(lab.exec(), lab.attach(), lab.forward(), lab.exec())
        kinds = [urllib.parse.urlsplit(url).path.split("/")[1] for url in urls]
        assert kinds == ["exec", "attach", "portforward", "exec"]
        assert len({urllib.parse.urlsplit(url).netloc for url in urls}) == 1

    run(scenario, tmp_path)


def test_wrong_requests_get_no_url(tmp_path):
    async def scenario(lab: Lab) -> None:
        for call, kind in (
            (lab.exec(cmd=[]), InvalidSpec),
            (lab.attach(stdout=False), InvalidSpec),
            (lab.forward(pod_sandbox_id="ffff"), NotFound),
        ):
            with pytest.raises(kind):
                await call

    run(scenario, tmp_path)


def test_too_many_urls_are_refused(tmp_path):
    async def scenario(lab: Lab) -> None:
        for _unused in range(MAX_OUTSTANDING):
            await lab.exec()
        with pytest.raises(TooBusy):
            await lab.attach()

    run(scenario, tmp_path)


def test_an_address_that_cannot_be_had_is_told_each_time(tmp_path):
    async def scenario(lab: Lab) -> None:
        for _unused in range(2):
            with pytest.raises(WrongState, match=r"192\.0\.2\.7"):
                await lab.exec()

    run(scenario, tmp_path, address="192.0.2.7", tls_cert="")


def test_certificates_that_are_none_are_told(tmp_path):
    async def scenario(lab: Lab) -> None:
        with pytest.raises(WrongState, match="are no certificate and its key"):
            await lab.exec()

    run(scenario, tmp_path, tls_cert="/no/such", tls_key="/no/such")


def test_a_daemon_that_stops_gives_out_nothing_and_listens_no_more(tmp_path):
    async def scenario(lab: Lab) -> None:
        url = await lab.exec()
        await lab.streaming.close(1)
        with pytest.raises(ConnectionRefusedError):
            await connect(url, EXEC)

    run(scenario, tmp_path)


def test_a_daemon_that_stops_does_not_begin_to_listen(tmp_path):
    async def unused(lab: Lab) -> None:
        await lab.streaming.close(1)
        with pytest.raises(Unavailable, match="stopping"):
            await lab.exec()

    run(unused, tmp_path)


def test_refusals_are_a_status_that_clients_can_read(tmp_path):
    async def scenario(lab: Lab) -> None:
        url = await lab.exec()
        code, said = await ask(url)
        assert (code, said["kind"], said["reason"], said["code"]) == (400, "Status", "BadRequest", 400)
        code, said = await ask(url, EXEC)
        assert (code, said["reason"]) == (404, "NotFound")
        assert "for one connection" in said["message"]

    run(scenario, tmp_path)


def test_what_ended_meanwhile_is_told(tmp_path):
    async def scenario(lab: Lab) -> None:
        urls = [await lab.exec(), await lab.attach(), await lab.forward()]
        lab.registry.update_container(APP, phase=Phase.EXITED)
        lab.registry.update_sandbox(POD, phase=Phase.STOPPED)
        for url in urls:
            code, said = await ask(url, EXEC)
            assert (code, said["reason"]) == (409, "Conflict")
            assert "not r" in said["message"]
        lab.registry.update_container(APP, phase=Phase.RUNNING)
        url = await lab.exec()
        lab.registry.remove_container(APP)
        assert (await ask(url, EXEC))[0] == 404

    run(scenario, tmp_path)


def test_more_sessions_than_allowed_are_refused_until_one_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_SESSIONS", 1)

    async def scenario(lab: Lab) -> None:
        reader, writer = await connect(await lab.forward(), FORWARD)
        assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
        assert lab.streaming.sessions == {Kind.EXEC: 0, Kind.ATTACH: 0, Kind.FORWARD: 1}
        url = await lab.forward()
        assert (await ask(url, FORWARD))[0] == 503
        writer.close()
        while lab.streaming.sessions[Kind.FORWARD]:
            await asyncio.sleep(0.01)
        # The URL is not used up by a refusal.
        reader, writer = await connect(url, FORWARD)
        assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert lab.streaming.served[Kind.FORWARD] == 2

    run(scenario, tmp_path)


def test_a_client_that_opens_no_streams_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "Limits", functools.partial(Limits, creation_timeout_s=0.05))

    async def scenario(lab: Lab) -> None:
        reader, writer = await connect(await lab.exec(), EXEC)
        assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
        # GOAWAY
        assert (await reader.readexactly(4)) == b"\x80\x03\x00\x07"
        writer.close()
        while lab.streaming.sessions[Kind.EXEC]:
            await asyncio.sleep(0.01)

    run(scenario, tmp_path)


def test_a_fault_ends_one_client_and_is_logged(tmp_path, monkeypatch, caplog):
    async def crash(*_unused: t.Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server.RemoteSessions, "run_exec", crash)

    async def scenario(lab: Lab) -> None:
        reader, writer = await connect(await lab.exec(), WEBSOCKET)
        with contextlib.suppress(ConnectionResetError):
            await reader.read(-1)
        writer.close()
        reader, writer = await connect(await lab.forward(), FORWARD)
        assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
        writer.close()

    with caplog.at_level(logging.ERROR):
        run(scenario, tmp_path)
    assert [record.message for record in caplog.records] == ["stream crashed"]


def test_close_cuts_off_sessions_that_do_not_end(tmp_path, monkeypatch, caplog):
    begun = asyncio.Event()

    async def hang(*_unused: t.Any) -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
                return
            if len(cancelled) > 1:
                raise asyncio.CancelledError
            cancelled.append(True)

    cancelled: list[bool] = []
    monkeypatch.setattr(server.RemoteSessions, "run_attach", hang)

    async def scenario(lab: Lab) -> None:
        _reader, writer = await connect(await lab.attach(), WEBSOCKET)
        await begun.wait()
        await lab.streaming.close(0.05)
        assert "streams were cut off" in [record.message for record in caplog.records]
        cancelled.append(True)
        writer.close()

    run(scenario, tmp_path)


def test_old_certificates_stay_when_new_ones_are_none(tmp_path, caplog):
    class Broken:
        context = None

        def refresh(self) -> None:
            raise InvalidSpec("streaming.tls_cert", "no certificate")

    async def scenario(lab: Lab) -> None:
        await lab.exec()
        made: t.Any = lab.streaming._server
        made._tls = Broken()
        url = await lab.exec()
        assert (await ask(url))[0] == 400

    run(scenario, tmp_path)
    assert "the old certificate stays in use" in [record.message for record in caplog.records]


def test_the_daemon_starts_without_what_streams_need():
    code = (
        "import sys, pvecri.daemon.daemon; "
        "print([name for name in ('h11', 'wsproto', 'pvecri.streaming.server') if name in sys.modules])"
    )
    done = subprocess.run(
        [endpoint_process.PYTHON, "-P", "-c", code],
        env=endpoint_process.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
