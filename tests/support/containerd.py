# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Debian's containerd with its CRI plugin as a peer: same images, CNI plugins and network."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

import grpc

from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost

PROGRAM = "containerd"
#: Where the CRI plugin keeps CNI's cache, whatever its configuration says.
SHARED_DIRECTORIES = ("/var/lib/cni",)

_CONFIG = """\
version = 2
root = "{top}/root"
state = "{top}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{top}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_bin}"
  conf_dir = "{cni_conf}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "{default}"
  disable_snapshot_annotations = true
"""
_HANDLER = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
  BinaryName = "{binary}"
"""
_START_S = 30.0
_STOP_S = 10.0


def is_available() -> bool:
    """Say whether containerd can be run here."""
    return all(shutil.which(program) for program in (PROGRAM, "ctr", "containerd-shim-runc-v2"))


class Containerd:
    """One containerd in a private host; a context manager.

    ``pause`` is the name of the image of its sandboxes, which `load` must have brought
    before the first pod; ``handlers`` are names and binaries, the first is the default.
    """

    def __init__(
        self,
        host: PrivateHost,
        top: str,
        *,
        pause: str,
        cni_conf: str,
        handlers: t.Mapping[str, str],
        cni_bin: str = "/usr/lib/cni",
    ) -> None:
        self.host = host
        self.top = top
        self.socket = f"{top}/c.sock"
        self.log = pathlib.Path(top, "log")
        self._process: subprocess.Popen[bytes] | None = None
        os.makedirs(top, exist_ok=True)
        text = _CONFIG.format(
            top=top, pause=pause, cni_bin=cni_bin, cni_conf=cni_conf, default=next(iter(handlers))
        )
        text += "".join(_HANDLER.format(name=name, binary=binary) for name, binary in handlers.items())
        pathlib.Path(top, "config.toml").write_text(text, encoding="utf-8")

    def __enter__(self) -> t.Self:
        self.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process of the daemon."""
        assert self._process is not None, "containerd is not running"
        return self._process.pid

    def spawn(self) -> None:
        """Start the daemon without waiting for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.host.argv([PROGRAM, "--config", f"{self.top}/config.toml"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Start the daemon and wait until its CRI plugin answers."""
        self.spawn()
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with Cri(self.socket, timeout_s=1) as cri, contextlib.suppress(grpc.RpcError):
                cri.version()
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"containerd does not start: {self.log.read_text(errors='replace')[-1500:]}")

    def load(self, archive: str) -> None:
        """Bring the images of a docker-archive into its store."""
        self.host.run(["ctr", "-a", self.socket, "-n", "k8s.io", "images", "import", archive])

    def kill(self) -> None:
        """End the daemon at once; its pods go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Remove all pods and end the daemon."""
        if self._process is None:
            return
        with Cri(self.socket) as cri, contextlib.suppress(grpc.RpcError):
            for pod in cri.list_pods():
                cri.stop_pod(pod.id)
                cri.remove_pod(pod.id)
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self.kill()
