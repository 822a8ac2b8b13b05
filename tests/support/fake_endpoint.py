# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer CRI calls as a test wants it, over HTTP/2 of another make.

    with FakeEndpoint(path, {"Version": pb.VersionResponse(version="1")}) as endpoint:
        ...
        assert [name for name, _request in endpoint.calls] == ["Version"]

An answer is a message, a `Code` with its text, a function of the request that returns one of these, or one of
`HANG` (never answered), `CLOSE` (the connection ends), `RESET` (the stream does), or a `Raw`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import typing as t

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from google.protobuf.message import Message

from pvecri.api.methods import METHODS
from pvecri.rpc.calls import escaped
from pvecri.rpc.status import Code

HANG, CLOSE, RESET = object(), object(), object()


@dataclasses.dataclass(frozen=True)
class Raw:
    """Fields and data as they are to be sent; no trailers where ``trailers`` is None."""

    fields: t.Sequence[tuple[str, str]]
    data: bytes = b""
    trailers: t.Sequence[tuple[str, str]] | None = None


Answer = t.Any


class FakeEndpoint:
    """A server on a unix socket; a context manager."""

    def __init__(self, path: str, answers: t.Mapping[str, Answer]) -> None:
        self.path = path
        self.answers = dict(answers)
        self.calls: list[tuple[str, t.Any]] = []
        #: Fields of the requests, in their order.
        self.fields: list[dict[str, str]] = []
        self.connections = 0
        #: Ends each connection after its next answer, as a server that stops does.
        self.says_goodbye = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> t.Self:
        self._socket.bind(self.path)
        self._socket.listen()
        self._start(self._accept)
        return self

    def __exit__(self, *_unused: object) -> None:
        self.disconnect()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)
        os.unlink(self.path)

    def disconnect(self) -> None:
        """End all connections."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _start(self, act: t.Callable[..., None], *arguments: t.Any) -> None:
        thread = threading.Thread(target=act, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._socket.accept()[0]
                self.connections += 1
                self._open.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        peer = h2.connection.H2Connection(config)
        peer.initiate_connection()
        bodies: dict[int, bytearray] = {}
        fields: dict[int, dict[str, str]] = {}
        # Who has said goodbye takes nothing any more, not even acknowledgements.
        with client, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            client.sendall(peer.data_to_send())
            while data := client.recv(65536):
                for event in peer.receive_data(data):
                    match event:
                        case h2.events.RequestReceived():
                            fields[event.stream_id] = dict(event.headers)
                            bodies[event.stream_id] = bytearray()
                        case h2.events.DataReceived():
                            bodies[event.stream_id] += event.data
                            peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                        case h2.events.StreamEnded():
                            stream_id = event.stream_id
                            answer = self._answer(fields[stream_id], bytes(bodies[stream_id]))
                            if answer is CLOSE:
                                return
                            self._send(client, peer, stream_id, answer)
                client.sendall(peer.data_to_send())

    def _answer(self, fields: dict[str, str], body: bytes) -> Answer:
        name = fields[":path"].rpartition("/")[2]
        assert int.from_bytes(body[1:5], "big") == len(body) - 5
        request = METHODS[name].request.FromString(body[5:])
        self.calls.append((name, request))
        self.fields.append(fields)
        answer = self.answers.get(name, (Code.UNIMPLEMENTED, f"there is no {name}"))
        return answer(request) if callable(answer) else answer

    def _send(self, client: socket.socket, peer: t.Any, stream_id: int, answer: Answer) -> None:
        if answer is RESET:
            peer.reset_stream(stream_id, 2)
        if answer is HANG or answer is RESET:
            return
        raw = _raw(answer)
        has_more = bool(raw.data) or raw.trailers is not None
        peer.send_headers(stream_id, list(raw.fields), end_stream=not has_more)
        at = 0
        while at < len(raw.data):
            room = min(peer.local_flow_control_window(stream_id), peer.max_outbound_frame_size)
            if room:
                peer.send_data(stream_id, raw.data[at : at + room])
                at += room
            client.sendall(peer.data_to_send())
            if not room:
                # The client has one call at a time: nothing but room for more can come.
                peer.receive_data(client.recv(65536))
        if raw.trailers is not None:
            peer.send_headers(stream_id, list(raw.trailers), end_stream=True)
        elif has_more:
            peer.end_stream(stream_id)
        if self.says_goodbye:
            peer.close_connection()


def _raw(answer: Answer) -> Raw:
    head = [(":status", "200"), ("content-type", "application/grpc")]
    if isinstance(answer, Message):
        data = answer.SerializeToString()
        return Raw(head, b"\0" + len(data).to_bytes(4, "big") + data, [("grpc-status", "0")])
    if isinstance(answer, tuple):
        code, text = answer
        return Raw([*head, ("grpc-status", str(int(code))), ("grpc-message", escaped(text).decode())])
    return t.cast("Raw", answer)
