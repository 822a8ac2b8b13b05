# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what was asked of a container beside its bundle, in the bundle's own record."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import (
    RESOURCE_OPTIONS,
    STOP_TIMEOUT_S,
    HealthRequest,
    LogRequest,
    NetworkRequest,
    Port,
    RestartPolicy,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    HealthCheck,
    ImageConfig,
    IoLimit,
    Resources,
    to_plain,
)

#: Key of the bundle record's ``extra`` under which an intent is kept.
KEY = "container"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What was asked of one container, and what of its image still counts after it was made."""

    #: The shaped request, see `compare.shape`.
    request: Plain
    #: Stop signal, health check and labels of the image.
    image: Plain = dataclasses.field(default_factory=dict)
    #: Limits of live updates that have begun: the kernel may have any of them, or the recorded ones.
    pending: list[Plain] = dataclasses.field(default_factory=list)
    #: A task stopped the container; it did not end by itself.
    was_stopped: bool = False

    def plain(self) -> Plain:
        """Return the intent as JSON data."""
        return dataclasses.asdict(self)

    @classmethod
    def load(cls, extra: t.Mapping[str, t.Any]) -> t.Self | None:
        """Return the intent in a bundle's record; None when the bundle is not a container's."""
        plain = extra.get(KEY)
        return cls(**plain) if plain is not None else None

    @property
    def network(self) -> NetworkRequest | None:
        """How the container reaches others; None for one whose bundle decides that."""
        request = self.request
        if "bundle" in request and "network" not in request:
            return None
        ports = request.get("published_ports", {}).values()
        return NetworkRequest(
            mode=request.get("network", NetworkRequest().mode),
            ports=tuple(Port(**{k: v for k, v in port.items() if k != "key"}) for port in ports),
            dns_servers=tuple(request.get("dns_servers", ())),
            dns_search=tuple(request.get("dns_search", ())),
            dns_options=tuple(request.get("dns_options", ())),
            hosts=tuple(request.get("etc_hosts", {}).items()),
        )

    @property
    def log(self) -> LogRequest:
        """Where the output goes."""
        return LogRequest(**self.request.get("log", {}))

    @property
    def restart(self) -> RestartPolicy:
        """When systemd starts the container again."""
        return restart_of(self.request)

    @property
    def stop_timeout_s(self) -> float:
        """How long the container may take to end by its stop signal."""
        return float(self.request.get("stop_timeout", STOP_TIMEOUT_S))

    @property
    def stop_signal(self) -> str:
        """The signal that asks the container to end: as asked for, else as the image says."""
        return str(self.request.get("stop_signal") or self.image.get("stop_signal") or "SIGTERM")

    @property
    def health_check(self) -> tuple[HealthRequest, HealthCheck | None]:
        """What was asked about the health check, and the image's own."""
        asked = dict(self.request.get("health_check", {}))
        if "command" in asked:
            asked["command"] = tuple(asked["command"])
        image = self.image.get("health_check")
        if image is not None:
            image = HealthCheck(**{**image, "command": tuple(image["command"])})
        return HealthRequest(**asked), image

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the image, and over them those that were asked for."""
        return {**self.image.get("labels", {}), **self.request.get("labels", {})}


def restart_of(request: Plain) -> RestartPolicy:
    """Return the restart policy of a shaped request."""
    return RestartPolicy(**request.get("restart_policy", {}))


def resources_of(plain: Plain) -> Resources:
    """Return the limits that ``resources`` of a shaped request stands for."""
    fields = {option: field for field, option in RESOURCE_OPTIONS.items()}
    values = {fields.get(key, key): value for key, value in plain.items()}
    for key in ("hugepages", "unified"):
        if key in values:
            values[key] = tuple(values[key].items())
    if "io_limits" in values:
        values["io_limits"] = tuple(IoLimit(**limit) for limit in values["io_limits"].values())
    return Resources(**values)


def image_part(config: ImageConfig) -> Plain:
    """Return what of an image's configuration an intent keeps."""
    part: Plain = {}
    if config.stop_signal:
        part["stop_signal"] = config.stop_signal
    if config.health_check is not None:
        part["health_check"] = to_plain(config.health_check)
    if config.labels:
        part["labels"] = dict(config.labels)
    return part
