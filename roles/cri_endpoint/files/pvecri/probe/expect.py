# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what runs with what ran before, as an earlier probe has noted it."""

from __future__ import annotations

import json
import sys
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed
from pvecri.probe.health import Running
from pvecri.rpc.status import Code


def read_expected(path: str) -> tuple[Running, ...]:
    """Return the containers of an earlier ``probe --json``; ``-`` is standard input.  Raises InvalidSpec."""
    try:
        if path == "-":
            document = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as stream:
                document = json.load(stream)
        return tuple(
            Running(
                id=_text(each, "id"),
                name=_text(each, "name"),
                pod=_text(each, "pod"),
                namespace=_text(each, "namespace"),
                started_at=int(each["started_at"]),
            )
            for each in document["running"]
        )
    except OSError as exc:
        raise InvalidSpec("expect", f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise InvalidSpec(
            "expect", f"{path} is not what a probe has printed", hint="Make it with 'pvecri probe --json'"
        ) from exc


def _text(entry: t.Mapping[str, t.Any], key: str) -> str:
    if not isinstance(entry[key], str):
        raise TypeError(key)
    return t.cast("str", entry[key])


def differences(client: Client, expected: t.Iterable[Running], running: t.Iterable[Running]) -> list[str]:
    """Return one text for each expected container that does not run any more, or not since then.

    One that has completed its work meanwhile, with exit code 0, is none of them.
    """
    now = {each.id: each for each in running}
    by_place = {(each.namespace, each.pod, each.name): each for each in now.values()}
    found = []
    for each in expected:
        place = (each.namespace, each.pod, each.name)
        what = f"container {each.name} of {each.namespace}/{each.pod} ({each.id[:13]})"
        same = now.get(each.id)
        if same is None:
            fate = _fate(client, each.id)
            if fate is None:
                continue
            other = by_place.get(place)
            again = f"; another one runs in its place ({other.id[:13]})" if other is not None else ""
            found.append(f"{what} {fate}{again}")
        elif same.started_at != each.started_at:
            found.append(f"{what} was started again")
    return found


def _fate(client: Client, container_id: str) -> str | None:
    """Return what became of a container; None when it has completed."""
    try:
        status = client.call(pb.ContainerStatusRequest(container_id=container_id)).status
    except CallFailed as exc:
        if exc.status is Code.NOT_FOUND:
            return "is gone"
        raise
    if status.state == pb.CONTAINER_EXITED:
        if status.exit_code == 0:
            return None
        reason = f" ({status.reason})" if status.reason else ""
        return f"ended with exit code {status.exit_code}{reason}"
    return f"is in the state {pb.ContainerState.Name(status.state)}"
