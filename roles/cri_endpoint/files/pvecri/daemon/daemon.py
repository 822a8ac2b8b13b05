# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the daemon from its start to its end.

The socket answers from the beginning, so that a client hears «try again» rather than
nothing; requests are let in when recovery is done.  At the end no new ones are taken,
those in flight get their time, and containers stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import signal
import time
import typing as t

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.config.host_checks import host_problems
from pvecri.config.load import ConfigError, Loaded, load
from pvecri.config.model import Config
from pvecri.config.policy import configured_policy
from pvecri.containers.exits import Exits
from pvecri.context import Context
from pvecri.daemon import logs, notify
from pvecri.daemon.assembly import build_context
from pvecri.daemon.changes import log_changes
from pvecri.daemon.events import Events
from pvecri.daemon.health import Health, Readiness
from pvecri.daemon.lock import directories_locked
from pvecri.daemon.monitor import Monitor, allow_many_files
from pvecri.daemon.monitoring import Monitoring
from pvecri.daemon.operations import Operations, Pool
from pvecri.daemon.process import leave_no_core
from pvecri.daemon.reaper import Reaper
from pvecri.daemon.recovery import Recovery
from pvecri.daemon.services import build_services, handlers
from pvecri.daemon.socket import ListenSocket
from pvecri.metrics.collect import Metrics, Now
from pvecri.rpc.gate import Gate
from pvecri.rpc.server import Server
from pvecri.streaming.service import Streaming

if t.TYPE_CHECKING:
    from pvecri.pve.watch import Watch

#: Sections and keys that a reload takes over; the rest wants a restart.
_RELOADED: t.Final = frozenset(
    {
        ("log", "level"),
        ("log", "format"),
        ("log", "slow_rpc_s"),
        ("runtime", "policy"),
        ("runtime", "policy_file"),
    }
)


#: Time for what was called off to end.
_LAST_S: t.Final = 2.0


def run(loaded: Loaded, *, log_level: str | None = None) -> int:
    """Serve until a signal says stop; return the exit code."""
    leave_no_core()
    log = logs.set_up(loaded.config.log, level=log_level)
    with directories_locked(loaded.config.paths.state_dir, loaded.config.paths.run_dir):
        open_files = allow_many_files()
        reaper = Reaper()
        signal.signal(signal.SIGCHLD, lambda *_unused: reaper.wake())
        reaper.start()
        context = build_context(loaded, log)
        context.open_files = open_files
        context.registry.listen(log_changes(log))
        with (
            contextlib.closing(context.registry),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            left = runner.run(Daemon(loaded, context, reaper, log_level).serve())
        reaper.stop()
        if left:
            # Threads that hang would hold the process; what they leave half done, recovery finds.
            log.warning("stopped with operations in flight", extra={"operations": left})
            logging.shutdown()
            os._exit(0)
    log.info("stopped")
    return 0


def _loop_factory() -> t.Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes event loops; None is asyncio's own, which is slower, no more."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return t.cast("t.Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)


def _watch_of(context: Context, exits: Exits) -> Watch | None:
    """Return what looks after containers of Proxmox VE; it is loaded where there is one."""
    if context.pve is None:
        return None
    from pvecri.pve.watch import Watch  # noqa: PLC0415

    interval_s = context.config.pve.watch_interval_s
    return Watch(context.registry, exits, context.pve.node, context.pve.driver, interval_s=interval_s)


class Daemon:
    """The parts of the daemon that live in the event loop."""

    def __init__(
        self, loaded: Loaded, context: Context, reaper: Reaper, log_level: str | None = None
    ) -> None:
        self._loaded = loaded
        self._context = context
        self._log = context.log
        self._log_level = log_level
        self._gate = Gate(loaded.config.server.max_concurrent_rpcs)
        self._operations = Operations(context.registry.held)
        self._events = Events(context.registry)
        self._streaming = Streaming(context, self._operations)
        exits = Exits(context.registry, context.runtimes, reaped=reaper.exit_code)
        self._services = build_services(context, exits)
        self._metrics = Metrics(context, self._services.images)
        context.registry.listen(self._metrics.exits.heard)
        self._health = Health(loaded.config, None if context.pve is None else context.pve.standing.problem)
        self._monitoring = Monitoring(
            loaded.config.metrics, self._operations, readiness=self._readiness, metrics=self._page
        )
        self._monitor = Monitor(context.registry, context.runtimes, exits, self._in_house)
        self._watch = _watch_of(context, exits)
        if self._watch is not None:
            self._metrics.lxc_findings = self._watch.counts
        self._recovery = Recovery(
            context, self._services.sandboxes, self._services.containers, exits, guests=self._watch
        )
        self._stop = asyncio.Event()
        self._server: Server | None = None
        self._cleanup = contextlib.ExitStack()
        self._cleanup.callback(self._operations.close)

    async def _in_house(self, action: t.Callable[[], t.Any]) -> t.Any:
        """Call a function in one of the threads that are kept for the daemon's own work."""
        return await self._operations.call(action, pool=Pool.HOUSE)

    @property
    def _config(self) -> Config:
        return self._loaded.config

    async def serve(self) -> int:
        """Run to the end; return how many operations could not be waited for."""
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._events.start()
        socket = ListenSocket(self._config.server)
        socket.prepare()
        self._server = self._new_server()
        await self._server.start(socket.temporary)
        socket.publish()
        tasks = [loop.create_task(notify.keep_watchdog())]
        if self._config.metrics.port:
            tasks.append(loop.create_task(self._monitoring.serve()))
        try:
            mends = await self._in_house(self._recovery.survey)
            self._monitor.start()
            self._cleanup.callback(self._monitor.stop)
            self._gate.open()
            self._events.settle_down()
            self._services.start()
            if self._watch is not None:
                self._watch.start()
                self._cleanup.callback(self._watch.stop)
            tasks.append(loop.create_task(self._recovery.mend(self._operations, mends)))
            # What is here now stays: the collector need not look at it.
            gc.freeze()
            gc.enable()
            self._log.info(
                "serving",
                extra={
                    "version": pvecri.__version__,
                    "socket": self._config.server.socket,
                    "sandboxes": len(self._context.registry.sandboxes()),
                    "containers": len(self._context.registry.containers()),
                    "seconds": round(time.monotonic() - started, 3),
                },
            )
            notify.notify("READY=1", "STATUS=serving")
            tasks.append(loop.create_task(self._warn_of_host()))
            await self._stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            left = await self._end(socket)
        return left

    async def _warn_of_host(self) -> None:
        """Log what the configuration names and this host lacks, before somebody runs into it."""
        for problem in await self._in_house(lambda: host_problems(self._loaded)):
            self._log.warning("problem with the configuration", extra={"problem": problem})

    def _new_server(self) -> Server:
        return Server(
            self._config.server,
            handlers(
                self._context,
                self._services,
                self._operations,
                gate=self._gate,
                events=self._events,
                streaming=self._streaming,
            ),
            self._gate,
            self._log,
            slow_s=self._config.log.slow_rpc_s,
            observe=self._metrics.rpcs.observe,
        )

    async def _end(self, socket: ListenSocket) -> int:
        """Take no more requests, and give those in flight the configured time."""
        bound = self._config.server.shutdown_timeout_s
        deadline = time.monotonic() + bound
        notify.notify("STOPPING=1", "STATUS=waiting for requests in flight")
        self._log.info("stopping", extra={"at_most_seconds": bound})
        self._gate.close("the endpoint is stopping")
        # Pulls are not waited for: one that is repeated takes the layers that are there.
        self._services.close()
        self._events.close()
        socket.remove()
        # Streams last as long as their clients please.
        await self._streaming.close(_LAST_S)
        if self._server is not None:
            await self._server.stop(bound)
        left = await self._operations.drain(max(_LAST_S, deadline - time.monotonic()))
        # Last: whoever asks meanwhile hears that the endpoint is stopping.
        self._monitoring.close()
        self._cleanup.close()
        return left

    def _readiness(self) -> t.Callable[[], Readiness]:
        return functools.partial(self._health.readiness, self._gate.reason)

    def _page(self) -> t.Callable[[], str]:
        """Return what writes the metrics, with what only the event loop knows."""
        now = Now(
            is_ready=self._gate.is_open,
            in_flight=self._server.in_flight if self._server is not None else 0,
            streams_open={"events": self._events.subscribers, **self._streaming.sessions},
            streams_served=self._streaming.served,
            recovered=self._recovery.found,
        )
        return functools.partial(self._metrics.page, now)

    def _reload(self) -> None:
        """Take over what can change while the daemon runs."""
        notify.notify(*notify.reloading())
        try:
            loaded = load(self._loaded.path)
            self._context.policy = configured_policy(loaded)
        except (ConfigError, CoreError) as exc:
            self._log.error("configuration not reloaded", extra={"error": str(exc)})
        else:
            logs.set_up(loaded.config.log, level=self._log_level)
            if self._server is not None:
                self._server.slow_s = loaded.config.log.slow_rpc_s
            waiting = sorted(".".join(key) for key in changed(self._config, loaded.config) - _RELOADED)
            self._log.info("configuration reloaded", extra={"need_a_restart": waiting} if waiting else {})
        notify.notify("READY=1")


def changed(old: Config, new: Config) -> set[tuple[str, str]]:
    """Return the sections and keys in which two configurations differ."""
    return {
        (section.name, key.name)
        for section in dataclasses.fields(Config)
        for key in dataclasses.fields(getattr(old, section.name))
        if getattr(getattr(old, section.name), key.name) != getattr(getattr(new, section.name), key.name)
    }
