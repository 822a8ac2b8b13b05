# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove images while others work, finish what a killed process left, and lose no layer that is needed."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import subprocess
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images import writer
from ansible_collections.pvecri.runtime.plugins.module_utils.images.locks import (
    locked_layers,
    locked_store,
    locks_dir,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    ImageSource,
    StoredSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer


class HeldRunner(SubprocessRunner):
    """Holds deletions back until the test lets them go."""

    def __init__(self):
        self.reached = threading.Event()
        self.released = threading.Event()
        self.is_failing = False

    def run(self, argv, **options):
        if "delete" in argv:
            self.reached.set()
            assert self.released.wait(60)
            if self.is_failing:
                raise CommandError("no")
        return super().run(argv, **options)


@pytest.fixture
def layout(tmp_path):
    """Tags v1 and v2 with two layers each, of which they share the lower."""
    made = OciLayout(tmp_path / "layout")
    lower = tar_layer([File("lower", b"l")])
    for number in ("1", "2"):
        made.add_image(f"v{number}", [lower, tar_layer([File("version", number.encode())])], {"Cmd": ["sh"]})
    return made


def put(core, layout, ref, name):
    store = f"containers-storage:[overlay@{core.paths.storage}+{core.paths.storage_run}]"
    argv = ["skopeo", "copy", "-q", "--insecure-policy", f"oci:{layout.path}:{ref}", store + name]
    subprocess.run(argv, check=True, timeout=60)
    return core.store.find(name)


def raw(core, kind):
    return json.loads(pathlib.Path(core.paths.storage, f"overlay-{kind}", f"{kind}.json").read_text())


def test_others_go_on_while_an_image_is_deleted(core, layout):
    first, second = put(core, layout, "v1", "quay.io/a/b:1"), put(core, layout, "v2", "quay.io/a/b:2")
    runner = HeldRunner()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        removal = pool.submit(core.store.with_runner(runner).remove, "quay.io/a/b:1")
        assert runner.reached.wait(60)
        try:
            assert core.store.find("quay.io/a/b:1") is None
            assert core.store.find(first.id) is None
            assert [image.id for image in core.store.list()] == [second.id]
            assert core.store.remove(first.id) is False, "it is as good as gone"
            core.manager.create(ContainerSpec(name="a"), StoredSource(image_id=second.id))
        finally:
            runner.released.set()
        assert removal.result(60) is True
    assert [image["id"] for image in raw(core, "images")] == [second.id]
    assert not [name for name in os.listdir(locks_dir(core.paths)) if name.startswith("removal-")]
    assert core.manager.load("a").problems == []


def test_removed_between_fetch_and_use(core, layout, monkeypatch):
    image = put(core, layout, "v1", "quay.io/a/b:1")
    ensure = core.store.ensure

    def ensured(source):
        found = ensure(source)
        core.store.remove(image.id)
        return found

    monkeypatch.setattr(core.store, "ensure", ensured)
    with pytest.raises(NotFound, match="was removed while it was about to be used"):
        core.manager.create(ContainerSpec(name="a"), StoredSource(image_id=image.id))
    assert core.manager.names() == []


def test_fetched_again_while_it_is_deleted(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    image, _unused = core.store.ensure(source)
    runner = HeldRunner()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        removal = pool.submit(core.store.with_runner(runner).remove, image.id)
        assert runner.reached.wait(60)
        fetch = pool.submit(core.fresh().store.ensure, source)
        with pytest.raises(TimeoutError):
            fetch.result(1)
        runner.released.set()
        assert removal.result(60)
        again, fetched = fetch.result(60)
    assert fetched
    assert core.store.find(source) == again
    assert all(map(os.path.isdir, again.layer_dirs))
    assert core.manager.create(ContainerSpec(name="a"), source).problems == []


class CrossedRunner(SubprocessRunner):
    """Lets copies fail after they are done, and something else happen before each of them."""

    def __init__(self, before, failures):
        self.before = before
        self.failures = failures
        self.copies = 0

    def run(self, argv, **options):
        if "copy" not in argv:
            return super().run(argv, **options)
        self.copies += 1
        self.before()
        if self.copies <= self.failures:
            raise CommandError("failed", argv=argv, rc=1, stderr="layer not known")
        return super().run(argv, **options)


def test_fetch_that_a_removal_crossed_is_tried_again(core, layout):
    put(core, layout, "v2", "quay.io/a/b:2")
    runner = CrossedRunner(lambda: core.fresh().store.remove("quay.io/a/b:2"), failures=1)
    image, fetched = core.store.with_runner(runner).ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    assert fetched
    assert runner.copies == 2
    assert all(map(os.path.isdir, image.layer_dirs))


def test_fetch_that_nothing_crossed_is_not_tried_again(core, layout):
    runner = CrossedRunner(lambda: None, failures=9)
    with pytest.raises(CommandError, match="layer not known"):
        core.store.with_runner(runner).ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    assert runner.copies == 1


def test_fetch_that_is_always_crossed_ends(core, layout):
    def remove_one():
        put(core, layout, "v2", "quay.io/a/b:2")
        core.fresh().store.remove("quay.io/a/b:2")

    runner = CrossedRunner(remove_one, failures=9)
    with pytest.raises(CommandError, match="layer not known"):
        core.store.with_runner(runner).ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    assert runner.copies == 3


def test_removal_that_was_cut_short_is_finished(core, layout):
    put(core, layout, "v1", "quay.io/a/b:1")
    runner = HeldRunner()
    runner.is_failing = True
    runner.released.set()
    with pytest.raises(CommandError):
        core.store.with_runner(runner).remove("quay.io/a/b:1")
    assert len(raw(core, "images")) == 1
    core.fresh().store.sweep()
    assert raw(core, "images") == []
    assert raw(core, "layers") == []


def test_deletion_that_another_process_ended_first(core, layout):
    put(core, layout, "v1", "quay.io/a/b:1")

    class Late(SubprocessRunner):
        def run(self, argv, **options):
            done = super().run(argv, **options)
            if "delete" in argv:
                raise CommandError("image not known")
            return done

    assert core.store.with_runner(Late()).remove("quay.io/a/b:1") is True
    assert raw(core, "images") == []


def test_the_next_removal_finishes_it_too(core, layout):
    image = put(core, layout, "v1", "quay.io/a/b:1")
    put(core, layout, "v2", "quay.io/a/b:2")
    with locked_store(core.paths):
        core.store._own.condemn(image.id)
    assert core.store.remove("quay.io/a/b:2")
    assert raw(core, "images") == []


def forget_images(core):
    """Leave layers without image, as a fetch that was killed does."""
    path = pathlib.Path(core.paths.storage, "overlay-images/images.json")
    path.write_text("[]")


def test_layers_of_a_killed_fetch_go(core, layout, monkeypatch):
    put(core, layout, "v1", "quay.io/a/b:1")
    forget_images(core)
    core.store.sweep()
    assert len(raw(core, "layers")) == 2, "who repeats the fetch at once needs them"
    monkeypatch.setattr(writer, "_ABANDONED_S", -5)
    with locked_layers(core.paths, shared=True):
        core.store.sweep()
    assert not any("flags" in layer for layer in raw(core, "layers")), "something is being fetched"
    with locked_store(core.paths, shared=True):
        core.store.sweep()
    assert not any("flags" in layer for layer in raw(core, "layers")), "a bundle is being made"
    core.store.sweep()
    left = pathlib.Path(core.paths.storage, "overlay")
    assert len([entry for entry in left.iterdir() if len(entry.name) == 64]) == 2
    put(core, layout, "v2", "quay.io/a/b:2")
    folders = {entry.name for entry in left.iterdir() if len(entry.name) == 64}
    assert folders == {layer["id"] for layer in raw(core, "layers")}
    assert len(folders) == 2
    assert not any("flags" in layer for layer in raw(core, "layers"))


def test_layers_go_with_the_next_image_that_is_removed(core, layout, monkeypatch):
    put(core, layout, "v1", "quay.io/a/b:1")
    forget_images(core)
    put(core, layout, "v2", "quay.io/a/b:2")
    monkeypatch.setattr(writer, "_ABANDONED_S", -5)
    assert len(raw(core, "layers")) == 3
    core.store.remove("quay.io/a/b:2")
    assert raw(core, "layers") == []
    left = pathlib.Path(core.paths.storage, "overlay")
    assert not [entry for entry in left.iterdir() if len(entry.name) == 64]


def test_layers_that_a_bundle_needs_stay(core, layout, monkeypatch):
    image = put(core, layout, "v1", "quay.io/a/b:1")
    bundle = core.manager.create(ContainerSpec(name="a"), StoredSource(image_id=image.id))
    forget_images(core)
    monkeypatch.setattr(writer, "_ABANDONED_S", -5)
    core.store.sweep()
    assert not any("flags" in layer for layer in raw(core, "layers"))
    pathlib.Path(bundle.path, "pvecri.json").write_text("{")
    core.store.sweep()
    assert not any("flags" in layer for layer in raw(core, "layers")), "what cannot be known is not deleted"
    core.manager.remove("a")
    core.store.sweep()
    assert all(layer["flags"] == {"incomplete": True} for layer in raw(core, "layers"))


def test_sweep_removes_temporary_files(core, layout):
    left = pathlib.Path(core.paths.state_dir, "tmp", "fetch-0123")
    left.mkdir(parents=True)
    (left / "big").write_text("x")
    core.store.sweep()
    assert not left.exists()
