# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name every metric that there is: what docs/monitoring.md lists, and nothing else is exposed."""

from __future__ import annotations

import typing as t

from pvecri.metrics.text import Family

BUILD: t.Final = Family(
    "pvecri_build_info",
    "gauge",
    "Always 1; the labels say what runs here.",
    ("version", "python", "crun", "cgroup_version"),
)
READY: t.Final = Family("pvecri_ready", "gauge", "1 when requests are let in, as /readyz says.")

RPCS: t.Final = Family(
    "pvecri_rpc_requests_total",
    "counter",
    "Requests that were answered, by method and gRPC status code.",
    ("method", "code"),
)
RPC_TIMES: t.Final = Family(
    "pvecri_rpc_duration_seconds",
    "histogram",
    "Time to the answer, of methods that do not stream.",
    ("method",),
)
RPCS_IN_FLIGHT: t.Final = Family("pvecri_rpcs_in_flight", "gauge", "Requests that are worked on.")
STREAMS: t.Final = Family(
    "pvecri_streams_open",
    "gauge",
    "Streams of clients: followers of events, and sessions of exec, attach and port forwarding.",
    ("kind",),
)
STREAMS_SERVED: t.Final = Family(
    "pvecri_stream_sessions_total",
    "counter",
    "Sessions of exec, attach and port forwarding that have begun.",
    ("kind",),
)

SANDBOXES: t.Final = Family("pvecri_sandboxes", "gauge", "Pods by state.", ("state",))
CONTAINERS: t.Final = Family("pvecri_containers", "gauge", "Containers by state.", ("state",))
EXITS: t.Final = Family(
    "pvecri_container_exits_total",
    "counter",
    "Containers that have ended while the daemon ran or was away, by reason.",
    ("reason",),
)

LXC_FINDINGS: t.Final = Family(
    "pvecri_lxc_findings_total",
    "counter",
    "What was found to be done to LXC containers in Proxmox VE behind the endpoint's back.",
    ("kind",),
)

PULLS: t.Final = Family(
    "pvecri_image_pulls_total", "counter", "Pulls that have ended, by result.", ("result",)
)
PULL_TIMES: t.Final = Family("pvecri_image_pull_duration_seconds", "histogram", "Time that a pull took.")
PULL_BYTES: t.Final = Family(
    "pvecri_image_pull_bytes_total", "counter", "Compressed size of the images that pulls brought."
)
PULLS_IN_PROGRESS: t.Final = Family(
    "pvecri_image_pulls_in_progress",
    "gauge",
    "Pulls that wait for a place, that work, and in which nothing moves.",
    ("state",),
)
IMAGES: t.Final = Family("pvecri_images", "gauge", "Images that clients see.")
STORE_BYTES: t.Final = Family(
    "pvecri_filesystem_used_bytes",
    "gauge",
    "Space that images take, and what containers have written.",
    ("kind",),
)
STORE_INODES: t.Final = Family("pvecri_filesystem_used_inodes", "gauge", "Files that these are.", ("kind",))

RECOVERY_TIME: t.Final = Family(
    "pvecri_recovery_duration_seconds", "gauge", "Time that the last start took to look through everything."
)
RECOVERED: t.Final = Family(
    "pvecri_recovery_objects",
    "gauge",
    "What the last start found: all, or those without a record.",
    ("kind",),
)
MENDS: t.Final = Family(
    "pvecri_recovery_mends",
    "gauge",
    "What the last start had to finish or undo: what waits, what is done, what stays as it is.",
    ("result",),
)

CPU: t.Final = Family("process_cpu_seconds_total", "counter", "Processor time of the daemon.")
RESIDENT: t.Final = Family("process_resident_memory_bytes", "gauge", "Memory of the daemon in use.")
VIRTUAL: t.Final = Family("process_virtual_memory_bytes", "gauge", "Address space of the daemon.")
FILES: t.Final = Family("process_open_fds", "gauge", "Open files of the daemon.")
FILES_MAX: t.Final = Family("process_max_fds", "gauge", "Files that it may open.")
THREADS: t.Final = Family("process_threads", "gauge", "Threads of the daemon.")
STARTED: t.Final = Family("process_start_time_seconds", "gauge", "When the daemon began, in Unix time.")

FAMILIES: t.Final[tuple[Family, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Family)
)
