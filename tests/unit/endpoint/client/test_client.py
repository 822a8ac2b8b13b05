# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call methods and wait for their answers."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.fake_endpoint import (
    CLOSE,
    HANG,
    RESET,
    FakeEndpoint,
    Raw,
)
from pvecri.api import cri_pb2 as pb
from pvecri.client import connection
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint, Reason
from pvecri.rpc.status import Code

_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
_VERSION = pb.VersionResponse(runtime_name="fake", runtime_version="1")


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def endpoint(path: str) -> t.Iterator[FakeEndpoint]:
    with FakeEndpoint(path, {"Version": _VERSION}) as made:
        yield made


def test_calls_share_a_connection(endpoint: FakeEndpoint) -> None:
    with Client(endpoint.path) as client:
        for _unused in range(3):
            assert client.call(pb.VersionRequest(version="v1")) == _VERSION
        client.close()
        assert client.call(pb.VersionRequest()) == _VERSION
    assert endpoint.connections == 2
    assert [request.version for _name, request in endpoint.calls] == ["v1", "v1", "v1", ""]


def test_deadline_is_told(endpoint: FakeEndpoint) -> None:
    with Client(endpoint.path, timeout_s=7) as client:
        client.call(pb.VersionRequest())
        client.call(pb.VersionRequest(), timeout_s=3)
        client.call(pb.VersionRequest(), timeout_s=1e9)
    told = [int(fields["grpc-timeout"].removesuffix("m")) for fields in endpoint.fields]
    assert 0 < told[0] <= 7000
    assert 0 < told[1] <= 3000
    assert told[2] == 99_999_999


def test_long_messages_both_ways(endpoint: FakeEndpoint) -> None:
    # Longer than one frame and than HTTP/2's first windows.
    text = "x" * 300_000
    answer = pb.ExecSyncResponse(stdout=b"y" * 3_000_000)
    endpoint.answers["ExecSync"] = answer
    request = pb.ExecSyncRequest(container_id=text)
    with Client(endpoint.path) as client:
        for _unused in range(3):
            assert client.call(request) == answer
    assert endpoint.calls[0][1] == request


@pytest.mark.parametrize("text", ["", "plain", "100 % «with» signs\nand lines"])
def test_status_is_an_error(endpoint: FakeEndpoint, text: str) -> None:
    endpoint.answers["Version"] = (Code.NOT_FOUND, text)
    with Client(endpoint.path) as client, pytest.raises(CallFailed) as caught:
        client.call(pb.VersionRequest())
    error = caught.value
    assert (error.status, error.text, error.method, error.is_temporary) == (
        Code.NOT_FOUND,
        text,
        "Version",
        False,
    )
    assert error.details() == {
        "error": "call_failed",
        "method": "Version",
        "status": "NOT_FOUND",
        "text": text,
    }


def test_status_that_nobody_knows(endpoint: FakeEndpoint) -> None:
    endpoint.answers["Version"] = Raw([*_HEAD, ("grpc-status", "99")])
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match=r"Version was answered UNKNOWN$"):
        client.call(pb.VersionRequest())


def test_unavailable_is_temporary(endpoint: FakeEndpoint) -> None:
    endpoint.answers["Version"] = (Code.UNAVAILABLE, "the endpoint is starting. Try again")
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="is starting") as caught:
        client.call(pb.VersionRequest())
    assert caught.value.is_temporary


def test_deadline_passes_and_the_next_call_works(endpoint: FakeEndpoint) -> None:
    endpoint.answers["Version"] = HANG
    with Client(endpoint.path) as client:
        with pytest.raises(CallFailed, match=r"no answer came within 0.05 s") as caught:
            client.call(pb.VersionRequest(), timeout_s=0.05)
        assert caught.value.status is Code.DEADLINE_EXCEEDED
        assert caught.value.is_temporary
        endpoint.answers["Version"] = _VERSION
        assert client.call(pb.VersionRequest()) == _VERSION
    assert endpoint.connections == 2


def test_deadline_that_is_over_already(endpoint: FakeEndpoint) -> None:
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="DEADLINE_EXCEEDED"):
        client.call(pb.VersionRequest(), timeout_s=0)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (CLOSE, "closed the connection before it had answered|the connection broke"),
        (RESET, r"answered by a reset stream \(error 2\) and no gRPC status"),
        (Raw([(":status", "404")], b"no"), "answered by HTTP status 404"),
        (Raw([*_HEAD, ("grpc-status", "x")]), "answered by HTTP status 200 and no gRPC status"),
    ],
)
def test_answers_that_are_none(endpoint: FakeEndpoint, answer: t.Any, match: str) -> None:
    endpoint.answers["Version"] = answer
    with Client(endpoint.path) as client:
        with pytest.raises(NoEndpoint, match=match) as caught:
            client.call(pb.VersionRequest())
        assert caught.value.reason is (Reason.CLOSED if answer is CLOSE else Reason.NOT_GRPC)
        endpoint.answers["Version"] = _VERSION
        assert client.call(pb.VersionRequest()) == _VERSION


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0\5ab", b"\1\0\0\0\0", b"\0\0\0\0\2\x0a\x09"])
def test_messages_that_are_none(endpoint: FakeEndpoint, data: bytes) -> None:
    endpoint.answers["Version"] = Raw(_HEAD, data, [("grpc-status", "0")])
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="are no VersionResponse"):
        client.call(pb.VersionRequest())


def test_endpoint_that_was_started_again(endpoint: FakeEndpoint) -> None:
    with Client(endpoint.path) as client:
        client.call(pb.VersionRequest())
        endpoint.disconnect()
        assert client.call(pb.VersionRequest()) == _VERSION
    assert endpoint.connections == 2


def test_endpoint_that_says_goodbye(endpoint: FakeEndpoint) -> None:
    endpoint.says_goodbye = True
    with Client(endpoint.path) as client:
        for _unused in range(2):
            assert client.call(pb.VersionRequest()) == _VERSION
    assert endpoint.connections == 2


def test_no_socket(path: str) -> None:
    with Client(path) as client, pytest.raises(NoEndpoint, match="there is no such socket") as caught:
        client.call(pb.VersionRequest())
    assert caught.value.reason is Reason.MISSING
    assert caught.value.details() == {"error": "no_endpoint", "reason": "missing"}
    assert "systemctl start pvecri" in str(caught.value)


def test_directory_that_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_text("")
    with Client(str(tmp_path / "f" / "s")) as client, pytest.raises(NoEndpoint) as caught:
        client.call(pb.VersionRequest())
    assert caught.value.reason is Reason.MISSING


def test_path_that_is_too_long(tmp_path: pathlib.Path) -> None:
    with Client(str(tmp_path / ("x" * 200))) as client, pytest.raises(NoEndpoint, match="too long") as caught:
        client.call(pb.VersionRequest())
    assert caught.value.reason is Reason.OTHER


def test_nobody_listens(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    with Client(path) as client, pytest.raises(NoEndpoint, match="nobody listens on it") as caught:
        client.call(pb.VersionRequest())
    assert caught.value.reason is Reason.REFUSED


def test_socket_of_datagrams(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        with Client(path) as client, pytest.raises(NoEndpoint, match="no socket of streams") as caught:
            client.call(pb.VersionRequest())
    assert caught.value.reason is Reason.NOT_GRPC


def test_socket_that_may_not_be_opened(path: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who may become somebody else")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chmod(os.path.dirname(path), 0o755)
                os.setuid(65534)
                with Client(path) as client:
                    client.call(pb.VersionRequest(), timeout_s=5)
            except NoEndpoint as exc:
                code = 0 if exc.reason is Reason.DENIED else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"",
        b"\0" * 400,
        b"\xff" * 400,
        b"\0\0\4\0\0\0\0\0\0",
    ],
)
def test_who_speaks_something_else(path: str, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as client:
                client.recv(24)
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(path) as client, pytest.raises(NoEndpoint) as caught:
            client.call(pb.VersionRequest(), timeout_s=10)
        thread.join()
    assert caught.value.reason is Reason.NOT_GRPC
    assert "no gRPC server" in str(caught.value)


def test_who_says_nothing(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with Client(path) as client, pytest.raises(CallFailed, match="DEADLINE_EXCEEDED"):
            client.call(pb.VersionRequest(), timeout_s=0.05)


def test_queue_that_is_full(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            begin = time.monotonic()
            with Client(path) as client, pytest.raises((CallFailed, NoEndpoint)):
                client.call(pb.VersionRequest(), timeout_s=0.05)
            assert time.monotonic() - begin < 10


def test_streams_are_no_answers() -> None:
    with Client("/none") as client, pytest.raises(KeyError):
        client.call(pb.GetEventsRequest())


def test_errors_of_callbacks_reach_the_caller(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(bytearray):
        def __iadd__(self, _other: t.Any) -> t.NoReturn:
            raise MemoryError("no more")

    reply = connection.Reply
    monkeypatch.setattr(connection, "Reply", lambda: reply(data=Full()))
    with Client(endpoint.path) as client:
        with pytest.raises(MemoryError, match="no more"):
            client.call(pb.VersionRequest())
        monkeypatch.undo()
        assert client.call(pb.VersionRequest()) == _VERSION


def test_connection_that_is_reset_meanwhile(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(endpoint.path) as client:
        client.call(pb.VersionRequest())
        made = client._connection
        assert made is not None
        assert made.is_usable
        made._feed(b"\0\0\0\x07\0\0\0\0\1" * 3)  # no GOAWAY is like this: HTTP/2 ends here
        assert not made.is_usable
        assert client.call(pb.VersionRequest()) == _VERSION
        made = client._connection
        assert made is not None
        made.close()
        assert not made.is_usable
    assert endpoint.connections == 2


def test_breach_of_http2_ends_the_connection(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        done = threading.Event()

        def serve() -> None:
            with listener.accept()[0] as client:
                # Settings as they should be, then data on a stream that cannot be, and no end.
                client.sendall(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\1\0\0\0\0\0\0x")
                done.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(path) as client, pytest.raises(NoEndpoint, match="breach of HTTP/2") as caught:
            client.call(pb.VersionRequest(), timeout_s=10)
        done.set()
        thread.join()
    assert caught.value.reason is Reason.CLOSED


def test_interrupt_without_a_call_does_nothing(endpoint: FakeEndpoint) -> None:
    with Client(endpoint.path) as client:
        client.interrupt()
        client.call(pb.VersionRequest())
        client.interrupt()
        client.interrupt()
        assert client.call(pb.VersionRequest()) == _VERSION
    assert endpoint.connections == 2
