# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the daemon from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import signal

from pvecri.config.load import Loaded
from pvecri.config.model import Config
from pvecri.daemon.socket import ListenSocket
from pvecri.rpc.runtime import RuntimeRpc
from pvecri.rpc.server import Gate, Server


def run(loaded: Loaded, *, log_level: str | None = None) -> int:
    """Serve until a signal says stop."""
    logging.basicConfig(level=(log_level or loaded.config.log.level).upper())
    asyncio.run(_serve(loaded.config))
    return 0


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gate = Gate()
    server = Server(config.server, RuntimeRpc().handlers(), gate, logging.getLogger("pvecri"))
    socket = ListenSocket(config.server)
    socket.prepare()
    await server.start(socket.temporary)
    socket.publish()
    gate.open()
    await stop.wait()
    socket.remove()
    await server.stop(config.server.shutdown_timeout_s)
