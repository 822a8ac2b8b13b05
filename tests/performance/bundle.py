# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure bundles: warm against the target, cold against umoci unpack of the same image."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec
from ansible_collections.pvecri.runtime.tests.performance.context import (
    Context,
    ModuleProcess,
    need_programs,
    need_root,
)
from ansible_collections.pvecri.runtime.tests.performance.measure import Case, Series, interleaved
from ansible_collections.pvecri.runtime.tests.performance.report import (
    Section,
    Table,
    Target,
    attempted,
    timing_table,
)

TITLE = "oci_bundle: a warm bundle, and a cold one against umoci unpack"

WARM_LIMIT_MS = 50
UMOCI = "umoci unpack"
#: Layers of the image: how many files, and how large one is on the average, in bytes.
LAYERS = ((3000, 10_000), (1500, 20_000), (15, 3_000_000))


def make_image(directory: str) -> tuple[str, str]:
    """Make a layout with an image of about 100 MB of layers; return its path and a description.

    Half of each file compresses well and half not at all, as in the usual mix of
    texts and programs.  The files are the same every time.
    """
    from ansible_collections.pvecri.runtime.tests.support import images

    source = random.Random(2)
    layout = images.OciLayout(os.path.join(directory, "image"))
    layers = [images.busybox_layer()]
    number = 1
    for index, (count, mean) in enumerate(LAYERS):
        entries = [images.directory(f"srv/{index}")]
        for place in range(count):
            if place % 50 == 0:
                folder = f"srv/{index}/{place // 50}"
                entries.append(images.directory(folder))
            size = min(int(source.expovariate(1 / mean)), mean * 6)
            text = b"the quick brown fox jumps over the lazy dog\n" * (size // 88)
            entries.append(images.File(f"{folder}/{place}", source.randbytes(size // 2) + text))
            number += 1
        layers.append(images.tar_layer(entries))
    layout.add_image("latest", layers, {"Cmd": ["sleep", "1000"]})
    blobs = os.path.join(layout.path, "blobs/sha256")
    packed = sum(os.path.getsize(os.path.join(blobs, name)) for name in os.listdir(blobs))
    unpacked = sum(map(len, layers))
    megabytes = f"{unpacked / 1e6:.0f} MB, {packed / 1e6:.0f} MB compressed"
    return layout.path, f"{len(layers)} layers of {megabytes}, {number} files"


def measure(context: Context) -> Section:
    """Time bundles by the core, by umoci and by the module."""
    need_root()
    need_programs("skopeo", "umoci", "crun")
    context.progress("making the image")
    layout, description = make_image(context.work_dir)
    source = ImageSource(reference=f"oci:{layout}:latest")
    warm = _warm(context, source)
    cold = _cold(context, source, layout)
    module, failure = attempted(lambda: _module(context, layout))
    by_name = {series.name: series for series in cold}
    return Section(
        "bundle",
        TITLE,
        f"The image: {description}. Cold means an empty store, and a local OCI layout in the page cache. "
        "The core fetches through skopeo into its store and mounts an overlay; umoci unpacks into one place.",
        (
            timing_table("Warm, by the core: the image is in the store", warm),
            timing_table("Cold", cold, baseline=UMOCI),
            *module,
        ),
        (
            Target("warm bundle by the core, first of a process", warm[0].median * 1000, WARM_LIMIT_MS, "ms"),
            Target(
                "cold bundle by the core against umoci unpack",
                by_name["core"].median / by_name[UMOCI].median,
                1,
                "×",
            ),
        ),
        failure,
    )


def _warm(context: Context, source: ImageSource) -> list[Series]:
    from ansible_collections.pvecri.runtime.tests.support.host import made_core

    spec = ContainerSpec(name="bench")
    with made_core() as core:
        core.manager.create(spec, source)

        def remove() -> None:
            core.manager.remove("bench")

        def first() -> None:
            core.fresh().manager.create(spec, source)

        remove()
        cases = [
            Case("first bundle of a process", first, after=remove),
            Case("further bundles of a process", lambda: core.manager.create(spec, source), after=remove),
        ]
        return interleaved(cases, context.runs, progress=lambda text: context.progress(f"warm: {text}"))


def _cold(context: Context, source: ImageSource, layout: str) -> list[Series]:
    from ansible_collections.pvecri.runtime.tests.support.host import Core, made_core

    spec = ContainerSpec(name="bench")
    unpacked = (os.path.join(context.work_dir, f"umoci-{number}") for number in itertools.count())

    def unpack() -> None:
        argv = ["umoci", "unpack", "--image", f"{layout}:latest", next(unpacked)]
        subprocess.run(argv, check=True, capture_output=True, timeout=600)

    def skopeo() -> None:
        paths = cores[-1].paths
        store = f"containers-storage:[overlay@{paths.storage}+{paths.storage_run}]localhost/bench:1"
        argv = ["skopeo", "copy", "--insecure-policy", f"oci:{layout}:latest", store]
        subprocess.run(argv, check=True, capture_output=True, timeout=600)

    cores: list[Core] = []
    with contextlib.ExitStack() as stack:

        def open_core() -> None:
            cores.append(stack.enter_context(made_core()))
            os.sync()

        # What a run made stays until the last one: a file system that has just lost thousands of files
        # is slow to make others (ext4 passes over inodes that were freed lately), and the next run paid.
        cases = [
            Case("core", lambda: cores[-1].manager.create(spec, source), open_core),
            Case(UMOCI, unpack, os.sync),
            Case("skopeo copy into an empty store, alone", skopeo, open_core),
        ]
        return interleaved(cases, context.runs, progress=lambda text: context.progress(f"cold: {text}"))


def _module(context: Context, layout: str) -> Table:
    """Time the module as a process: a warm bundle, an unchanged rerun, absent."""
    module = ModuleProcess(context, "pvecri.runtime.oci_bundle")
    state_dir = context.directory("state")
    base = {"name": "bench", "state_dir": state_dir, "run_dir": context.directory("run")}
    wanted = {**base, "image": f"oci:{layout}:latest", "state": "mounted"}
    absent = {**base, "state": "absent"}
    try:
        module.expect(wanted, changed=True)
        module.expect(absent, changed=True)
        cases = [
            Case("mounted, warm", lambda: module.expect(wanted, changed=True)),
            Case("unchanged rerun", lambda: module.expect(wanted, changed=False)),
            Case("absent", lambda: module.expect(absent, changed=True)),
        ]
        series = interleaved(cases, context.runs, progress=lambda text: context.progress(f"module: {text}"))
    finally:
        rootfs.unmount_below(context.work_dir)
    return timing_table("Module process", series)
