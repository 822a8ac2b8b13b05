# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure crun_container against containers.podman's podman_container."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.tests.performance.context import (
    BareModule,
    Context,
    ModuleProcess,
    need_programs,
    need_root,
)
from ansible_collections.pvecri.runtime.tests.performance.measure import Series, in_turn, sampled
from ansible_collections.pvecri.runtime.tests.performance.report import Section, Target, timing_table

TITLE = "crun_container: against containers.podman"

PEER = "containers.podman"
NOTHING = "a module that does nothing"
#: One container's life; each step says whether it must change something.
STEPS = (("create and start", True), ("unchanged rerun", False), ("absent", True))
#: PID 1 must heed TERM, or removing would be waiting.
COMMAND = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
RERUN_FACTOR = 0.5


def measure(context: Context) -> Section:
    """Take one container through its life with either module, in turn."""
    from ansible_collections.pvecri.runtime.tests.support import images

    need_root()
    need_programs("crun", "conmon", "skopeo", "podman")
    layout = images.busybox_image(os.path.join(context.work_dir, "image")).path
    # conmon's sockets need a path that is short.
    top = tempfile.mkdtemp(prefix="pvecri-")
    peer_environment = _podman_settings(top)
    peer_image = _fill_podman(layout, top)
    ours = ModuleProcess(context, "pvecri.runtime.crun_container")
    theirs = ModuleProcess(context, "containers.podman.podman_container", environment=peer_environment)
    lives = {
        "ours": (ours, _own_steps(layout, top)),
        PEER: (theirs, _peer_steps(peer_image)),
    }
    try:
        taken = in_turn(
            {
                who: [
                    functools.partial(sampled, functools.partial(module.expect, parameters, changed=changed))
                    for (_step, changed), parameters in zip(STEPS, steps, strict=True)
                ]
                for who, (module, steps) in lives.items()
            }
            | {NOTHING: [functools.partial(sampled, BareModule(context).run)]},
            context.runs,
            progress=context.progress,
        )
    finally:
        for module, steps in lives.values():
            with contextlib.suppress(RuntimeError):
                module(steps[-1])
        rootfs.unmount_below(top)
        shutil.rmtree(top, ignore_errors=True)
    series = {
        step: [Series(who, tuple(taken[who][index])) for who in lives]
        for index, (step, _changed) in enumerate(STEPS)
    }
    rerun = series["unchanged rerun"]
    rerun.append(Series(NOTHING, tuple(taken[NOTHING][0])))
    return Section(
        "podman",
        TITLE,
        "Each module runs as a process of its own, on the same busybox image, which is in its store already, "
        "without a network, with crun and conmon below both.",
        tuple(timing_table(step.capitalize(), items, baseline=PEER) for step, items in series.items()),
        (Target(f"unchanged rerun against {PEER}", rerun[0].median / rerun[1].median, RERUN_FACTOR, "×"),),
    )


def _own_steps(layout: str, top: str) -> list[dict[str, t.Any]]:
    places = {"state_dir": f"{top}/s", "run_dir": f"{top}/r"}
    wanted = {
        **places,
        "name": "bench",
        "image": f"oci:{layout}:latest",
        "command": COMMAND,
        "network": "none",
    }
    return [wanted, wanted, {**places, "name": "bench", "state": "absent"}]


def _peer_steps(image: str) -> list[dict[str, t.Any]]:
    wanted = {"name": "bench", "image": image, "command": COMMAND, "network": ["none"], "state": "started"}
    return [wanted, wanted, {"name": "bench", "state": "absent"}]


def _podman_settings(top: str) -> dict[str, str]:
    """Give podman places of its own, and the same crun; return the environment that says so."""
    storage, engine = os.path.join(top, "storage.conf"), os.path.join(top, "containers.conf")
    with open(storage, "w", encoding="utf-8") as stream:
        stream.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{top}/ps"\nrunroot = "{top}/pr"\n')
    with open(engine, "w", encoding="utf-8") as stream:
        stream.write(
            '[engine]\nruntime = "crun"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'tmp_dir = "{top}/pt"\n[containers]\nlog_driver = "k8s-file"\n'
            # Podman would raise the limits, which not every test machine permits.
            'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
        )
    return {"CONTAINERS_STORAGE_CONF": storage, "CONTAINERS_CONF": engine}


def _fill_podman(layout: str, top: str) -> str:
    image = "localhost/bench:latest"
    store = f"containers-storage:[overlay@{top}/ps+{top}/pr]{image}"
    argv = ["skopeo", "copy", "--insecure-policy", f"oci:{layout}:latest", store]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return image
