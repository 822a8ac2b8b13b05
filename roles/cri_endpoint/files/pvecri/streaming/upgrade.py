# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a request into streams: decide between SPDY/3.1 and WebSocket, agree on a protocol, answer 101.

Protocols by the client's order of preference, as kubelet's own streaming server takes them:

    exec, attach   SPDY        v4.channel.k8s.io … channel.k8s.io (v1)
                   WebSocket   v5, v4 and v1 of channel.k8s.io, v4 and v1 as base64; none is v1
    port-forward   SPDY        portforward.k8s.io
                   WebSocket   SPDY/3.1+portforward.k8s.io (a tunnel), v4.channel.k8s.io, also as base64
"""

from __future__ import annotations

import base64
import binascii
import typing as t

from wsproto.utilities import generate_accept_token

from pvecri.streaming.channel import ForwardSession, Limits, RemoteChannels, StreamOptions
from pvecri.streaming.spdy import SpdySession
from pvecri.streaming.spdy_streams import ForwardStreams, RemoteStreams
from pvecri.streaming.tunnel import Tunnel
from pvecri.streaming.upgrade_request import UpgradeError, UpgradeRequest
from pvecri.streaming.websocket_channels import (
    PORTS_MAX,
    ForwardChannels,
    SocketChannels,
    forward_session,
    remote_channels,
)
from pvecri.streaming.wire import Connection

_SPDY = "SPDY/3.1"
_TUNNEL = "SPDY/3.1+portforward.k8s.io"
_REMOTE_OVER_SPDY = {f"{version}.channel.k8s.io": version for version in ("v4", "v3", "v2")} | {
    "channel.k8s.io": "v1"
}
_REMOTE_OVER_WEBSOCKET = {
    "v5.channel.k8s.io": "v5",
    "v4.channel.k8s.io": "v4",
    "v4.base64.channel.k8s.io": "v4",
    "channel.k8s.io": "v1",
    "base64.channel.k8s.io": "v1",
    "": "v1",
}
_FORWARD_OVER_SPDY = ("portforward.k8s.io",)
_FORWARD_OVER_WEBSOCKET = (_TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
_KEY_BYTES = 16


async def upgrade_remote(request: UpgradeRequest, options: StreamOptions, limits: Limits) -> RemoteChannels:
    """Answer a request for exec or attach, and return its streams when the client has opened them.

    Raises `UpgradeError` while HTTP can still answer, then `ChannelReset`.
    """
    if _is_websocket(request):
        name = _agree_websocket(request, _REMOTE_OVER_WEBSOCKET)
        version = _REMOTE_OVER_WEBSOCKET[name]
        wire = Connection(request.transport, limits)
        channels = SocketChannels(wire, is_base64="base64" in name, has_close=version == "v5")
        # The channels exist from the beginning, so they must be there when the first bytes are read.
        wire.start(channels.socket, _websocket_answer(request, name))
        session = remote_channels(channels, version, options)
        wire.go_on(request.leftover)
        return session
    name = _agree_spdy(request, _REMOTE_OVER_SPDY)
    wire = Connection(request.transport, limits)
    streams = RemoteStreams(options, _REMOTE_OVER_SPDY[name])
    spdy = SpdySession(wire, limits, streams)
    wire.start(spdy, _spdy_answer(name))
    wire.go_on(request.leftover)
    return await streams.complete(spdy, limits)


async def upgrade_forward(request: UpgradeRequest, ports: t.Sequence[int], limits: Limits) -> ForwardSession:
    """Answer a request for port-forward; the ports matter where the client does not name one per connection.

    Raises `UpgradeError`.
    """
    if not _is_websocket(request):
        name = _agree_spdy(request, _FORWARD_OVER_SPDY)
        wire = Connection(request.transport, limits)
        streams = ForwardStreams(limits)
        spdy = SpdySession(wire, limits, streams)
        session = streams.open(spdy)
        wire.start(spdy, _spdy_answer(name))
        wire.go_on(request.leftover)
        return session
    name = _agree_websocket(request, _FORWARD_OVER_WEBSOCKET)
    if name != _TUNNEL and not ports:
        raise UpgradeError(400, "port-forward over WebSocket channels needs at least one port in the request")
    if name != _TUNNEL and len(ports) > PORTS_MAX:
        raise UpgradeError(400, f"port-forward over WebSocket channels takes {PORTS_MAX} ports at most")
    wire = Connection(request.transport, limits)
    if name == _TUNNEL:
        streams = ForwardStreams(limits)
        tunnel = Tunnel(wire, limits, streams)
        session = streams.open(tunnel.spdy)
        wire.start(tunnel.socket, _websocket_answer(request, name))
    else:
        channels = ForwardChannels(wire, is_base64="base64" in name)
        wire.start(channels.socket, _websocket_answer(request, name))
        session = forward_session(channels, ports)
    wire.go_on(request.leftover)
    return session


def _is_websocket(request: UpgradeRequest) -> bool:
    """Tell WebSocket from SPDY; raises `UpgradeError` for anything else."""
    if "upgrade" in (item.lower() for item in request.listed("connection")):
        offered = [item.lower() for item in request.listed("upgrade")]
        if "websocket" in offered:
            return True
        if _SPDY.lower() in offered:
            return False
    raise UpgradeError(
        400,
        f"this address is for streams: ask for an upgrade to {_SPDY} or to websocket",
        [(b"Upgrade", f"{_SPDY}, websocket".encode())],
    )


def _agree_spdy(request: UpgradeRequest, names: t.Collection[str]) -> str:
    """Return the first stream protocol of the client's that is known here."""
    offered = request.listed("x-stream-protocol-version")
    if not offered:
        raise UpgradeError(400, "the header X-Stream-Protocol-Version is missing or empty")
    for name in offered:
        if name in names:
            return name
    accepted = [(b"X-Accepted-Stream-Protocol-Versions", name.encode()) for name in names]
    raise UpgradeError(
        403, f"no stream protocol in common: {_shown(offered)} here {', '.join(names)}", accepted
    )


def _agree_websocket(request: UpgradeRequest, names: t.Collection[str]) -> str:
    """Check the handshake (RFC 6455, section 4.2.1); return the subprotocol, empty when none is asked for."""
    if request.method != "GET":
        raise UpgradeError(405, "a WebSocket begins with GET", [(b"Allow", b"GET")])
    if request.values("sec-websocket-version") != ["13"]:
        raise UpgradeError(426, "version 13 of WebSocket is needed", [(b"Sec-WebSocket-Version", b"13")])
    keys = request.values("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise UpgradeError(400, "the header Sec-WebSocket-Key must have 16 bytes as base64")
    offered = request.listed("sec-websocket-protocol")
    for name in offered or [""]:
        if name in names:
            return name
    known = ", ".join(name for name in names if name)
    raise UpgradeError(403, f"no stream protocol in common: {_shown(offered)} here {known}")


def _shown(offered: t.Sequence[str]) -> str:
    return f"the client has {', '.join(offered)[:200]!r},"


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _spdy_answer(name: str) -> bytes:
    return _answer({"Upgrade": _SPDY, "X-Stream-Protocol-Version": name})


def _websocket_answer(request: UpgradeRequest, name: str) -> bytes:
    accept = generate_accept_token(request.values("sec-websocket-key")[0].encode()).decode()
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Accept": accept}
    if name:
        headers["Sec-WebSocket-Protocol"] = name
    return _answer(headers)


def _answer(headers: dict[str, str]) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()
