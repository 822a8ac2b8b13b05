# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a fake Proxmox VE API on loopback for the length of a test.

``FakeCluster`` runs PyPI's fakepve in a thread of this process, on a free port
with TLS, so that a test can look into it (``cluster.pve``), break it
(``cluster.pve.fail(...)``, ``lose_quorum()``, ``set_node_offline()``) and let
playbooks in other processes reach it (``cluster.environment()``).  Import the
fixture ``pve_cluster`` where it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import connection_argument_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection
from ansible_collections.pvecri.runtime.tests.support import pve_backups

_START_S = 30

HOST = "127.0.0.1"
PASSWORD = "correct horse"
TOKEN_SECRET = "5f1c9e0e-0000-4000-8000-1f2e3d4c5b6a"


class FakeCluster:
    """One fakepve, its certificate and the logins for it.

    Tasks end before their request is answered unless ``time_scale`` is set: real
    seconds per second of the fake.
    """

    def __init__(
        self, directory: str, *, nodes: t.Sequence[str] = ("pve1", "pve2"), time_scale: float = 0.0
    ) -> None:
        from fakepve import FakePve
        from fakepve.certs import make_cert

        os.makedirs(directory, exist_ok=True)
        self.ca_path, self._key_path, der = make_cert(directory, hosts=(HOST,))
        self.fingerprint = hashlib.sha256(der).hexdigest()
        self.pve = FakePve(user="root@pam", password=PASSWORD, host=HOST, port=0)
        self.pve.time_scale = time_scale
        self._task_view = self.pve._task_view
        self.pve._task_view = self._as_listed
        self.backups = pve_backups.install(self.pve)
        self.pve.apitokens["root@pam!root"] = TOKEN_SECRET
        for node in nodes:
            self.pve.add_node(node)
        # aiohttp reports every client that breaks off its TLS handshake, as tests do on purpose.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def _as_listed(self, task: dict[str, t.Any], listing: bool = False) -> dict[str, t.Any]:
        """Say of a task at work that it is, as the list of Proxmox VE does and fakepve's does not."""
        view: dict[str, t.Any] = self._task_view(task, listing)
        return {"status": "RUNNING", **view} if listing else view

    @property
    def port(self) -> int:
        """Return the port that the system chose."""
        return int(self.pve.port)

    def start(self) -> None:
        """Listen; returns when requests are answered."""
        self._thread.start()
        self.call(self.pve.start(self.ca_path, self._key_path))

    def stop(self) -> None:
        """Stop listening and end the thread; may be called twice."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()

    async def _end(self) -> None:
        # Requests and tasks that were told to hang would be waited for.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self.pve.stop()

    def call(self, coroutine: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
        """Run a coroutine of the fake, such as ``pve.hold_config_lock(100, None)``."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_START_S)

    def add_user(self, user: str, grants: t.Iterable[tuple[str, t.Iterable[str]]]) -> dict[str, str]:
        """Add a user with a token and nothing but ``(path, privileges)``; return its login options.

        From the first call on the fake checks permissions, for everybody but root@pam.
        """
        self.pve.users[user] = PASSWORD
        self.pve.apitokens[f"{user}!test"] = TOKEN_SECRET
        if self.pve.acl is None:
            self.pve.acl = {}
        self.pve.acl[user] = [(path.rstrip("/") or "/", set(privileges)) for path, privileges in grants]
        return {"api_user": user, "api_token_id": "test", "api_token_secret": TOKEN_SECRET}

    def requests_seen(self) -> list[tuple[str, str]]:
        """Return method and path (without /api2/json) of every request so far."""
        return [
            (method, path.removeprefix("/api2/json")) for method, path, _unused in list(self.pve.requests)
        ]

    def forget_requests(self) -> None:
        """Start counting from nothing."""
        self.pve.requests.clear()

    def connection(self, **changes: t.Any) -> Connection:
        """Return a connection as root@pam by token; ``changes`` are Connection's fields."""
        fields: dict[str, t.Any] = {
            "host": HOST,
            "port": self.port,
            "user": "root@pam",
            "token_id": "root",
            "token_secret": TOKEN_SECRET,
            "ca_path": self.ca_path,
            "task_timeout_s": 30.0,
        }
        return Connection(**{**fields, **changes})

    def by_password(self, **changes: t.Any) -> Connection:
        """Return a connection as root@pam itself, by password."""
        return self.connection(token_id=None, token_secret=None, password=PASSWORD, **changes)

    def client(self, **changes: t.Any) -> PveClient:
        """Return a client; ``changes`` are Connection's fields."""
        return PveClient(self.connection(**changes))

    def options(self, **changes: t.Any) -> dict[str, t.Any]:
        """Return only the connection options that a task must name."""
        return {
            "api_host": HOST,
            "api_port": self.port,
            "api_user": "root@pam",
            "api_token_id": "root",
            "api_token_secret": TOKEN_SECRET,
            "ca_path": self.ca_path,
            "task_timeout": 30.0,
            **changes,
        }

    def params(self, **changes: t.Any) -> dict[str, t.Any]:
        """Return all connection parameters, as a module gets them after its defaults."""
        defaults = {name: spec.get("default") for name, spec in connection_argument_spec().items()}
        return {**defaults, **self.options(**changes)}

    def environment(self) -> dict[str, str]:
        """Return environment variables for playbooks that name no connection."""
        return {
            "PVE_HOST": HOST,
            "PVE_PORT": str(self.port),
            "PVE_USER": "root@pam",
            "PVE_TOKEN_ID": "root",
            "PVE_TOKEN_SECRET": TOKEN_SECRET,
            "PVE_CA_PATH": self.ca_path,
        }


@contextlib.contextmanager
def running_cluster(directory: str, **options: t.Any) -> t.Iterator[FakeCluster]:
    """Yield a started cluster and stop it whatever happens."""
    cluster = FakeCluster(directory, **options)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def pve_cluster(tmp_path: t.Any) -> t.Iterator[FakeCluster]:
    """Serve a cluster of pve1 and pve2 without guests for one test."""
    with running_cluster(str(tmp_path / "pki")) as cluster:
        yield cluster
