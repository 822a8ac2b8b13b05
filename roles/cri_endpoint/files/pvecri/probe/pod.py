# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live the whole life of a pod with one container, and leave nothing of it.

One probe of an endpoint runs at a time, so whatever bears a probe's label is what a killed one left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, CoreError, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed
from pvecri.probe import image as own_image
from pvecri.probe.health import LABEL, NAMESPACE, is_probe
from pvecri.probe.report import Step, Trial
from pvecri.rpc.status import Code

#: Time for what has to be cleared away, when the probe's own is over.
_CLEAN_UP_S = 30.0
#: How long a container of a foreign image is watched.
_WATCH_S = 1.0
_POLL_S = 0.01
#: How often a pod is tried that somebody else takes away: kubelet ends pods that it does not know.
_ATTEMPTS = 3
_CONTAINER = "probe"
_LOG = "probe.log"


class _Failed(Exception):
    """End the pod's life: the step that failed is noted."""


class PodProbe:
    """Tries one pod; ``image`` None means the built-in one, which is loaded and removed again."""

    def __init__(self, client: Client, *, image: str | None, timeout_s: float, has_network: bool) -> None:
        self.trial = Trial(image or own_image.NAME)
        self._client = client
        self._is_own = image is None
        self._timeout_s = timeout_s
        self._deadline = 0.0
        self._has_network = has_network
        self._pod_id = ""
        #: A pod of which nobody has said yet whether it was made.
        self._begun: pb.RunPodSandboxRequest | None = None
        self._is_ended = self._is_clearing = False
        self._is_ours_to_remove = False
        self._logs = f"{client.socket_path}.probe"

    def end(self) -> None:
        """Leave off, and clear away; may be called by a handler of signals."""
        self._is_ended = True
        if not self._is_clearing:
            self._client.interrupt()

    def run(self) -> Trial:
        """Try it, and return what happened; nothing is left, or the last step says what."""
        self._deadline = time.monotonic() + self._timeout_s
        with contextlib.suppress(_Failed), self._alone():
            try:
                self._step("clear away", self._clear_pods, is_quiet=True)
                for left in reversed(range(_ATTEMPTS)):
                    begin = len(self.trial.steps)
                    try:
                        self._live()
                        break
                    except _Failed:
                        if not left or self._is_ended or not self._was_taken_away():
                            raise
                        del self.trial.steps[begin:]
                        self._clear_pods()
            finally:
                self._is_clearing = True
                self._deadline = max(self._deadline, time.monotonic() + _CLEAN_UP_S)
                with contextlib.suppress(_Failed):
                    self._step("clean up", self._clean_up, is_quiet=True)
        return self.trial

    # -------------------------------------------------------------------- steps

    def _live(self) -> None:
        self._step("load image" if self._is_own else "have image", self._bring_image)
        pod = self._pod()
        self._begun = pb.RunPodSandboxRequest(config=pod)
        pod_id = self._step("run pod", lambda: self._call(self._begun)).pod_sandbox_id
        self._begun, self._pod_id = None, pod_id
        if self._has_network:
            self._step("have address", lambda: self._see_address(pod_id))
        asked = pb.CreateContainerRequest(pod_sandbox_id=pod_id, config=self._container(), sandbox_config=pod)
        container_id = self._step("create", lambda: self._call(asked)).container_id
        self._step("start", lambda: self._call(pb.StartContainerRequest(container_id=container_id)))
        if self._is_own:
            self._step("read log", self._read_log)
            self._step("exec", lambda: self._exec(container_id))
        else:
            self._step("watch", lambda: self._watch(container_id))
        self._step("stop container", lambda: self._call(pb.StopContainerRequest(container_id=container_id)))
        self._step("stop pod", lambda: self._call(pb.StopPodSandboxRequest(pod_sandbox_id=pod_id)))
        self._step("remove pod", lambda: self._call(pb.RemovePodSandboxRequest(pod_sandbox_id=pod_id)))
        if self._is_ours_to_remove:
            self._step("remove image", self._remove_image)

    def _step(self, name: str, act: t.Callable[[], t.Any], *, is_quiet: bool = False) -> t.Any:
        """Do one step and note it; a quiet one only when it had something to do."""
        begin = time.monotonic()
        problem = ""
        try:
            self._check_end()
            result = act()
        except CoreError as exc:
            problem = str(exc)
        except OSError as exc:
            problem = f"{exc.filename or name}: {exc.strerror}"
        if problem or not is_quiet or result:
            self.trial.steps.append(Step(name, round((time.monotonic() - begin) * 1000, 1), problem))
        if problem:
            raise _Failed
        return result

    def _check_end(self) -> None:
        if self._is_ended and not self._is_clearing:
            raise CoreError("the probe was asked to end")

    def _call(self, request: t.Any) -> t.Any:
        self._check_end()
        return self._client.call(request, timeout_s=max(self._deadline - time.monotonic(), 0.001))

    # -------------------------------------------------------------------- image

    def _bring_image(self) -> None:
        if self._is_own:
            self._is_ours_to_remove = True
            own_image.load_image(self._store())
            return
        spec = pb.ImageSpec(image=self.trial.image)
        if not self._call(pb.ImageStatusRequest(image=spec)).HasField("image"):
            self._is_ours_to_remove = True
            self._call(pb.PullImageRequest(image=spec))

    def _store(self) -> ImageStore:
        """Return the endpoint's store, of which it tells in its status."""
        info = self._call(pb.StatusRequest(verbose=True)).info
        try:
            places = json.loads(info["config"])["paths"]
            paths = Paths(places["state_dir"], places["run_dir"], owner=Owner.CRI)
        except (KeyError, TypeError, ValueError) as exc:
            raise Unsupported(
                "this endpoint does not say where its images are",
                hint="Give an image that it has or can pull (--image)",
            ) from exc
        return ImageStore(paths, SubprocessRunner())

    def _remove_image(self) -> None:
        try:
            self._call(pb.RemoveImageRequest(image=pb.ImageSpec(image=self.trial.image)))
        except CallFailed as exc:
            # Somebody else uses by now what was pulled.
            if self._is_own or exc.status is not Code.ALREADY_EXISTS:
                raise
        self._is_ours_to_remove = False

    # ---------------------------------------------------------------------- pod

    def _pod(self) -> pb.PodSandboxConfig:
        name = f"probe-{os.urandom(4).hex()}"
        options = pb.NamespaceOption(pid=pb.CONTAINER, network=pb.POD if self._has_network else pb.NODE)
        return pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, namespace=NAMESPACE, uid=name),
            hostname=name if self._has_network else "",
            log_directory=self._logs,
            labels={LABEL: "true"},
            linux=pb.LinuxPodSandboxConfig(
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=options)
            ),
        )

    def _container(self) -> pb.ContainerConfig:
        options = pb.NamespaceOption(pid=pb.CONTAINER)
        return pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=_CONTAINER),
            image=pb.ImageSpec(image=self.trial.image),
            log_path=_LOG,
            linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(namespace_options=options)
            ),
        )

    def _see_address(self, pod_id: str) -> None:
        status = self._call(pb.PodSandboxStatusRequest(pod_sandbox_id=pod_id)).status
        if not status.network.ip:
            raise CoreError("the pod has no address", hint="Look at the CNI configuration and its plugins")

    def _read_log(self) -> None:
        path = os.path.join(self._logs, _LOG)
        while time.monotonic() < self._deadline:
            with (
                contextlib.suppress(FileNotFoundError),
                open(path, encoding="utf-8", errors="replace") as log,
            ):
                if any(line.rstrip("\n").endswith(f" stdout F {own_image.LINE}") for line in log):
                    return
            self._check_end()
            time.sleep(_POLL_S)
        raise CoreError(f"{path} does not have the line that the container wrote", hint="Is conmon alive?")

    def _exec(self, container_id: str) -> None:
        asked = pb.ExecSyncRequest(container_id=container_id, cmd=[own_image.PROGRAM, "end"])
        answer = self._call(asked)
        if answer.exit_code or answer.stdout != f"{own_image.LINE}\n".encode():
            raise CoreError(f"it ended with {answer.exit_code} and wrote {answer.stdout[:200]!r}")

    def _watch(self, container_id: str) -> None:
        """See that a container goes on, or has ended well."""
        until = time.monotonic() + _WATCH_S
        while True:
            status = self._call(pb.ContainerStatusRequest(container_id=container_id)).status
            if status.state == pb.CONTAINER_EXITED:
                if status.exit_code:
                    raise CoreError(f"the container ended with {status.exit_code} ({status.reason})")
                return
            if time.monotonic() > until:
                return
            time.sleep(_POLL_S)

    # ----------------------------------------------------------------- clearing

    def _was_taken_away(self) -> bool:
        """Say whether the pod is gone, or was stopped, by somebody else."""
        if not self._pod_id:
            return False
        try:
            status = self._call(pb.PodSandboxStatusRequest(pod_sandbox_id=self._pod_id)).status
        except CallFailed as exc:
            return exc.status is Code.NOT_FOUND
        except CoreError:
            return False
        return bool(status.state != pb.SANDBOX_READY)

    def _clear_pods(self) -> bool:
        """Remove every pod of a probe; say whether there was one."""
        found = [pod for pod in self._call(pb.ListPodSandboxRequest()).items if is_probe(pod)]
        for pod in found:
            self._call(pb.StopPodSandboxRequest(pod_sandbox_id=pod.id))
            self._call(pb.RemovePodSandboxRequest(pod_sandbox_id=pod.id))
        shutil.rmtree(self._logs, ignore_errors=True)
        return bool(found)

    def _clean_up(self) -> bool:
        if self._begun is not None:
            # What did not end in time goes on: the same request waits for it.
            with contextlib.suppress(CallFailed):
                self._call(self._begun)
        had_pods = self._clear_pods()
        had_image = self._is_ours_to_remove
        if had_image:
            self._remove_image()
        return had_pods or had_image

    @contextlib.contextmanager
    def _alone(self) -> t.Iterator[None]:
        """Keep other probes of this endpoint out."""
        handle = os.open(
            os.path.dirname(self._client.socket_path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        try:
            self._step("wait for others", lambda: self._lock(handle), is_quiet=True)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> bool:
        has_waited = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return has_waited
            except BlockingIOError:
                has_waited = True
                self._check_end()
                if time.monotonic() > self._deadline:
                    raise Conflict(
                        "another probe of this endpoint does not end", hint="Look for it"
                    ) from None
                time.sleep(_POLL_S)
