# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that does random things with pods of its own, and knows what must have become of them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import threading
import time
import typing as t

import grpc

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import conmon_pid, read_state
from ansible_collections.pvecri.runtime.tests.chaos.memory import Container, History, Pod, Wrong
from ansible_collections.pvecri.runtime.tests.support import cri_client
from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.pve_node import FakePveNode
from pvecri.api import cri_pb2 as pb

#: Answers after which the same request is sent again: nothing was said about the object.
_AGAIN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})

#: A request that is not answered for so long, whatever is killed meanwhile, is lost.
_PATIENCE_S = 60.0

#: A container that was killed must be seen to have ended within this time.
_SEEN_S = 20.0

_PODS_MAX = 4
_CONTAINERS_MAX = 3

#: Runtime handler of pods whose container is a guest of Proxmox VE, and how many of them are.
_GUESTS = "pve-lxc"
_GUESTS_SHARE = 0.4


class Actor:
    """One client; `act` does one random thing."""

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        seed: str,
        history: History,
        stopping: threading.Event,
        *,
        node: FakePveNode | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._node = node
        self._name = name
        self._random = random.Random(seed)
        self._history = history
        self._stopping = stopping
        self._cri = Cri(endpoint.socket, timeout_s=_PATIENCE_S)
        self._count = 0
        self.pods: dict[str, Pod] = {}

    def close(self) -> None:
        """Give the connection back."""
        self._cri.close()

    # ---- requests -----------------------------------------------------------------------------------------

    def _ask(self, what: str, verb: t.Callable[..., t.Any]) -> tuple[t.Any, bool]:
        """Send a request until something is said; return that and whether answers were lost before.

        Now and then the client is in too much of a hurry at first.
        """
        deadline = time.monotonic() + _PATIENCE_S
        is_repeat = False
        patience = self._random.choice([0.01, 0.05, 0.2]) if self._random.random() < 0.15 else 30.0
        while True:
            if not is_repeat:
                self._history.note(self._name, what, what.split()[0])
            try:
                return verb(timeout_s=patience), is_repeat
            except grpc.RpcError as exc:
                code = cri_client.status_of(exc)
                if code not in _AGAIN:
                    raise
                if not is_repeat:
                    self._history.note(self._name, f"{what}: {code}, so again", code)
            if time.monotonic() > deadline:
                raise Wrong(f"{what} was not answered for {_PATIENCE_S:g} s")
            is_repeat = True
            patience = 30.0
            time.sleep(0.02)

    def _must(self, what: str, verb: t.Callable[..., t.Any]) -> t.Any:
        try:
            return self._ask(what, verb)[0]
        except grpc.RpcError as exc:
            raise Wrong(f"{what}: {cri_client.status_of(exc)}: {exc.details()}") from exc  # type: ignore[attr-defined]

    # ---- acts ---------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do one random thing."""
        acts: list[tuple[int, t.Callable[[], None]]] = [(3, self._run_pod), (2, self._look_at_lists)]
        pods = [pod for pod in self.pods.values() if not pod.is_stopped]
        if pods:
            acts += [(6, self._create), (1, self._stop_pod), (2, self._repeat_run)]
        if self.pods:
            acts += [(2, self._remove_pod), (4, self._look)]
        if self._any("created"):
            acts += [(6, self._start), (1, self._repeat_create)]
        if self._any("started"):
            acts += [(4, self._exec), (2, self._stop), (1, self._murder), (1, self._kill_conmon)]
            acts += [(1, self._reopen_log), (2, self._update)]
        if self._any():
            acts += [(2, self._remove)]
        weights, functions = zip(*acts, strict=True)
        self._random.choices(functions, weights)[0]()

    def _pick_pod(self, *, running: bool = True) -> Pod:
        pods = [pod for pod in self.pods.values() if not (running and pod.is_stopped)]
        return self._random.choice(pods)

    def _any(self, *states: str) -> list[tuple[Pod, str, Container]]:
        return [
            (pod, name, container)
            for pod in self.pods.values()
            for name, container in pod.containers.items()
            if not states or container.state in states
        ]

    def _run_pod(self) -> None:
        if len(self.pods) >= _PODS_MAX:
            return self._remove_pod()
        self._count += 1
        name = f"{self._name}-{self._count}"
        config = self._endpoint.pod(name, labels={"client": self._name})
        handler = _GUESTS if self._node and self._random.random() < _GUESTS_SHARE else ""
        if not handler and self._random.random() < 0.2:
            config.linux.security_context.namespace_options.pid = pb.POD
        pod_id = self._must(f"run {name} {handler}", lambda **o: self._cri.run_pod(config, handler, **o))
        status = self._must(f"pod_status {name}", lambda **o: self._cri.pod_status(pod_id, **o))
        if status.state != pb.SANDBOX_READY or not status.network.ip:
            raise Wrong(f"pod {name} {pod_id} is not ready after its run: {status}")
        self.pods[name] = Pod(pod_id, config, status.network.ip, handler)
        return None

    def _repeat_run(self) -> None:
        pod = self._pick_pod()
        again = self._must("run (repeated)", lambda **o: self._cri.run_pod(pod.config, pod.handler, **o))
        if again != pod.id:
            raise Wrong(f"a repeated run of pod {pod.id} made {again}")

    def _create(self) -> None:
        pod = self._pick_pod()
        if len(pod.containers) >= _CONTAINERS_MAX:
            return self._remove()
        if pod.handler and any(each.state != "ended" for each in pod.containers.values()):
            return self._look()
        self._count += 1
        name = f"c{self._count}"
        marker = f"hello-{self._name}-{name}"
        exit_code = self._random.choice([None, None, 0, 7])
        last = "exec sleep 100000" if exit_code is None else f"sleep 0.{self._count % 10}; exit {exit_code}"
        config = self._endpoint.container(
            name, command=["/bin/sh", "-c", f"echo {marker}; {last}"], log_path=f"{name}.log"
        )
        if pod.config.linux.security_context.namespace_options.pid == pb.POD:
            config.linux.security_context.namespace_options.pid = pb.POD
        container_id = self._must(
            f"create {name}", lambda **o: self._cri.create(pod.id, config, pod.config, **o)
        )
        pod.containers[name] = Container(container_id, config, exit_code=exit_code, marker=marker)
        return None

    def _repeat_create(self) -> None:
        pod, _name, container = self._random.choice(self._any("created"))
        again = self._must(
            "create (repeated)", lambda **o: self._cri.create(pod.id, container.config, pod.config, **o)
        )
        if again != container.id:
            raise Wrong(f"a repeated create of container {container.id} made {again}")

    def _start(self) -> None:
        pod, name, container = self._random.choice(self._any("created"))
        if pod.is_stopped:
            return
        try:
            self._ask(f"start {name}", lambda **o: self._cri.start(container.id, **o))
        except grpc.RpcError as exc:
            # A start whose answer was lost has started it.
            status = self._status(container)
            if status.state not in {pb.CONTAINER_RUNNING, pb.CONTAINER_EXITED}:
                raise Wrong(f"start of {container.id}: {exc.details()}") from exc  # type: ignore[attr-defined]
        container.state = "started"
        container.started_at = time.monotonic()

    def _exec(self) -> None:
        _pod, name, container = self._random.choice(self._any("started"))
        if container.exit_code is not None:
            return
        answer = self._must(
            f"exec {name}", lambda **o: self._cri.exec_sync(container.id, ["echo", "hi"], 20, **o)
        )
        if (answer.exit_code, answer.stdout) != (0, b"hi\n"):
            raise Wrong(f"exec in {container.id} gave {answer}")

    def _reopen_log(self) -> None:
        _pod, name, container = self._random.choice(self._any("started"))
        if container.exit_code is None:
            self._must(f"reopen_log {name}", lambda **o: self._cri.reopen_log(container.id, **o))

    def _update(self) -> None:
        _pod, name, container = self._random.choice(self._any("started"))
        if container.exit_code is not None:
            return
        shares = self._random.randrange(2, 2000)
        wanted = pb.LinuxContainerResources(cpu_shares=shares)
        self._must(f"update {name}", lambda **o: self._cri.update_resources(container.id, wanted, **o))
        container.shares = shares

    def _stop(self) -> None:
        _pod, name, container = self._random.choice(self._any("started"))
        self._must(f"stop {name}", lambda **o: self._cri.stop(container.id, 0, **o))
        container.state = "ended"
        self._expect_end(container)

    def _murder(self) -> None:
        """Kill the first process of a container from outside."""
        pod, name, container = self._random.choice(self._any("started"))
        if pod.handler:
            return self._kill_guest(name, container)
        state = read_state(Layout(self._endpoint.paths, container.id), CgroupTree())
        if container.exit_code is None and state is not None and state.pid is not None:
            self._history.note(self._name, f"kills process {state.pid} of {name} {container.id}", "murder")
            procfs.send_signal(state.pid, state.pid_start_time, signal.SIGKILL)
            container.state = "ended"
            self._expect_end(container, code=137)
        return None

    def _kill_guest(self, name: str, container: Container) -> None:
        """Stop a guest as people do at Proxmox VE."""
        assert self._node is not None
        vmid = self._node.vmid_of(container.id)
        if container.exit_code is None and vmid is not None:
            self._history.note(self._name, f"stops guest {vmid} of {name} {container.id}", "kill_guest")
            self._node.gui_stop(vmid)
            container.state = "ended"
            self._expect_end(container, code=137)

    def _kill_conmon(self) -> None:
        _pod, name, container = self._random.choice(self._any("started"))
        pid = conmon_pid(Layout(self._endpoint.paths, container.id))
        if container.exit_code is None and pid is not None:
            self._history.note(self._name, f"kills conmon {pid} of {name} {container.id}", "kill_conmon")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            container.state = "ended"
            self._expect_end(container, reason="MonitorLost")

    def _expect_end(self, container: Container, *, code: int | None = None, reason: str = "") -> None:
        deadline = time.monotonic() + _SEEN_S
        while (status := self._status(container)).state != pb.CONTAINER_EXITED:
            if time.monotonic() > deadline:
                raise Wrong(f"container {container.id} is not seen to have ended: {status}")
            time.sleep(0.01)
        if code is not None and status.exit_code != code:
            raise Wrong(f"container {container.id} ended with {status.exit_code}, not {code}: {status}")
        if reason and status.reason != reason:
            raise Wrong(f"container {container.id} ended for {status.reason}, not {reason}")

    def _stop_pod(self) -> None:
        pod = self._pick_pod()
        self._must(f"stop_pod {pod.id[:8]}", lambda **o: self._cri.stop_pod(pod.id, **o))
        pod.is_stopped = True
        for container in pod.containers.values():
            container.state = "ended"

    def _remove(self) -> None:
        pod, name, container = self._random.choice(self._any() or [(None, "", None)])
        if pod is None or container is None:
            return
        log = pathlib.Path(pod.config.log_directory, f"{name}.log")
        is_over = container.state == "started" and container.exit_code is not None
        if is_over and self._status(container).state == pb.CONTAINER_EXITED:
            text = log.read_text(encoding="utf-8") if log.exists() else ""
            if container.marker not in text:
                raise Wrong(f"the log of container {container.id} is lost: {text!r}")
        self._must(f"remove {name}", lambda **o: self._cri.remove(container.id, **o))
        del pod.containers[name]
        self._expect_gone(container.id)

    def _expect_gone(self, container_id: str) -> None:
        with contextlib.suppress(grpc.RpcError):
            self._ask("status of what is gone", lambda **o: self._cri.container_status(container_id, **o))
            raise Wrong(f"container {container_id} is there after its removal")

    def _remove_pod(self) -> None:
        if not self.pods:
            return
        pod = self._pick_pod(running=False)
        if self._random.random() < 0.5:
            self._must(f"stop_pod {pod.id[:8]}", lambda **o: self._cri.stop_pod(pod.id, **o))
        self._must(f"remove_pod {pod.id[:8]}", lambda **o: self._cri.remove_pod(pod.id, **o))
        del self.pods[pod.config.metadata.name]
        with contextlib.suppress(grpc.RpcError):
            self._ask("pod_status of what is gone", lambda **o: self._cri.pod_status(pod.id, **o))
            raise Wrong(f"pod {pod.id} is there after its removal")

    # ---- looking ------------------------------------------------------------------------------------------

    def _status(self, container: Container) -> t.Any:
        return self._must("status", lambda **o: self._cri.container_status(container.id, **o))

    def _look(self) -> None:
        self.check_pod(self._pick_pod(running=False))

    def check_all(self) -> None:
        """Look at all that this client has."""
        for pod in self.pods.values():
            self.check_pod(pod)
        self._look_at_lists()

    def check_pod(self, pod: Pod) -> None:
        """Look whether a pod and its containers are as they must be."""
        status = self._must("pod_status", lambda **o: self._cri.pod_status(pod.id, **o))
        wanted = pb.SANDBOX_NOTREADY if pod.is_stopped else pb.SANDBOX_READY
        if status.state != wanted or (not pod.is_stopped and status.network.ip != pod.ip):
            raise Wrong(f"pod {pod.id} was {pod.ip}, stopped {pod.is_stopped}: {status}")
        for container in pod.containers.values():
            self._check_container(container)

    def _check_container(self, container: Container) -> None:
        status = self._status(container)
        known = {
            "created": {pb.CONTAINER_CREATED},
            "started": {pb.CONTAINER_RUNNING},
            "ended": {pb.CONTAINER_EXITED},
        }[container.state]
        if container.state == "started" and container.exit_code is not None:
            known = {pb.CONTAINER_RUNNING, pb.CONTAINER_EXITED}
            is_late = time.monotonic() - container.started_at > _SEEN_S
            if is_late and status.state != pb.CONTAINER_EXITED:
                raise Wrong(f"container {container.id} should have ended by itself: {status}")
            if status.state == pb.CONTAINER_EXITED and status.exit_code != container.exit_code:
                raise Wrong(f"container {container.id} should have exited {container.exit_code}: {status}")
        if container.shares and status.resources.linux.cpu_shares != container.shares:
            raise Wrong(f"container {container.id} should have {container.shares} CPU shares: {status}")
        if status.state not in known:
            raise Wrong(f"container {container.id} should be {container.state}: {status}")

    def _look_at_lists(self) -> None:
        wanted = pb.PodSandboxFilter(label_selector={"client": self._name})
        listed = {pod.id for pod in self._must("list_pods", lambda **o: self._cri.list_pods(wanted, **o))}
        known = {pod.id for pod in self.pods.values()}
        if listed != known:
            raise Wrong(f"pods are {sorted(listed)}, should be {sorted(known)}")
        everyone = {each.id for each in self._must("list", self._cri.list_containers)}
        lost = {container.id for _pod, _name, container in self._any()} - everyone
        if lost:
            raise Wrong(f"containers {sorted(lost)} are not listed")
