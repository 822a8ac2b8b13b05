# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for a Proxmox VE node with containers, for tests of the connection plugin.

``pct`` here is a script, not Proxmox VE: container N is a mount and UTS namespace
over this machine's own system, with a host name and /root, /tmp, /srv and /home of
its own.  It answers ``status`` and ``exec`` with pct's words and exit codes.  The
node can be reached over a real sshd on loopback that only knows a key of its own.
Both need root; sshd needs Debian's openssh-server.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import typing as t

HOST = "127.0.0.1"
SSHD = "/usr/sbin/sshd"
_PRIVATE = ("root", "srv", "home", "tmp")

_PCT = r"""#!/bin/sh
# Test double of Proxmox VE's pct: status and exec of the containers below {root}.
verb=$1 id=$2
echo "$*" >> {root}/calls
if [ ! -d {root}/"$id" ]; then
    echo "Configuration file 'nodes/pve1/lxc/$id.conf' does not exist" >&2
    exit 2
fi
case $verb in
status)
    if [ -e {root}/"$id"/running ]; then echo "status: running"; else echo "status: stopped"; fi ;;
exec)
    if [ ! -e {root}/"$id"/running ]; then
        echo "container '$id' not running!" >&2
        exit 255
    fi
    shift 3
    exec unshare --mount --uts --propagation private /bin/sh -c '
        hostname "ct-$0"
        for name in {private}; do mount --bind {root}/"$0"/"$name" /"$name" || exit 1; done
        cd /
        exec "$@"' "$id" "$@" ;;
*)
    echo "unknown command '$verb'" >&2
    exit 255 ;;
esac
"""


class FakeNode:
    """A folder of containers and the ``pct`` that enters them."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.pct = root / "pct"
        self.pct.write_text(_PCT.format(root=root, private=" ".join(_PRIVATE)))
        self.pct.chmod(0o755)
        (root / "calls").touch()

    def add(self, vmid: int, *, running: bool = True) -> pathlib.Path:
        """Make a container; return the folder that holds its private folders."""
        folder = self.root / str(vmid)
        for name in _PRIVATE:
            (folder / name).mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)
        if running:
            (folder / "running").touch()
        return folder

    def calls(self) -> list[str]:
        """Return the arguments of each call of ``pct``."""
        return (self.root / "calls").read_text().splitlines()


class SshServer:
    """A real sshd on a free port for one test; ``variables`` are for Ansible."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700)
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        for name in ("host_key", "client_key"):
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        with socket.socket() as unused:
            unused.bind((HOST, 0))
            self.port = int(unused.getsockname()[1])
        host_key = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[{HOST}]:{self.port} {host_key}")
        (folder / "config").write_text(
            f"ListenAddress {HOST}\nPort {self.port}\nHostKey {folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        )
        # The path of a unix socket must be short, whatever the folder of the test is.
        self._sockets = pathlib.Path(tempfile.mkdtemp(prefix="ssh-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def variables(self) -> dict[str, t.Any]:
        """Return the inventory variables that lead here, over one connection that is kept open."""
        folder = self._folder
        shared = f"-o ControlMaster=auto -o ControlPersist=60 -o ControlPath={self._sockets}/%C"
        return {
            "ansible_host": HOST,
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(folder / "client_key"),
            "ansible_ssh_args": f"-F none -o UserKnownHostsFile={folder}/known_hosts {shared}",
        }

    def start(self) -> None:
        """Listen; returns when connections are taken."""
        config = str(self._folder / "config")
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """End the connections that are kept open, and the server by its pid."""
        for path in self._sockets.iterdir():
            subprocess.run(
                ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={path}", HOST],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
        shutil.rmtree(self._sockets)
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


@contextlib.contextmanager
def running_sshd(folder: pathlib.Path) -> t.Iterator[SshServer]:
    """Yield a started sshd and stop it whatever happens."""
    server = SshServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def reason_to_skip(*, ssh: bool) -> str | None:
    """Return why this machine cannot run the double, or ``None``."""
    if os.geteuid() != 0:
        return "needs root for namespaces"
    if ssh and not os.path.exists(SSHD):
        return "needs sshd (Debian package openssh-server)"
    return None
