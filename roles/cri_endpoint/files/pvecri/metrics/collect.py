# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the page of metrics together when it is asked for: what is counted, and what is so now."""

from __future__ import annotations

import collections
import dataclasses
import os
import resource
import sys
import time
import typing as t

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.api import cri_pb2 as pb
from pvecri.context import Context
from pvecri.images.service import ImageService
from pvecri.metrics import families as f
from pvecri.metrics.counts import ExitCounts, Recovered, RpcCounts
from pvecri.metrics.text import Page
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

_SANDBOX_PHASES = (Phase.CREATING, Phase.READY, Phase.STOPPED, Phase.UNKNOWN)
_CONTAINER_PHASES = (Phase.CREATING, Phase.CREATED, Phase.RUNNING, Phase.EXITED, Phase.UNKNOWN)

#: proc(5), /proc/PID/stat after the name: the fields are counted from the third.
_UTIME, _STIME, _THREADS, _START, _VSIZE, _RSS = 11, 12, 17, 19, 20, 21


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What only the event loop knows, taken there."""

    is_ready: bool
    in_flight: int
    streams_open: t.Mapping[str, int]
    streams_served: t.Mapping[str, int]
    recovered: Recovered | None


class Metrics:
    """Everything that is counted; one for the daemon."""

    def __init__(self, context: Context, images: ImageService) -> None:
        self._context = context
        self._images = images
        self.rpcs = RpcCounts()
        self.exits = ExitCounts()
        #: What was done to containers in Proxmox VE; nothing where there is none.
        self.lxc_findings: t.Mapping[str, int] = {}
        host = context.host
        self._build = (
            pvecri.__version__,
            "{}.{}.{}".format(*sys.version_info),
            ".".join(map(str, host.crun_version)),
            str(host.cgroup_version),
        )

    def page(self, now: Now) -> str:
        """Return all metrics; called in a thread, for it may wait for a disk."""
        page = Page()
        page.add(f.BUILD, [(self._build, 1)])
        page.add(f.READY, [((), int(now.is_ready))])
        self._add_rpcs(page, now)
        self._add_objects(page)
        self._add_images(page)
        if now.recovered is not None:
            page.add(f.RECOVERY_TIME, [((), now.recovered.seconds)])
            page.add(f.RECOVERED, _by(now.recovered.objects))
            page.add(f.MENDS, _by(now.recovered.mends))
        _add_process(page)
        return page.text()

    def _add_rpcs(self, page: Page, now: Now) -> None:
        page.add(f.RPCS, self.rpcs.ended())
        page.add_histograms(f.RPC_TIMES, self.rpcs.times())
        page.add(f.RPCS_IN_FLIGHT, [((), now.in_flight)])
        page.add(f.STREAMS, _by(now.streams_open))
        page.add(f.STREAMS_SERVED, _by(now.streams_served))

    def _add_objects(self, page: Page) -> None:
        registry = self._context.registry
        page.add(f.SANDBOXES, _by(_phases(registry.sandboxes(), _SANDBOX_PHASES)))
        page.add(f.CONTAINERS, _by(_phases(registry.containers(), _CONTAINER_PHASES)))
        page.add(f.EXITS, self.exits.values())
        page.add(f.LXC_FINDINGS, _by(self.lxc_findings))

    def _add_images(self, page: Page) -> None:
        pulls, state = self._images.counts, self._images.pulls()
        page.add(f.PULLS, [(("success",), pulls.succeeded), (("failure",), pulls.failed)])
        page.add_histograms(f.PULL_TIMES, [((), pulls.times)])
        page.add(f.PULL_BYTES, [((), pulls.bytes)])
        progress = {"waiting": state.waiting, "working": state.running - state.idle, "stalled": state.idle}
        page.add(f.PULLS_IN_PROGRESS, _by(progress))
        page.add(f.IMAGES, self._image_count())
        usage = pb.ImageFsInfoResponse.FromString(self._images.fs_info_bytes())
        kinds = {"images": usage.image_filesystems, "containers": usage.container_filesystems}
        page.add(f.STORE_BYTES, [((kind,), found[0].used_bytes.value) for kind, found in kinds.items()])
        page.add(f.STORE_INODES, [((kind,), found[0].inodes_used.value) for kind, found in kinds.items()])

    def _image_count(self) -> list[tuple[tuple[str, ...], float]]:
        """Return how many images there are; nothing when the store cannot be read: the rest is told."""
        try:
            return [((), len(self._images.catalogue.snapshot().by_id))]
        except (CoreError, OSError) as exc:
            self._context.log.warning("images cannot be counted", extra={"error": str(exc)})
            return []


def _by(values: t.Mapping[str, float]) -> list[tuple[tuple[str, ...], float]]:
    return [((str(key),), value) for key, value in values.items()]


def _phases(
    records: t.Sequence[SandboxRecord] | t.Sequence[ContainerRecord], phases: t.Iterable[Phase]
) -> dict[str, float]:
    counts = collections.Counter(record.phase for record in records)
    return {phase.value: counts[phase] for phase in phases}


def _add_process(page: Page) -> None:
    """Write what the kernel knows of this process, by the names that Prometheus has for all programs."""
    with open("/proc/self/stat", "rb") as stream:
        fields = stream.read().rpartition(b")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for family, value in (
        (f.CPU, (int(fields[_UTIME]) + int(fields[_STIME])) / ticks),
        (f.RESIDENT, int(fields[_RSS]) * resource.getpagesize()),
        (f.VIRTUAL, int(fields[_VSIZE])),
        # The list of the directory is read through one of them.
        (f.FILES, len(os.listdir("/proc/self/fd")) - 1),
        (f.FILES_MAX, soft),
        (f.THREADS, int(fields[_THREADS])),
        (f.STARTED, round(booted + int(fields[_START]) / ticks, 2)),
    ):
        page.add(family, [((), value)])
