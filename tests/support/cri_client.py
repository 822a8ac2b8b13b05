# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak CRI to an endpoint over its unix socket, as kubelet would.

    with Cri("/run/x.sock") as cri:
        pod_config = pod("web")
        pod_id = cri.run_pod(pod_config)
        container_id = cri.create(pod_id, container("app", IMAGE, ["sleep", "100"]), pod_config)
        cri.start(container_id)
        cri.exec_sync(container_id, ["true"]).exit_code

`AsyncCri` has the same verbs, each of which must be awaited.  An answer other than OK raises
`grpc.RpcError`; `status_of` names its code.
"""

from __future__ import annotations

import abc
import itertools
import os
import typing as t

import grpc
import grpc.aio
from google.protobuf.message import Message

from pvecri.api import cri_pb2 as pb
from pvecri.api.methods import METHODS, Method

Pick = t.Callable[[t.Any], t.Any]

DEFAULT_TIMEOUT_S = 60.0

_OPTIONS = (
    # Go's servers refuse the authority that older versions of grpc make of a socket's path.
    ("grpc.default_authority", "localhost"),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Each client has connections of its own, as two processes would.
    ("grpc.use_local_subchannel_pool", 1),
    # An endpoint that was started again is found soon; one that is slow to answer gets its time.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 200),
)

_numbers = itertools.count()


def unique(prefix: str) -> str:
    """Return a name that no other test has, here or in a process beside this one."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}-{os.urandom(2).hex()}"


def pod(
    name: str | None = None,
    *,
    namespace: str = "default",
    uid: str | None = None,
    attempt: int = 0,
    host_network: bool = False,
    cgroup_parent: str = "",
    **fields: t.Any,
) -> t.Any:
    """Return the config of a simple pod; ``fields`` are further fields of PodSandboxConfig.

    Without ``host_network`` it gets a network namespace of its own.  ``linux`` is a
    LinuxPodSandboxConfig or a dict of its fields; what the keywords say is merged into it.
    """
    name = name or unique("pod")
    linux = fields.pop("linux", {})
    made = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=name, namespace=namespace, uid=name if uid is None else uid, attempt=attempt
        ),
        linux=pb.LinuxPodSandboxConfig(**linux) if isinstance(linux, dict) else linux,
        **fields,
    )
    if cgroup_parent:
        made.linux.cgroup_parent = cgroup_parent
    options = made.linux.security_context.namespace_options
    if host_network:
        options.network = pb.NODE
    elif not made.hostname:
        made.hostname = "pod"
    if not (isinstance(linux, dict) and linux.get("security_context")):
        # As kubelet has it by default: each container has its own processes.
        options.pid = pb.CONTAINER
    return made


def container(
    name: str | None = None,
    image: str = "",
    command: t.Sequence[str] = (),
    args: t.Sequence[str] = (),
    *,
    attempt: int = 0,
    env: t.Mapping[str, str] | None = None,
    linux: t.Any = None,
    **fields: t.Any,
) -> t.Any:
    """Return the config of a simple container; ``fields`` are further fields of ContainerConfig.

    ``linux`` is a LinuxContainerConfig or a dict of its fields.  What is not said about
    namespaces is as in `pod`.
    """
    if linux is None or isinstance(linux, dict):
        given = dict(linux or {})
        context = given.pop("security_context", {})
        if isinstance(context, dict):
            context = pb.LinuxContainerSecurityContext(
                **{"namespace_options": pb.NamespaceOption(pid=pb.CONTAINER), **context}
            )
        linux = pb.LinuxContainerConfig(security_context=context, **given)
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=name or "app", attempt=attempt),
        image=pb.ImageSpec(image=image),
        command=list(command),
        args=list(args),
        envs=[pb.KeyValue(key=key, value=value.encode()) for key, value in (env or {}).items()],
        linux=linux,
        **fields,
    )


def status_of(error: grpc.RpcError) -> str:
    """Return the name of the code that the endpoint answered, such as NOT_FOUND."""
    return str(error.code().name)  # type: ignore[attr-defined]


class Verbs(abc.ABC):
    """Each method of the CRI by a short name; what a call returns, the class below decides.

    Every verb takes ``timeout_s``, the client's deadline, as a keyword.
    """

    @abc.abstractmethod
    def _call(self, name: str, request: Message, pick: Pick | None, **options: t.Any) -> t.Any:
        """Call a method and return what ``pick`` takes from its answer, all of it without one."""

    def version(self, **options: t.Any) -> t.Any:
        """Return the VersionResponse."""
        return self._call("Version", pb.VersionRequest(), None, **options)

    def status(self, *, verbose: bool = False, **options: t.Any) -> t.Any:
        """Return the StatusResponse."""
        return self._call("Status", pb.StatusRequest(verbose=verbose), None, **options)

    def runtime_config(self, **options: t.Any) -> t.Any:
        """Return the RuntimeConfigResponse."""
        return self._call("RuntimeConfig", pb.RuntimeConfigRequest(), None, **options)

    def update_runtime_config(self, pod_cidr: str = "", **options: t.Any) -> t.Any:
        """Tell the runtime the node's range of addresses."""
        request = pb.UpdateRuntimeConfigRequest(
            runtime_config=pb.RuntimeConfig(network_config=pb.NetworkConfig(pod_cidr=pod_cidr))
        )
        return self._call("UpdateRuntimeConfig", request, None, **options)

    # ------------------------------------------------------------------ sandboxes

    def run_pod(self, config: t.Any, handler: str = "", **options: t.Any) -> t.Any:
        """Run a sandbox; return its id."""
        request = pb.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return self._call("RunPodSandbox", request, lambda answer: answer.pod_sandbox_id, **options)

    def stop_pod(self, pod_id: str, **options: t.Any) -> t.Any:
        """Stop a sandbox with all its containers."""
        return self._call("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=pod_id), None, **options)

    def remove_pod(self, pod_id: str, **options: t.Any) -> t.Any:
        """Remove a sandbox with all its containers."""
        request = pb.RemovePodSandboxRequest(pod_sandbox_id=pod_id)
        return self._call("RemovePodSandbox", request, None, **options)

    def pod_status(self, pod_id: str, *, verbose: bool = False, **options: t.Any) -> t.Any:
        """Return the PodSandboxStatus, or with ``verbose`` the whole response."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=pod_id, verbose=verbose)
        return self._call("PodSandboxStatus", request, _status(verbose), **options)

    def list_pods(self, filter_: t.Any = None, **options: t.Any) -> t.Any:
        """Return the list of PodSandbox."""
        request = pb.ListPodSandboxRequest(filter=filter_)
        return self._call("ListPodSandbox", request, lambda answer: list(answer.items), **options)

    def update_pod_resources(
        self, pod_id: str, overhead: t.Any = None, resources: t.Any = None, **options: t.Any
    ) -> t.Any:
        """Change the resources of a pod's cgroup."""
        request = pb.UpdatePodSandboxResourcesRequest(
            pod_sandbox_id=pod_id, overhead=overhead, resources=resources
        )
        return self._call("UpdatePodSandboxResources", request, None, **options)

    # ----------------------------------------------------------------- containers

    def create(self, pod_id: str, config: t.Any, pod_config: t.Any = None, **options: t.Any) -> t.Any:
        """Create a container; return its id."""
        request = pb.CreateContainerRequest(pod_sandbox_id=pod_id, config=config, sandbox_config=pod_config)
        return self._call("CreateContainer", request, lambda answer: answer.container_id, **options)

    def start(self, container_id: str, **options: t.Any) -> t.Any:
        """Start a container."""
        request = pb.StartContainerRequest(container_id=container_id)
        return self._call("StartContainer", request, None, **options)

    def stop(self, container_id: str, stop_timeout_s: int = 0, **options: t.Any) -> t.Any:
        """Stop a container; ``stop_timeout_s`` is how long it may take after its stop signal."""
        request = pb.StopContainerRequest(container_id=container_id, timeout=stop_timeout_s)
        return self._call("StopContainer", request, None, **options)

    def remove(self, container_id: str, **options: t.Any) -> t.Any:
        """Remove a container."""
        request = pb.RemoveContainerRequest(container_id=container_id)
        return self._call("RemoveContainer", request, None, **options)

    def container_status(self, container_id: str, *, verbose: bool = False, **options: t.Any) -> t.Any:
        """Return the ContainerStatus, or with ``verbose`` the whole response."""
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        return self._call("ContainerStatus", request, _status(verbose), **options)

    def list_containers(self, filter_: t.Any = None, **options: t.Any) -> t.Any:
        """Return the list of Container."""
        request = pb.ListContainersRequest(filter=filter_)
        return self._call("ListContainers", request, lambda answer: list(answer.containers), **options)

    def update_resources(
        self,
        container_id: str,
        resources: t.Any,
        annotations: t.Mapping[str, str] | None = None,
        **options: t.Any,
    ) -> t.Any:
        """Change the resources of a container; ``resources`` is a LinuxContainerResources."""
        request = pb.UpdateContainerResourcesRequest(
            container_id=container_id, linux=resources, annotations=annotations
        )
        return self._call("UpdateContainerResources", request, None, **options)

    def reopen_log(self, container_id: str, **options: t.Any) -> t.Any:
        """Have a container's log file opened anew."""
        request = pb.ReopenContainerLogRequest(container_id=container_id)
        return self._call("ReopenContainerLog", request, None, **options)

    def exec_sync(
        self, container_id: str, command: t.Sequence[str], exec_timeout_s: int = 0, **options: t.Any
    ) -> t.Any:
        """Run a command in a container; return the ExecSyncResponse."""
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=exec_timeout_s)
        return self._call("ExecSync", request, None, **options)

    # --------------------------------------------------------------------- images

    def pull(self, image: str, auth: t.Any = None, pod_config: t.Any = None, **options: t.Any) -> t.Any:
        """Pull an image; return the reference to use for it."""
        request = pb.PullImageRequest(image=pb.ImageSpec(image=image), auth=auth, sandbox_config=pod_config)
        return self._call("PullImage", request, lambda answer: answer.image_ref, **options)

    def image_status(self, image: str, *, verbose: bool = False, **options: t.Any) -> t.Any:
        """Return the Image, None where there is none, or with ``verbose`` the whole response."""
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=image), verbose=verbose)
        pick = None if verbose else lambda answer: answer.image if answer.HasField("image") else None
        return self._call("ImageStatus", request, pick, **options)

    def list_images(self, image: str = "", **options: t.Any) -> t.Any:
        """Return the list of Image, all or those that ``image`` names."""
        wanted = pb.ImageFilter(image=pb.ImageSpec(image=image)) if image else None
        request = pb.ListImagesRequest(filter=wanted)
        return self._call("ListImages", request, lambda answer: list(answer.images), **options)

    def remove_image(self, image: str, **options: t.Any) -> t.Any:
        """Remove an image by any of its names."""
        request = pb.RemoveImageRequest(image=pb.ImageSpec(image=image))
        return self._call("RemoveImage", request, None, **options)

    def image_fs_info(self, **options: t.Any) -> t.Any:
        """Return the ImageFsInfoResponse."""
        return self._call("ImageFsInfo", pb.ImageFsInfoRequest(), None, **options)


def _status(verbose: bool) -> Pick | None:
    return None if verbose else lambda answer: answer.status


class Cri(Verbs):
    """A client that waits for each answer; may be shared by threads."""

    def __init__(self, socket_path: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(f"unix:{socket_path}", options=_OPTIONS)
        self._calls: dict[tuple[str, bool], t.Any] = {}

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; calls in flight are cancelled."""
        self._channel.close()

    def call(self, name: str, request: Message | None = None, *, timeout_s: float | None = None) -> t.Any:
        """Call a method by its name; return the response, or an iterator of them where it streams."""
        method = METHODS[name]
        ask = self._method(method, raw=False)
        return ask(request or method.request(), timeout=self.timeout_s if timeout_s is None else timeout_s)

    def raw(self, name: str, request: bytes, *, timeout_s: float | None = None) -> t.Any:
        """Call a method with bytes that need not be a message; return the bytes of the answer."""
        ask = self._method(METHODS[name], raw=True)
        return ask(request, timeout=self.timeout_s if timeout_s is None else timeout_s)

    def begin(self, name: str, request: Message, *, timeout_s: float | None = None) -> grpc.Future:
        """Begin a call and return its future, which can be cancelled."""
        ask = self._method(METHODS[name], raw=False)
        return t.cast(
            "grpc.Future",
            ask.future(request, timeout=self.timeout_s if timeout_s is None else timeout_s),
        )

    def _call(self, name: str, request: Message, pick: Pick | None, **options: t.Any) -> t.Any:
        answer = self.call(name, request, **options)
        return answer if pick is None else pick(answer)

    def _method(self, method: Method, *, raw: bool) -> t.Any:
        ask = self._calls.get((method.name, raw))
        if ask is None:
            ask = self._calls[method.name, raw] = _multicallable(self._channel, method, raw)
        return ask


class AsyncCri(Verbs):
    """The same for asyncio: every verb returns an awaitable."""

    def __init__(self, socket_path: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(f"unix:{socket_path}", options=_OPTIONS)
        self._calls: dict[tuple[str, bool], t.Any] = {}

    async def __aenter__(self) -> t.Self:
        return self

    async def __aexit__(self, *_unused: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        await self._channel.close()

    def call(self, name: str, request: Message | None = None, *, timeout_s: float | None = None) -> t.Any:
        """Return the call of a method: to be awaited, iterated where it streams, or cancelled."""
        method = METHODS[name]
        ask = self._method(method, raw=False)
        return ask(request or method.request(), timeout=self.timeout_s if timeout_s is None else timeout_s)

    def raw(self, name: str, request: bytes, *, timeout_s: float | None = None) -> t.Any:
        """Return the call of a method with bytes that need not be a message; its answer is bytes."""
        ask = self._method(METHODS[name], raw=True)
        return ask(request, timeout=self.timeout_s if timeout_s is None else timeout_s)

    def _call(self, name: str, request: Message, pick: Pick | None, **options: t.Any) -> t.Any:
        return _picked(self.call(name, request, **options), pick)

    def _method(self, method: Method, *, raw: bool) -> t.Any:
        ask = self._calls.get((method.name, raw))
        if ask is None:
            ask = self._calls[method.name, raw] = _multicallable(self._channel, method, raw)
        return ask


async def _picked(call: t.Awaitable[t.Any], pick: Pick | None) -> t.Any:
    answer = await call
    return answer if pick is None else pick(answer)


def _multicallable(channel: t.Any, method: Method, raw: bool) -> t.Any:
    make = channel.unary_stream if method.is_streaming else channel.unary_unary
    return make(
        method.path,
        request_serializer=_unchanged if raw else method.request.SerializeToString,
        response_deserializer=_unchanged if raw else method.response.FromString,
    )


def _unchanged(data: bytes) -> bytes:
    return data
