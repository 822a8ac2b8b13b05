# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Play a node of Proxmox VE whose containers really run: fakepve's API, and this machine's LXC behind it.

    with PrivateHost() as host, FakePveNode(host) as node:
        with Endpoint(settings=node.settings(), host=host) as endpoint:
            ...
            node.gui_stop(node.vmids()[0])

A create request unpacks the template, start writes LXC's configuration as Proxmox VE writes
it and runs ``lxc-start``, shutdown and stop run ``lxc-stop``, a change of limits of a running container
goes to its cgroup, and a container that ends by itself is seen as stopped.  Raw ``lxc.*`` lines count as
they stand in the file.  Tasks run beside requests, hold the container's lock, and can be made slow, fail or
wait at a gate; each has a process, as its UPID says.  The token has what the role cri_endpoint gives it.

Where this and fakepve differ from Proxmox VE:

- Root disks are in memory, and mounted as long as there is the container.
- No AppArmor profile and no seccomp rules but LXC's common ones; no hooks of Proxmox VE's.
- ``lxc-start`` is our child, not a unit's; ``/etc/pve`` is a directory and becomes read-only for
  the endpoint's host alone when quorum is lost.
- The other node is the API's alone: what migrates there does not run.
- Clones, restores, suspending, moving and resizing volumes change what the API says, and no file.
- Statistics of containers in the API are made up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pathlib
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file
from ansible_collections.pvecri.runtime.tests.support import (
    cgroups,
    fakepve,
    pve_access,
    pve_conf,
    pve_machine,
    pve_storage_routes,
)
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from ansible_collections.pvecri.runtime.tests.support.pve_lxc_routes import Fault, Gate, LxcRoutes

NODE, OTHER = "pve1", "pve2"
STORAGE, TEMPLATES = "local-lvm", "local"
USER, TOKEN = "pvecri@pve", "node-pve1"

_STORAGE_CFG = """dir: local
\tpath {path}
\tcontent vztmpl,iso,backup

lvmthin: local-lvm
\tthinpool data
\tvgname pve
\tcontent rootdir,images
"""
_SECTION = "pve"
_MESSAGE = struct.Struct("i256si")
_RANGE = 1000


class FakePveNode(fakepve.FakeCluster):
    """The node and its cluster; a context manager.

    With ``host`` the API is served, and containers are started, in its namespaces.  ``time_scale`` are
    real seconds per second of what the fake plays itself; tasks never end before they are answered.
    """

    def __init__(self, host: PrivateHost | None = None, *, time_scale: float = 1.0) -> None:
        # Short: the paths of LXC's sockets are below it.
        self.top = tempfile.mkdtemp(prefix="pv-", dir="/tmp")
        os.chmod(self.top, 0o755)
        try:
            super().__init__(f"{self.top}/pki", nodes=(NODE, OTHER), time_scale=time_scale)
        except ImportError:
            # Where fakepve is missing nothing is left of the attempt.
            shutil.rmtree(self.top)
            raise
        # aiohttp reports every client that is killed in the middle of a request.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        self.host = host
        self.config_dir, self.lock_dir = f"{self.top}/pve", f"{self.top}/lock"
        self.access_file = f"{self.top}/pve.json"
        #: Numbers that no other node of these tests has: cgroups of all of them are in one place.
        first = 100_000 + secrets.randbelow(80_000) * _RANGE
        self.vmid_range = (first, first + _RANGE - 1)
        self.machine = pve_machine.Machine(
            f"{self.top}/lxc", host.argv if host else list, host.path if host else str
        )
        self.files = pve_conf.Files(self.config_dir, self.lock_dir, (NODE, OTHER))
        self.lxc = LxcRoutes(self.pve, NODE, self.machine, self.files)
        self.lxc.install()
        self.storage = pve_storage_routes.install(self.pve, f"{self.top}/vz")
        self.access = pve_access.install(self.pve)
        self._monitor: subprocess.Popen[bytes] | None = None
        self._events: socket.socket | None = None
        for link, target in (("lxc", f"nodes/{NODE}/lxc"), ("local", f"nodes/{NODE}")):
            os.symlink(target, f"{self.config_dir}/{link}")
        self._say_quorum(True)
        pathlib.Path(self.config_dir, "storage.cfg").write_text(_STORAGE_CFG.format(path=f"{self.top}/vz"))

    # ------------------------------------------------------------------ life

    def __enter__(self) -> t.Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_unused: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve the API and LXC's monitor."""
        self._thread.start()
        self.call(self._enter())
        self.up()
        self._events = self._watch()
        self._give_access()

    def stop(self) -> None:
        """End containers, monitor and API, and remove all files; may be called twice."""
        self.machine.close()
        if self._monitor is not None:
            self._monitor.terminate()
            self._monitor.wait()
            self._monitor = None
        if self._events is not None:
            self._events.shutdown(socket.SHUT_RDWR)
            self._events.close()
            self._events = None
        super().stop()
        self.lxc.close()
        shutil.rmtree(f"/run/lxc{self.top}", ignore_errors=True)
        shutil.rmtree(self.top, ignore_errors=True)

    async def _enter(self) -> None:
        """Have the API's thread, and those it makes, be in the host's network."""
        if self.host is not None:
            self._join_network()

    def _join_network(self) -> None:
        if self.host is not None:
            with open(f"/proc/{self.host.pid}/ns/net", "rb") as namespace:
                syscalls.setns(namespace.fileno(), syscalls.CLONE_NEWNET)

    def _watch(self) -> socket.socket:
        """Start lxc-monitord, which lives as long as somebody listens, and listen."""
        daemon = pve_machine.monitor_daemon()
        assert daemon is not None, pve_machine.missing()
        inner, outer = os.pipe()
        # Not in the host's mount namespace: it is nothing that an endpoint started.
        enter = ["nsenter", f"--net=/proc/{self.host.pid}/ns/net", "--"] if self.host else []
        argv = [*enter, daemon, self.machine.lxc_path, str(outer)]
        self._monitor = subprocess.Popen(
            argv, pass_fds=[outer], stdin=subprocess.DEVNULL, start_new_session=True
        )
        os.close(outer)
        with open(inner, "rb") as ready:
            assert ready.read(1), "lxc-monitord does not start"
        events: socket.socket = self.call(self._connect())
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()
        return events

    async def _connect(self) -> socket.socket:
        path = self.machine.lxc_path.encode()
        digest = 0xCBF29CE484222325
        for byte in b"lxc/" + path + b"/monitor-sock":
            digest = ((digest ^ byte) * 0x100000001B3) & (2**64 - 1)
        events = socket.socket(socket.AF_UNIX)
        events.connect(b"\0lxc/%016x/%s" % (digest, path))
        return events

    def _listen(self, events: socket.socket) -> None:
        # Closed by `stop` at any moment.
        with contextlib.suppress(OSError, RuntimeError):
            while message := events.recv(_MESSAGE.size, socket.MSG_WAITALL):
                kind, name, value = _MESSAGE.unpack(message)
                if kind == 0:
                    vmid = int(name.partition(b"\0")[0])
                    self._loop.call_soon_threadsafe(self.lxc.told, vmid, value)

    def _give_access(self) -> None:
        """Make user, roles and token as the role cri_endpoint does, and the file that it leaves."""
        roles, grants = pve_access.endpoint_roles(STORAGE, TEMPLATES, NODE)
        self.access.roles.update({name: set(privileges) for name, privileges in roles.items()})
        self.access.users[USER] = {"enable": 1}
        token = f"{USER}!{TOKEN}"
        self.access.tokens[token] = {"privsep": 1}
        self.pve.apitokens[token] = fakepve.TOKEN_SECRET
        for path, role in grants:
            self.access.give("user", USER, path, role)
            self.access.give("token", token, path, role)
        server = token_file.Server(fakepve.HOST, self.port, fingerprint=self.fingerprint)
        token_file.write(self.access_file, token_file.Credentials(server, USER, TOKEN, fakepve.TOKEN_SECRET))

    def settings(self, **changes: t.Any) -> dict[str, dict[str, t.Any]]:
        """Return the section of an endpoint's configuration that names this node."""
        own = {
            "access_file": self.access_file,
            "rootfs_storage": STORAGE,
            "template_storage": TEMPLATES,
            "rootfs_size_gib": 1.0,
            "vmid_range": list(self.vmid_range),
            "config_dir": self.config_dir,
            "lock_dir": self.lock_dir,
            "lxc_path": self.machine.lxc_path,
        }
        return {_SECTION: {**own, **changes}}

    # ------------------------------------------------------------------ looking

    def vmids(self) -> list[int]:
        """Return the numbers of all containers."""
        return sorted(ct.vmid for ct in self.pve.cts)

    def config(self, vmid: int) -> dict[str, t.Any]:
        """Return a container's configuration, raw lines as they stand in the file."""
        ct = self.pve.ct(vmid)
        self.files.read(ct)
        return dict(ct.config)

    def vmid_of(self, container_id: str) -> int | None:
        """Return the number of the container whose notes name one of the CRI."""
        found = (ct.vmid for ct in list(self.pve.cts) if container_id in ct.config.get("description", ""))
        return next(found, None)

    def tasks(self, kind: str) -> list[dict[str, t.Any]]:
        """Return the tasks of a kind, oldest first."""
        return [dict(task) for task in self.pve.tasklog if task["type"] == kind]

    def limits(self, vmid: int, name: str) -> str:
        """Return a file of a container's cgroup."""
        places = [place / name for place in cgroups.directories(f"lxc/{vmid}") if (place / name).exists()]
        return places[0].read_text().strip()

    def leftovers(self) -> list[str]:
        """Return what is left of containers that the API no longer knows."""
        known = {str(vmid) for vmid in self.vmids()}
        found = [f"directory {name}" for name in os.listdir(self.machine.lxc_path) if name.isdigit()]
        found += [f"config {path.stem}" for path in pathlib.Path(self.config_dir).glob("nodes/*/lxc/*.conf")]
        first, last = self.vmid_range
        for top in cgroups.directories("lxc"):
            numbers = [name for name in os.listdir(top) if name.isdigit() and first <= int(name) <= last]
            found += [f"cgroup {name}" for name in numbers]
        return sorted({entry for entry in found if entry.split()[1] not in known})

    # ------------------------------------------------------------------ what an administrator does

    def gui(self, verb: str, vmid: int, **values: t.Any) -> str:
        """Ask for something as root@pam does in the GUI and wait for the task; return its exit status.

        ``verb`` is the end of a handler's name: ``start``, ``stop``, ``destroy``, ``migrate``, ``snapshot``,
        ``config_put``.  Raises fakepve's PveError where no task is begun.
        """
        node = self.pve.ct(vmid).node
        answer = self.call(self._asked(verb, {"node": node, "vmid": vmid, **values}))
        if not str(answer).startswith("UPID:"):
            return "OK"
        return self.ended(answer)

    async def _asked(self, verb: str, values: dict[str, t.Any]) -> t.Any:
        for ct in self.pve.cts:
            self.files.read(ct)
        answer = await getattr(self.pve, f"_lxc_{verb}")("root@pam", values)
        await self.lxc.flush()
        return answer

    def ended(self, upid: str) -> str:
        """Wait for a task and return its exit status."""
        return str(self.call(self._ended(upid)))

    async def _ended(self, upid: str) -> str:
        while self.pve.tasks[upid]["status"] == "running":
            await asyncio.sleep(0.005)
        return str(self.pve.tasks[upid]["exitstatus"])

    def gui_destroy(self, vmid: int) -> str:
        """Stop a container and remove it."""
        return self.gui("destroy", vmid, force=1, purge=1)

    def gui_stop(self, vmid: int) -> str:
        """Kill a container."""
        return self.gui("stop", vmid)

    def gui_start(self, vmid: int) -> str:
        """Start a container."""
        return self.gui("start", vmid)

    def gui_set(self, vmid: int, **values: t.Any) -> str:
        """Change options, such as ``hostname``, ``tags``, ``description`` or ``delete``."""
        return self.gui("config_put", vmid, **values)

    def gui_migrate(self, vmid: int) -> str:
        """Move a container to the other node."""
        return self.gui("migrate", vmid, target=OTHER, restart=1, timeout=1)

    def add_ct(self, *, tags: str = "", description: str = "", vmid: int | None = None) -> int:
        """Add a stopped container of somebody else's, by default with the first number of the range."""
        vmid = self.vmid_range[0] if vmid is None else vmid
        config = {"tags": tags, "description": description, "lxc": []}
        kept = {key: value for key, value in config.items() if value}
        self.pve.add_ct(vmid, f"other-{vmid}", node=NODE, config=kept)
        os.makedirs(self.machine.rootfs(vmid))
        self.call(self.lxc.flush())
        return vmid

    # ------------------------------------------------------------------ faults

    def up(self) -> None:
        """Listen, on the same port as before."""
        self.call(self.pve.start(self.ca_path, self._key_path))

    def down(self) -> None:
        """Listen no more, as when pveproxy is stopped; tasks and containers go on."""
        self.call(self.pve.stop())

    def set_offline(self, *, offline: bool = True) -> None:
        """Have every request for this node answered with 595."""
        self.pve.set_node_offline(NODE, offline)

    def lose_quorum(self) -> None:
        """Have the cluster refuse changes, by request and by file."""
        self.pve.lose_quorum()
        self._say_quorum(False)
        if self.host is not None:
            self.host.run(["mount", "--bind", self.config_dir, self.config_dir])
            self.host.run(["mount", "-o", "remount,bind,ro", self.config_dir])

    def regain_quorum(self) -> None:
        """Undo it."""
        self.pve.regain_quorum()
        self._say_quorum(True)
        if self.host is not None:
            self.host.run(["umount", self.config_dir])

    def _say_quorum(self, quorate: bool) -> None:
        members = {
            "nodename": NODE,
            "version": 4,
            "cluster": {"name": "fake", "nodes": 2, "quorate": int(quorate)},
        }
        pathlib.Path(self.config_dir, ".members").write_text(json.dumps(members))

    def fill(self, storage: str = STORAGE) -> None:
        """Leave no room on a storage."""
        self.pve.storages[storage]["avail"] = 0

    def empty(self, storage: str = STORAGE) -> None:
        """Make room again."""
        del self.pve.storages[storage]["avail"]

    def fault(self, kind: str, error: str | None = None, **how: t.Any) -> None:
        """Have the next task of a kind (``vzcreate``, ``vzstart``…) fail or be slow; see `Fault`."""
        self.lxc.faults[kind] = Fault(error, **how)

    @contextlib.contextmanager
    def holding(self, kind: str, *, at_end: bool = False) -> t.Iterator[Gate]:
        """Hold tasks of a kind before their work or at its end, until the gate opens or the block ends."""
        gate = self.lxc.gates[kind] = Gate(at_end=at_end)
        try:
            yield gate
        finally:
            del self.lxc.gates[kind]
            gate.open()

    def lock(self, vmid: int, lock: str = "backup") -> None:
        """Put a lock on a container, as a backup does."""
        self.pve.ct(vmid).lock = lock
        self.call(self.lxc.flush())

    def unlock(self, vmid: int) -> None:
        """Take it away."""
        self.pve.ct(vmid).lock = None
        self.call(self.lxc.flush())

    def lose_answers(self, method: str, suffix: str, times: int = 1) -> None:
        """Carry out the next requests whose path ends so, and break the connection instead of answering."""
        self.storage.lost[(method, suffix)] = times
