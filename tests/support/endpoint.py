# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the endpoint from this checkout for tests: places, network and images of its own.

    with Endpoint() as endpoint:
        pod_config = endpoint.pod("web")
        pod_id = endpoint.cri.run_pod(pod_config)
        container_id = endpoint.cri.create(pod_id, endpoint.container("app", ["sleep", "100"]), pod_config)
        endpoint.kill()     # as kill -9 does
        endpoint.start()
        assert not endpoint.leftovers(...)

It runs in a `PrivateHost`, so that its mounts are seen from outside only through
``endpoint.host.run`` or ``endpoint.host.path``; plain files of its directories are where they are.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

import grpc
import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import PLUGIN_DIRS
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import default_config
from ansible_collections.pvecri.runtime.tests.support import cgroups, cri_client, endpoint_process, images
from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost

CRUN = os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun")
#: The image that every endpoint of the tests has from its start: busybox.
IMAGE = "registry.test/busybox:1"

_NEEDED = (
    endpoint_process.PYTHON,
    CRUN,
    "conmon",
    "skopeo",
    "nsenter",
    f"{PLUGIN_DIRS[0]}/bridge",
    images.BUSYBOX,
)
_START_S = 30.0
_STOP_S = 30.0

Settings = t.Mapping[str, t.Mapping[str, t.Any]]


def missing() -> str | None:
    """Return why no endpoint can be run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    return next((f"needs {program}" for program in _NEEDED if shutil.which(program) is None), None)


@functools.lru_cache(maxsize=1)
def busybox_layout() -> str:
    """Return an OCI layout with the image ``latest``, made once per process."""
    path = tempfile.mkdtemp(prefix="pvecri-image-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return images.busybox_image(path, config={"Cmd": ["/bin/sleep", "1000000"]}).path


class Endpoint:
    """One daemon below one directory; a context manager.

    ``settings`` are sections and keys of its configuration beyond those that give it places of its
    own; ``images`` are names and what skopeo copies to them, before the daemon starts.
    Without ``network`` there is no CNI configuration.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        images: t.Mapping[str, str] | None = None,
        network: bool = True,
        bridge: str = "pvecri0",
        subnet: str = "10.88.0.0/16",
        host: PrivateHost | None = None,
        profile: str | None = None,
    ) -> None:
        # Short: the paths of conmon's sockets are below it.
        self.top = tempfile.mkdtemp(prefix="pe-", dir="/tmp")
        os.chmod(self.top, 0o755)
        self.state_dir, self.run_dir = f"{self.top}/s", f"{self.top}/r"
        self.paths = Paths(self.state_dir, self.run_dir, owner=Owner.CRI)
        self.socket = f"{self.top}/r/p.sock"
        self.config_file = f"{self.top}/config.toml"
        self.log_file = f"{self.top}/log"
        self.cni_conf = f"{self.top}/net.d"
        self.ipam = f"{self.top}/ipam"
        #: Parent of the cgroups of the pods that `pod` describes.
        self.cgroup_parent = f"/pvecri-test/{os.path.basename(self.top)}"
        #: For ``log_directory``: `pod` gives each pod one below it.
        self.pod_logs = f"{self.top}/pods"
        self.settings: Settings = settings or {}
        self.profile = profile
        self._images = {IMAGE: f"oci:{busybox_layout()}:latest"} if images is None else dict(images)
        self._own_host = host is None
        self.host = host or PrivateHost()
        self._process: subprocess.Popen[bytes] | None = None
        self._cri: Cri | None = None
        os.mkdir(self.cni_conf)
        if network:
            self.write_network(bridge, subnet)

    # ----------------------------------------------------------------- life

    def __enter__(self) -> t.Self:
        try:
            if self._own_host:
                self.host.open()
            for name, source in self._images.items():
                self.load_image(name, source)
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process of the daemon."""
        assert self._process is not None, "the endpoint is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the daemon lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def cri(self) -> Cri:
        """A client of this endpoint, the same one each time; it lives through restarts."""
        if self._cri is None:
            self._cri = Cri(self.socket)
        return self._cri

    def spawn(self) -> None:
        """Start the daemon without waiting for it."""
        assert not self.is_running, "the endpoint runs already"
        self.write_config()
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                self.host.argv(endpoint_process.serve_argv(self.config_file, profile=self.profile)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=endpoint_process.environment(),
            )

    def start(self) -> float:
        """Start the daemon and wait until it answers; return the seconds it took."""
        started = time.monotonic()
        self.spawn()
        self.wait_ready()
        return time.monotonic() - started

    def wait_ready(self, timeout_s: float = _START_S) -> None:
        """Wait until recovery is done and calls are answered."""
        deadline = time.monotonic() + timeout_s
        problem = "it never answered"
        while time.monotonic() < deadline:
            if not self.is_running:
                problem = f"it ended with {self._process.returncode if self._process else None}"
                break
            try:
                with Cri(self.socket, timeout_s=5) as cri:
                    # Not Version: what is served before recovery is done does not count.
                    cri.list_containers()
                return
            except grpc.RpcError as exc:
                problem = cri_client.status_of(exc)
                if problem != "UNAVAILABLE":
                    return
            time.sleep(0.005)
        raise RuntimeError(f"the endpoint does not start: {problem}\n{self.log_text()[-3000:]}")

    def stop(self) -> int:
        """Stop the daemon as its unit does, containers go on; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End the daemon at once, containers go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> float:
        """Stop and start; return the seconds until it answered."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop the daemon, end what it started, and remove all its files."""
        if self._cri is not None:
            self._cri.close()
            self._cri = None
        if self.is_running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        with contextlib.suppress(AssertionError):
            for root, name in self._containers():
                self.host.run([CRUN, "--root", root, "delete", "--force", name], check=False)
            if self._own_host:
                self.host.close()
            else:
                self._leave_host()
        cgroups.remove(self.cgroup_parent)
        shutil.rmtree(self.top, ignore_errors=True)
        assert not self._own_host or not os.path.exists(self.top), (
            f"{self.top} cannot be removed: somebody still writes there"
        )

    def _leave_host(self) -> None:
        for path in sorted(self.host.mounts(self.top), reverse=True):
            self.host.run(["umount", "-l", path], check=False)

    # ------------------------------------------------------- what it works with

    def pod(self, name: str | None = None, **fields: t.Any) -> t.Any:
        """Return the config of a pod, as `cri_client.pod`, with a log directory and a cgroup of its own."""
        name = name or cri_client.unique("pod")
        own = {"log_directory": f"{self.pod_logs}/{name}", "cgroup_parent": f"{self.cgroup_parent}/{name}"}
        fields = {**own, **fields}
        return cri_client.pod(name, **fields)

    def container(
        self, name: str | None = None, command: t.Sequence[str] = ("sleep", "1000"), **fields: t.Any
    ) -> t.Any:
        """Return the config of a container of the image that is there, as `cri_client.container`."""
        fields = {"image": IMAGE, "log_path": f"{name or 'app'}.log", **fields}
        return cri_client.container(name, command=command, **fields)

    def run_container(
        self, command: t.Sequence[str] = ("sleep", "1000"), *, pod: t.Any = None, **fields: t.Any
    ) -> tuple[str, str]:
        """Run a pod with one container; return the ids of pod and container."""
        pod = self.pod() if pod is None else pod
        pod_id = self.cri.run_pod(pod)
        container_id = self.cri.create(pod_id, self.container(command=command, **fields), pod)
        self.cri.start(container_id)
        return pod_id, container_id

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of ``pvecri`` with this endpoint's configuration, to its end."""
        return subprocess.run(
            self.host.argv(endpoint_process.command_argv(*arguments, "--config", self.config_file)),
            input=stdin,
            capture_output=True,
            text=True,
            env=endpoint_process.environment(),
            timeout=120,
            check=False,
        )

    def begin_command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a command of ``pvecri`` and do not wait for it; nobody reads what it prints."""
        return subprocess.Popen(
            # Not measured: it is killed.
            self.host.argv(
                [endpoint_process.PYTHON, "-P", "-m", "pvecri", *arguments, "--config", self.config_file]
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=endpoint_process.environment(),
        )

    def remove_all(self) -> None:
        """Remove every pod."""
        for pod in self.cri.list_pods():
            self.cri.stop_pod(pod.id)
            self.cri.remove_pod(pod.id)

    def load_image(self, name: str, source: str) -> None:
        """Copy an image into the store, ``source`` with its transport."""
        os.makedirs(self.paths.storage, exist_ok=True)
        store = f"containers-storage:[overlay@{self.paths.storage}+{self.paths.storage_run}]{name}"
        self.host.run(["skopeo", "copy", "--quiet", "--insecure-policy", source, store])

    def write_network(self, bridge: str, subnet: str) -> None:
        """Write the CNI configuration: a bridge with NAT and published ports."""
        plain = default_config(name="test", bridge=bridge, subnets=[subnet]).plain()
        plain["plugins"][0]["ipam"]["dataDir"] = self.ipam
        pathlib.Path(self.cni_conf, "10-test.conflist").write_text(json.dumps(plain), encoding="utf-8")

    def write_config(self) -> None:
        """Write the configuration file from the settings as they are now."""
        own: dict[str, dict[str, t.Any]] = {
            "server": {"socket": self.socket},
            "paths": {"state_dir": self.state_dir, "run_dir": self.run_dir},
            # The cgroups that `pod` describes are no slices, whatever the host's init is.
            "runtime": {"crun": CRUN, "cgroup_driver": "cgroupfs"},
            "network": {"conf_dir": self.cni_conf},
            "log": {"level": "debug"},
        }
        for section, keys in self.settings.items():
            own.setdefault(section, {}).update(keys)
        pathlib.Path(self.config_file).write_text(endpoint_process.toml(own), encoding="utf-8")

    def log_text(self) -> str:
        """Return what the daemon said so far."""
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(self.log_file).read_text(encoding="utf-8", errors="replace")
        return ""

    def tracebacks(self) -> list[str]:
        """Return the tracebacks in the log: no request must cause one."""
        return ["Traceback" + part[:2000] for part in self.log_text().split("Traceback")[1:]]

    # ----------------------------------------------------------- what is left

    def _containers(self) -> list[tuple[str, str]]:
        found = []
        for root in pathlib.Path(self.run_dir, "crun").glob("*"):
            # Newer versions of crun keep a cache of filters in a directory whose name is no container's.
            names = [entry.name for entry in root.iterdir() if entry.is_dir()]
            found += [(str(root), name) for name in names if not name.startswith(".")]
        return found

    def leftovers(self, *, within_s: float = 2.0) -> list[str]:
        """Return what there is beyond a daemon without pods: empty once all pods are removed.

        What goes away ``within_s`` seconds was at work: a helper of the daemon that looks around.
        """
        deadline = time.monotonic() + within_s
        while (found := self._found_now()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _found_now(self) -> list[str]:
        found = [f"container {name}" for _root, name in self._containers()]
        own = (self.paths.storage, self.paths.storage_run)
        found += [f"mount {path}" for path in self.host.mounts(self.top) if not path.startswith(own)]
        found += [
            f"process {pid}" for pid in self.host.processes() if self._process is None or pid != self.pid
        ]
        for directory in (
            self.paths.bundles,
            self.paths.exits,
            f"{self.state_dir}/sandboxes",
            f"{self.run_dir}/sandboxes",
        ):
            with contextlib.suppress(FileNotFoundError):
                found += [f"file {directory}/{name}" for name in os.listdir(directory)]
        found += [f"address {path.name}" for path in pathlib.Path(self.ipam).glob("*/*.*.*.*")]
        found += [f"cgroup {path}" for path in cgroups.below(self.cgroup_parent)]
        links = json.loads(self.host.run(["ip", "-j", "link", "show", "type", "veth"]).stdout or "[]")
        return found + [f"interface {link['ifname']}" for link in links if link]


@contextlib.contextmanager
def running_endpoint(**options: t.Any) -> t.Iterator[Endpoint]:
    """Yield a started endpoint, and say what it logged when the test fails; skip where none can run."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Endpoint(**options) as made:
        try:
            yield made
        except BaseException:
            print(f"--- the endpoint's log\n{made.log_text()[-8000:]}", file=sys.stderr)
            raise
