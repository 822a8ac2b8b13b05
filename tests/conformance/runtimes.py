# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start what critest is run against: the endpoint of this checkout, or containerd for comparison.

containerd shows whether a spec can pass on this host at all, and that images and network are in order.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

from place import Place

PAUSE = "registry.k8s.io/pause:3.10.2"
ROOT = pathlib.Path(__file__).resolve().parents[2]

_START_S = 90.0
_STOP_S = 30.0

_CONTAINERD = """\
version = 2
root = "{top}/containerd/root"
state = "{top}/containerd/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{top}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{certs}"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{cni_conf}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "default"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default.options]
  BinaryName = "{binary}"
"""


class Runtime:
    """One runtime that serves the CRI on a socket; a context manager that waits until it answers."""

    def __init__(self, crictl: str, argv: list[str], socket: pathlib.Path, log: pathlib.Path) -> None:
        self.socket = socket
        self.log = log
        self._crictl = crictl
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> t.Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if self.crictl("version", timeout_s=10).returncode == 0:
                return self
            time.sleep(0.1)
        self._end()
        tail = self.log.read_text(errors="replace")[-2000:]
        raise SystemExit(
            f"error: {self._argv[0]} does not answer on {self.socket}; the end of its log:\n{tail}"
        )

    def __exit__(self, *_unused: object) -> None:
        self.crictl("rmp", "--all", "--force", timeout_s=120)
        self._end()

    def crictl(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run crictl against this runtime."""
        argv = [self._crictl, "--runtime-endpoint", f"unix://{self.socket}", *arguments]
        try:
            return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout_s)
        except subprocess.TimeoutExpired as exc:
            return subprocess.CompletedProcess(argv, 124, "", f"no answer after {exc.timeout:.0f} s")

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def endpoint(place: Place, crictl: str, crun: str, log: pathlib.Path) -> Runtime:
    """Return the endpoint of this checkout, with every path below the place's directory."""
    socket = place.top / "run/pvecri.sock"
    sections: dict[str, dict[str, t.Any]] = {
        "server": {"socket": str(socket)},
        "paths": {"state_dir": str(place.top / "state"), "run_dir": str(place.top / "run")},
        "runtime": {"crun": crun, "cgroup_driver": "cgroupfs"},
        "network": {"conf_dir": str(place.cni_conf)},
        "images": {
            "registries_conf": str(place.registries_conf),
            "policy_file": str(place.policy),
            "pause_image": PAUSE,
        },
        "log": {"level": "debug"},
    }
    config = place.top / "endpoint.toml"
    # Strings are written alike in JSON and TOML.
    config.write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for name, keys in sections.items()
        )
    )
    argv = [str(ROOT / "scripts/run-endpoint"), "--config", str(config)]
    return Runtime(crictl, argv, socket, log)


def containerd(place: Place, crictl: str, program: str, binary: str, log: pathlib.Path) -> Runtime:
    """Return containerd with ``binary`` (crun or runc) as its only runtime."""
    found = shutil.which(binary)
    if found is None or shutil.which(program) is None:
        raise SystemExit(f"error: {program} or {binary} is missing; install the package")
    socket = place.top / "containerd.sock"
    config = place.top / "containerd.toml"
    places = {"top": place.top, "certs": place.certs, "cni_conf": place.cni_conf}
    config.write_text(_CONTAINERD.format(socket=socket, pause=PAUSE, binary=found, **places))
    return Runtime(crictl, [program, "--config", str(config)], socket, log)
