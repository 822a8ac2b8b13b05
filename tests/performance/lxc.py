# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure LXC pods: what the endpoint adds to the time of Proxmox VE's tasks, and what an archive costs.

The node is a played one with real LXC (tests/support/pve_node.py); the daemon, its requests over
HTTPS, conmon, the launcher and the containers are the real ones.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import statistics
import subprocess
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.images.archive_writer import write_archive
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.tests.performance.context import Context, need_programs, need_root
from ansible_collections.pvecri.runtime.tests.performance.measure import Case, interleaved
from ansible_collections.pvecri.runtime.tests.performance.report import (
    Cell,
    Section,
    Table,
    Target,
    Unavailable,
    timing_table,
)

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.tests.performance.lxc_lives import Call, Lab

TITLE = "LXC pods: the endpoint's own time beside Proxmox VE's, and archives of images beside skopeo's"

#: As long as a node with LVM takes to make a container of a small image, and to start it.
SLOW_S = (5.0, 1.5)
OWN_LIMIT_MS, WHOLE_LIMIT_S = 300.0, 10.0
#: Of what fills an image; its layers are not compressed in an archive, and cannot be.
LAYERS, LAYER_MIB = 4, 12
_ARCHIVE_RATIO = 0.25
_STEPS = ("CreateContainer", "StartContainer")

_TEXT = (
    "The node is a played one: the API of fakepve, behind which containers are unpacked, started and stopped "
    "with this machine's LXC. Own time is what a call took while no task of the node was at work; what the "
    "endpoint does beside a task costs nobody anything. The container's program is stopped by KILL. Where "
    f"tasks are slow, they are made to take {SLOW_S[0]:g} s (create) and {SLOW_S[1]:g} s (start) longer, so "
    "that how soon their end is seen counts, too."
)

Lives = t.Sequence[t.Mapping[str, "Call"]]


def measure(context: Context) -> Section:
    """Measure lives of pods, then archives."""
    need_root()
    need_programs("crun", "conmon", "skopeo", "lxc-start", "lxc-attach")
    missing = [name for name in ("grpc", "pvecri", "fakepve") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(f"this Python does not find {' and '.join(missing)}")
    from ansible_collections.pvecri.runtime.tests.performance import (
        endpoint_hosts,
        endpoint_tables,
        lxc_lives,
    )

    # Sockets need a path that is short.
    with tempfile.TemporaryDirectory(prefix="pb-", dir="/tmp") as work_dir, lxc_lives.lab(work_dir) as lab:
        context.progress("the first container of an image")
        first = lab.life()
        quick = _lives(lab, context, context.runs * 2, "tasks as they are")
        crun = [lab.life(handler="") for _run in range(context.runs + 1)][1:]
        context.progress("where the time goes")
        stages = endpoint_hosts.stages_of(lab.endpoint, lambda: [lab.life() for _run in range(context.runs)])
        slow = _lives(lab, context, max(2, context.runs // 2), "slow tasks", *SLOW_S)
    archives, ratio = _archives(context)
    return Section(
        "lxc",
        TITLE,
        _TEXT,
        (
            _table("Tasks as they are here, milliseconds", quick, crun),
            _table("Slow tasks, milliseconds", slow),
            *endpoint_tables.stages_table(stages),
            _first_table(first, quick),
            archives,
        ),
        (
            *(_own_target(lives, what) for lives, what in ((quick, "quick"), (slow, "slow"))),
            Target(
                "create and start of an LXC pod's container with slow tasks, whole",
                _median(slow, _whole) / 1000,
                WHOLE_LIMIT_S,
                "s",
            ),
            Target("an archive of an image against skopeo's", ratio, _ARCHIVE_RATIO, "×"),
        ),
    )


def _lives(lab: Lab, context: Context, runs: int, what: str, *slow_s: float) -> Lives:
    found = []
    for number in range(runs):
        if slow_s:
            lab.slow(*slow_s)
        found.append(lab.life())
        context.progress(f"{what}: {number + 1} of {runs}")
    return found


# ---- lives -------------------------------------------------------------------------------------------------


def _whole(life: t.Mapping[str, Call]) -> float:
    return sum(life[name].whole for name in _STEPS)


def _own(life: t.Mapping[str, Call]) -> float:
    return sum(life[name].own for name in _STEPS)


def _median(lives: Lives, figure: t.Callable[[t.Mapping[str, Call]], float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(map(figure, lives)) * 1000


def _own_target(lives: Lives, what: str) -> Target:
    return Target(
        f"create and start of an LXC pod's container beyond Proxmox VE's {what} tasks",
        _median(lives, _own),
        OWN_LIMIT_MS,
        "ms",
    )


def _table(title: str, lives: Lives, crun: Lives = ()) -> Table:
    columns = ("call", "whole", "Proxmox VE's tasks", "own", "own, min", "own, max")
    rows: list[tuple[Cell, ...]] = []
    figures = {name: (_part(name, "whole"), _part(name, "own")) for name in lives[0]}
    figures["create and start"] = (_whole, _own)
    for name, (whole, own) in figures.items():
        owns = sorted(own(life) * 1000 for life in lives)
        beside = _median(lives, lambda life, w=whole, o=own: w(life) - o(life))  # type: ignore[misc]
        row: tuple[Cell, ...] = (
            name,
            _median(lives, whole),
            beside,
            statistics.median(owns),
            owns[0],
            owns[-1],
        )
        rows.append((*row, _median(crun, whole)) if crun else row)
    return Table(title, (*columns, "the same under crun") if crun else columns, tuple(rows))


def _part(name: str, field: str) -> t.Callable[[t.Mapping[str, Call]], float]:
    return lambda life: float(getattr(life[name], field))


def _first_table(first: t.Mapping[str, Call], quick: Lives) -> Table:
    own = _part("CreateContainer", "own")
    row = ("CreateContainer, own", own(first) * 1000, _median(quick, own))
    return Table("The image's archive is made once, milliseconds", ("call", "first", "later"), (row,))


# ---- archives ----------------------------------------------------------------------------------------------


def _archives(context: Context) -> tuple[Table, float]:
    """Return the times of an archive by either way, and their ratio."""
    from ansible_collections.pvecri.runtime.tests.support.host import made_core
    from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer

    layout = OciLayout(f"{context.work_dir}/layout")
    layers = [
        tar_layer([File(f"data/{number}-{part}", os.urandom(1 << 20)) for part in range(LAYER_MIB)])
        for number in range(LAYERS)
    ]
    layout.add_image("latest", layers, {"Cmd": ["/bin/sh"]})
    target = f"{context.work_dir}/archive.tar"
    with made_core() as core:
        image, _is_new = core.store.ensure(ImageSource(reference=f"oci:{layout.path}:latest"))
        place = f"overlay@{core.paths.storage}+{core.paths.storage_run}"
        argv = ["skopeo", "copy", "--quiet", "--insecure-policy", f"containers-storage:[{place}]@{image.id}"]

        def skopeo() -> None:
            subprocess.run([*argv, f"oci-archive:{target}"], check=True, capture_output=True)

        def gone() -> None:
            os.unlink(target)

        ours = functools.partial(write_archive, image, core.store.files_of(image), target)
        series = interleaved(
            [Case("ours", ours, after=gone), Case("skopeo", skopeo, after=gone)],
            max(3, context.runs // 2),
            progress=lambda text: context.progress(f"archives: {text}"),
        )
    size = LAYERS * LAYER_MIB
    table = timing_table(f"Archive of an image of {size} MiB in {LAYERS} layers", series, baseline="skopeo")
    return table, series[0].median / series[1].median
