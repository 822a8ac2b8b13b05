# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull and remove the same images at once, and kill whoever does it: nothing is lost, nothing is left."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.images import writer
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import StoredSource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec
from ansible_collections.pvecri.runtime.tests.support.image_service import listed, spec
from ansible_collections.pvecri.runtime.tests.support.images import File, tar_layer
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

#: A longer run may be asked for.
ROUNDS = int(os.environ.get("PVECRI_TEST_KILLS", "12"))

SCRIPT = textwrap.dedent(
    """
    import logging, random, sys, types
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
    from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
    from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
    from pvecri.api.cri_pb2 import ImageSpec
    from pvecri.config.model import Config, ImagesConfig
    from pvecri.disk.layers import layers_of
    from pvecri.images.service import ImageService

    state, run, conf, address, seed = sys.argv[1:]
    paths, runner = Paths(state, run, owner=Owner.CRI), SubprocessRunner()
    context = types.SimpleNamespace(
        config=Config(images=ImagesConfig(registries_conf=conf)), paths=paths, runner=runner,
        store=ImageStore(paths, runner), log=logging.getLogger("test"),
        registry=types.SimpleNamespace(containers=list), runtimes=None)
    service = ImageService(context, layers_of(context))
    service.start()
    print("ready", flush=True)
    choose = random.Random(int(seed))
    while True:
        name = ImageSpec(image=f"{address}/app:n{choose.randrange(4)}")
        try:
            service.pull(name) if choose.random() < 0.6 else service.remove(name)
        except CoreError as exc:
            print(exc, file=sys.stderr, flush=True)
    """
)


def test_killed_at_any_point(images, layout, serve, monkeypatch):
    shared = tar_layer([File("shared", os.urandom(200_000))])
    for number in range(4):
        own = tar_layer([File("own", os.urandom(200_000))])
        layout.add_image(f"n{number}", [shared, own], {"Cmd": ["sh"]}, compress=False)
    layout.add_image("kept", [shared], {"Cmd": ["sh"]}, compress=False)
    registry = serve()
    images.trust(registry.address)
    kept = images.service().pull(spec(f"{registry.address}/app:kept"))
    manager = BundleManager(images.paths, images.store, images.runner)
    bundle = manager.create(ContainerSpec(name="user"), StoredSource(image_id=kept))

    choose = random.Random(ROUNDS)
    for seed in range(ROUNDS):
        argv = [sys.executable, "-c", SCRIPT, images.paths.state_dir, images.paths.run_dir]
        with subprocess.Popen(
            [*argv, str(images.registries_conf), registry.address, str(seed)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as daemon:
            assert daemon.stdout.readline() == b"ready\n", daemon.stderr.read()
            time.sleep(choose.uniform(0.0, 0.8))
            daemon.send_signal(signal.SIGKILL)
            errors = daemon.stderr.read().decode()
        assert "Traceback" not in errors
        assert pathlib.Path(bundle.rootfs_path, "shared").read_bytes()[:1]

    # A deletion that skopeo had begun goes on without its daemon.
    wait_for_skopeo(images.paths.storage)
    monkeypatch.setattr(writer, "_ABANDONED_S", -5)
    service = images.service()
    images.store.sweep()
    assert manager.load("user").problems == []
    for image in listed(service):
        assert all(map(os.path.isdir, service.resolve(image.id).layer_dirs))
    for number in range(4):
        service.pull(spec(f"{registry.address}/app:n{number}"))
    assert len(listed(service)) == 5
    assert leftovers(images.paths) == []
    for number in range(4):
        service.remove(spec(f"{registry.address}/app:n{number}"))
    assert [image.id for image in listed(service)] == [kept]
    assert leftovers(images.paths) == []


def test_pulls_and_removals_of_the_same_layers_at_once(images, layout, serve, monkeypatch):
    shared = tar_layer([File("shared", os.urandom(200_000))])
    for number in range(4):
        own = tar_layer([File("own", os.urandom(200_000))])
        layout.add_image(f"n{number}", [shared, own], {"Cmd": ["sh"]}, compress=False)
    registry = serve()
    images.trust(registry.address)
    service = images.service()
    names = [spec(f"{registry.address}/app:n{number}") for number in range(4)]

    def work(seed):
        choose = random.Random(seed)
        for _unused in range(15):
            name = choose.choice(names)
            act = choose.choice([service.pull, service.pull, service.remove, service.status_bytes])
            act(name)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, seed) for seed in range(6)]:
            done.result(120)
    monkeypatch.setattr(writer, "_ABANDONED_S", -5)
    for name in names:
        service.pull(name)
    assert len(listed(service)) == 4
    assert leftovers(images.paths) == []
    for name in names:
        service.remove(name)
    assert listed(service) == []
    assert leftovers(images.paths) == []


def wait_for_skopeo(storage):
    argv = ["pgrep", "-f", f"skopeo .*{storage}"]
    eventually(lambda: not subprocess.run(argv, capture_output=True, check=False).stdout, timeout_s=60)


def leftovers(paths):
    """Return what of the store belongs to no image."""
    storage = pathlib.Path(paths.storage)
    by_id = {raw["id"]: raw for raw in json.loads((storage / "overlay-layers/layers.json").read_text())}
    listed_images = json.loads((storage / "overlay-images/images.json").read_text())
    needed = set()
    for raw in listed_images:
        layer = raw.get("layer", "")
        while layer:
            needed.add(layer)
            layer = by_id[layer].get("parent", "")
    found = [f"layer {name}" for name in by_id.keys() - needed]
    folders = {entry.name for entry in (storage / "overlay").iterdir() if len(entry.name) == 64}
    found += [f"directory {name}" for name in folders - needed]
    folders = {entry.name for entry in (storage / "overlay-images").iterdir() if entry.is_dir()}
    found += [f"image directory {name}" for name in folders - {raw["id"] for raw in listed_images}]
    temporary = pathlib.Path(paths.state_dir, "tmp")
    found += [f"file {entry}" for entry in temporary.iterdir()]
    return found
