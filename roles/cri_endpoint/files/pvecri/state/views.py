# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build what the CRI shows of a record, each encoded once; pure.

List and status answers are made by joining bytes: a repeated field's element is its
tag, its length and itself (protobuf encoding, "Length-Delimited Records"), so an
answer that holds a hundred of them is one `bytes.join`.
"""

from __future__ import annotations

import functools
import types
import typing as t

from google.protobuf.message import DecodeError, Message

from pvecri.api import cri_pb2
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord, reason_of

_LENGTH_DELIMITED = 2

#: Exit code shown for a container that ended while nobody looked.
UNKNOWN_EXIT_CODE = 255

_CONTAINER_STATES = {
    Phase.CREATING: cri_pb2.CONTAINER_CREATED,
    Phase.CREATED: cri_pb2.CONTAINER_CREATED,
    Phase.RUNNING: cri_pb2.CONTAINER_RUNNING,
    Phase.EXITED: cri_pb2.CONTAINER_EXITED,
}


def varint(value: int) -> bytes:
    """Return a number as protobuf writes lengths and tags."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def element(number: int, data: bytes) -> bytes:
    """Return ``data`` as the field ``number`` of the message around it."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data


def number(field: int, value: int) -> bytes:
    """Return a number as the field ``field`` of the message around it; proto3 leaves noughts out."""
    return varint(field << 3) + varint(value) if value else b""


def string_map(number: int, values: t.Mapping[str, str]) -> bytes:
    """Return a field of type ``map<string, string>``."""
    return b"".join(
        element(number, element(1, key.encode()) + element(2, value.encode()))
        for key, value in values.items()
    )


@functools.cache
def signal_value(name: str) -> cri_pb2.Signal:
    """Return the CRI's number of a signal's name; RUNTIME_DEFAULT for one that it does not have."""
    text = "SIGNAL_" + name.upper().replace("+", "PLUS").replace("-", "MINUS")
    known = cri_pb2.Signal.DESCRIPTOR.values_by_name
    number = known[text].number if text in known else int(cri_pb2.SIGNAL_RUNTIME_DEFAULT)
    return t.cast(cri_pb2.Signal, number)


class SandboxView:
    """One sandbox as filters and answers see it."""

    __slots__ = ("_config", "_item", "_status", "id", "labels", "record", "sandbox_id", "state")

    def __init__(self, record: SandboxRecord) -> None:
        self.record = record
        self.id = self.sandbox_id = record.id
        self._config = parsed(cri_pb2.PodSandboxConfig, record.config)
        self.labels: t.Mapping[str, str] = types.MappingProxyType(dict(self._config.labels))
        self.state = cri_pb2.SANDBOX_READY if record.phase is Phase.READY else cri_pb2.SANDBOX_NOTREADY
        self._item: bytes | None = None
        self._status: bytes | None = None

    @property
    def item(self) -> bytes:
        """The `PodSandbox` as field 1 of a list."""
        if self._item is None:
            config, record = self._config, self.record
            message = cri_pb2.PodSandbox(
                id=record.id,
                metadata=config.metadata,
                state=self.state,
                created_at=record.created_at_ns,
                labels=config.labels,
                annotations=config.annotations,
                runtime_handler=record.handler,
            )
            self._item = element(1, message.SerializeToString())
        return self._item

    @property
    def status(self) -> bytes:
        """The `PodSandboxStatus`."""
        if self._status is None:
            config, record = self._config, self.record
            message = cri_pb2.PodSandboxStatus(
                id=record.id,
                metadata=config.metadata,
                state=self.state,
                created_at=record.created_at_ns,
                network=cri_pb2.PodSandboxNetworkStatus(
                    ip=record.ips[0] if record.ips else "",
                    additional_ips=[cri_pb2.PodIP(ip=ip) for ip in record.ips[1:]],
                ),
                labels=config.labels,
                annotations=config.annotations,
                runtime_handler=record.handler,
            )
            message.linux.namespaces.options.CopyFrom(config.linux.security_context.namespace_options)
            self._status = message.SerializeToString()
        return self._status


class ContainerView:
    """One container as filters and answers see it."""

    __slots__ = ("_config", "_item", "_status", "id", "labels", "record", "sandbox_id", "state")

    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.id = record.id
        self.sandbox_id = record.sandbox_id
        self._config = parsed(cri_pb2.ContainerConfig, record.config)
        self.labels: t.Mapping[str, str] = types.MappingProxyType(dict(self._config.labels))
        self.state = _CONTAINER_STATES.get(record.phase, cri_pb2.CONTAINER_UNKNOWN)
        self._item: bytes | None = None
        self._status: bytes | None = None

    @property
    def item(self) -> bytes:
        """The `Container` as field 1 of a list."""
        if self._item is None:
            config, record = self._config, self.record
            message = cri_pb2.Container(
                id=record.id,
                pod_sandbox_id=record.sandbox_id,
                metadata=config.metadata,
                image=self._image(),
                image_ref=record.image_ref,
                state=self.state,
                created_at=record.created_at_ns,
                labels=config.labels,
                annotations=config.annotations,
                image_id=record.image_id,
            )
            self._item = element(1, message.SerializeToString())
        return self._item

    @property
    def status(self) -> bytes:
        """The `ContainerStatus`."""
        if self._status is None:
            config, record = self._config, self.record
            exit_code, reason = _ending(record)
            message = cri_pb2.ContainerStatus(
                id=record.id,
                metadata=config.metadata,
                state=self.state,
                created_at=record.created_at_ns,
                started_at=record.started_at_ns,
                finished_at=record.finished_at_ns,
                exit_code=exit_code,
                image=self._image(),
                image_ref=record.image_ref,
                reason=reason,
                message=record.message,
                labels=config.labels,
                annotations=config.annotations,
                mounts=[parsed(cri_pb2.Mount, mount) for mount in record.mounts],
                log_path=record.log_path,
                image_id=record.image_id,
                stop_signal=signal_value(record.stop_signal),
            )
            if record.resources:
                message.resources.linux.CopyFrom(parsed(cri_pb2.LinuxContainerResources, record.resources))
            user = message.user.linux
            user.uid, user.gid = record.uid, record.gid
            user.supplemental_groups.extend(record.groups)
            self._status = message.SerializeToString()
        return self._status

    def _image(self) -> cri_pb2.ImageSpec:
        """Return the image as it was asked for, by its name where the record has one."""
        name = self.record.extra.get("image_name")
        if not isinstance(name, str) or not name:
            return self._config.image
        image = cri_pb2.ImageSpec()
        image.CopyFrom(self._config.image)
        image.image = name
        return image


def _ending(record: ContainerRecord) -> tuple[int, str]:
    """Return exit code and reason as a status shows them."""
    if record.phase is not Phase.EXITED:
        return 0, record.reason
    code = UNKNOWN_EXIT_CODE if record.exit_code is None else record.exit_code
    return code, record.reason or reason_of(code)


M = t.TypeVar("M", bound=Message)


def parsed(kind: type[M], data: bytes) -> M:
    """Return a message; an empty one for bytes that a damaged record holds."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return kind()


def sandbox_status_answer(
    view: SandboxView,
    info: t.Mapping[str, str] | None = None,
    containers: t.Iterable[ContainerView] = (),
    timestamp_ns: int = 0,
) -> bytes:
    """Return a `PodSandboxStatusResponse`."""
    answer = element(1, view.status)
    if info:
        answer += string_map(2, info)
    answer += b"".join(element(3, container.status) for container in containers)
    return answer + number(4, timestamp_ns)


def container_status_answer(view: ContainerView, info: t.Mapping[str, str] | None = None) -> bytes:
    """Return a `ContainerStatusResponse`."""
    answer = element(1, view.status)
    return answer + string_map(2, info) if info else answer
