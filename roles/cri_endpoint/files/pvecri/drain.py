# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop and remove all pods of a running endpoint, as its clients would."""

from __future__ import annotations

import time
import typing as t

from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed


def drain(client: Client, *, timeout_s: float) -> tuple[list[str], list[str]]:
    """Return the ids of pods that are gone, and what went wrong with others; raises NoEndpoint.

    A pod that cannot be stopped does not keep the others.
    """
    deadline = time.monotonic() + timeout_s
    removed, problems = [], []
    for pod in client.call(pb.ListPodSandboxRequest()).items:
        for request in (
            pb.StopPodSandboxRequest(pod_sandbox_id=pod.id),
            pb.RemovePodSandboxRequest(pod_sandbox_id=pod.id),
        ):
            problem = _called(client, request, deadline - time.monotonic())
            if problem:
                problems.append(f"{pod.metadata.namespace}/{pod.metadata.name} ({pod.id}): {problem}")
                break
        else:
            removed.append(pod.id)
    return removed, problems


def _called(client: Client, request: t.Any, left_s: float) -> str:
    if left_s <= 0:
        return "no time was left for it"
    try:
        client.call(request, timeout_s=left_s)
    except CallFailed as exc:
        return str(exc)
    return ""
