# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the making of a bundle anywhere, let two make the same one, and fill the disk.

A child process makes, replaces or removes a bundle and is killed with SIGKILL before
its n-th change of the file system, for every n until it comes through.  After each
kill the state must be one that the next run puts right by itself.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Mount,
    MountKind,
    Namespaces,
    Paths,
)
from ansible_collections.pvecri.runtime.tests.support import host, images

#: What the child does; it counts every call that changes a file system and dies at the chosen one.
CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
    from ansible_collections.pvecri.runtime.tests.integration.bundle import test_faults as tests

    state, run, layout, kind, at = sys.argv[1:6]
    at, count = int(at), 0

    def counted(call):
        def wrapper(*args, **options):
            global count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)
        return wrapper

    def opened(call):
        change = counted(call)
        def wrapper(path, flags, *args, **options):
            changes = flags & (os.O_CREAT | os.O_TRUNC)
            return (change if changes else call)(path, flags, *args, **options)
        return wrapper

    core = tests.core_of(state, run)
    tests.prepare(core, layout)   # imports and caches, so that only the work itself is counted
    names = "mkdir rename unlink rmdir chown chmod fchown fchmod symlink utime"
    for name in names.split():
        setattr(os, name, counted(getattr(os, name)))
    os.open = opened(os.open)
    for name in ("mount", "umount2", "exchange", "move_mount"):
        setattr(syscalls, name, counted(getattr(syscalls, name)))
    tests.WORK[kind](core, layout)
    print(count)
    """
)


def core_of(state, run):
    paths = Paths(state_dir=state, run_dir=run)
    return host._core(pathlib.Path(state).parent, paths, host.CountingRunner())


def source_of(layout):
    return ImageSource(reference=f"oci:{layout}:latest")


def wanted(word):
    """Return a request with every kind of thing that is made for a bundle."""
    mounts = (
        Mount(kind=MountKind.VOLUME, destination="/home", source="homes"),
        Mount(kind=MountKind.SECRET, destination="/key", content=word.encode()),
        Mount(kind=MountKind.FILE, destination="/file", content=word.encode()),
        Mount(kind=MountKind.IMAGE, destination="/img", source=wanted.image, sub_path="etc"),
    )
    return ContainerSpec(
        name="test",
        command=("/bin/sh", "-c", f"echo {word}; cat /key /file; ls /img /home /data"),
        namespaces=Namespaces(network="host"),
        mounts=mounts,
    )


def prepare(core, layout):
    wanted.image = f"oci:{layout}:latest"
    core.manager._host_facts()
    for module in ("contents", "mounting", "restore", "staging"):
        importlib.import_module(f"ansible_collections.pvecri.runtime.plugins.module_utils.bundle.{module}")


def create(core, layout):
    core.manager.create(wanted("new"), source_of(layout))


def remove(core, layout):
    core.manager.remove("test")


def mount(core, layout):
    core.manager.mount(core.manager.load("test"))


def unmount(core, layout):
    core.manager.unmount(core.manager.load("test"))


def repair(core, layout):
    assert core.manager.repair("test", wanted("old")).problems == []


WORK = {"create": create, "remove": remove, "mount": mount, "unmount": unmount, "repair": repair}


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An image with a volume; the files in it make the copy long enough to be hit in the middle."""
    made = images.OciLayout(tmp_path_factory.mktemp("faults") / "layout")
    layers = [
        images.busybox_layer(),
        images.tar_layer([images.directory("data"), images.File("data/seed", b"1")]),
    ]
    made.add_image("latest", layers, {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Volumes": {"/data": {}}})
    return made.path


def child(core, layout, kind, at):
    """Run the child that dies at its ``at``-th change; return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, core.paths.state_dir, core.paths.run_dir, layout, kind, str(at)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def run_and_check(core, bundle, word):
    done = core.run(bundle.path)
    assert done.rc == 0, done.stderr
    assert done.stdout.startswith(f"{word}\n{word}{word}"), done.stdout
    for name in ("passwd", "group", "web", "seed"):
        assert name in done.stdout


def check_nothing_else(core, names):
    """Nothing half-made is left: no staging directory, no mount, no secret of nobody."""
    assert sorted(os.listdir(core.paths.bundles)) == names
    points = syscalls.mounts_below(str(core.top))
    # Two mounts of its own for each mounted bundle; the store and the secrets keep theirs.
    assert all("/.new." not in point for point in points)
    instances = {core.manager.load(name).record.instance for name in names}
    secrets = os.path.join(core.paths.run_dir, "secrets", "play")
    found = os.listdir(secrets) if os.path.isdir(secrets) else []
    assert {entry.rpartition(".")[2] for entry in found} <= instances
    volumes = os.listdir(core.paths.volumes) if os.path.isdir(core.paths.volumes) else []
    assert volumes in ([], ["homes"])


def each_kill(core, layout, kind, setup, after):
    """Kill at one change after the other until the work comes through; return how many there are."""
    setup()
    rc, out, err = child(core, layout, kind, 0)
    assert rc == 0, err
    total = int(out)
    # Every stage is hit; a longer work repeats the same few calls for each file.
    step = max(1, total // 25)
    at = 1
    while True:
        setup()
        rc, out, err = child(core, layout, kind, at)
        if rc == 0:
            break
        assert rc == -signal.SIGKILL, (at, rc, out, err)
        after(at)
        at += step
    # The first run of all makes a few directories that stay.
    assert at > total * 0.8
    return total


def fresh_state(core, layout):
    """Take everything but the image store away."""
    manager = core.fresh().manager
    manager.sweep()
    for name in manager.names():
        manager.remove(name)
    shutil.rmtree(core.paths.volumes, ignore_errors=True)


@pytest.fixture
def warm(core, layout):
    """The store has the image, so that only the bundle's making is counted."""
    prepare(core, layout)
    core.store.ensure(source_of(layout))
    return core


def test_kill_create_first(warm, layout):
    def after(_at):
        fresh = warm.fresh()
        bundle = fresh.manager.create(wanted("new"), source_of(layout))
        run_and_check(fresh, bundle, "new")
        check_nothing_else(fresh, ["test"])

    total = each_kill(warm, layout, "create", lambda: fresh_state(warm, layout), after)
    assert total > 20


def test_kill_create_replacing(warm, layout):
    """At every moment there is the old bundle or the new one, and it runs."""
    seen = set()

    def setup():
        fresh_state(warm, layout)
        warm.fresh().manager.create(wanted("old"), source_of(layout))

    def after(_at):
        fresh = warm.fresh()
        bundle = fresh.manager.repair("test")
        assert bundle is not None
        word = bundle.config["process"]["args"][2].split()[1].rstrip(";")
        seen.add(word)
        assert bundle.problems == []
        fresh.manager.mount(bundle)
        run_and_check(fresh, bundle, word)
        check_nothing_else(fresh, ["test"])

    each_kill(warm, layout, "create", setup, after)
    assert seen == {"old", "new"}


def test_kill_remove(warm, layout):
    def setup():
        fresh_state(warm, layout)
        warm.fresh().manager.create(wanted("old"), source_of(layout))

    def after(_at):
        fresh = warm.fresh()
        fresh.manager.remove("test")
        fresh.manager.sweep()
        check_nothing_else(fresh, [])
        assert os.listdir(os.path.join(warm.paths.volumes, "homes")) == ["web"]

    each_kill(warm, layout, "remove", setup, after)


@pytest.mark.parametrize("kind", ["mount", "unmount"])
def test_kill_mount_and_unmount(warm, layout, kind):
    def setup():
        manager = warm.fresh().manager
        bundle = manager.load("test") or manager.create(wanted("old"), source_of(layout))
        (manager.unmount if kind == "mount" else manager.mount)(bundle)

    def after(_at):
        fresh = warm.fresh()
        bundle = fresh.manager.load("test")
        assert bundle.problems == []
        fresh.manager.mount(bundle)
        run_and_check(fresh, bundle, "old")
        check_nothing_else(fresh, ["test"])

    each_kill(warm, layout, kind, setup, after)


def test_kill_repair(warm, layout):
    def setup():
        manager = warm.fresh().manager
        bundle = manager.load("test") or manager.create(wanted("old"), source_of(layout))
        shutil.rmtree(os.path.join(warm.paths.run_dir, "secrets", "play"), ignore_errors=True)
        manager.unmount(bundle)

    def after(_at):
        fresh = warm.fresh()
        bundle = fresh.manager.repair("test", wanted("old"))
        assert bundle.problems == []
        fresh.manager.mount(bundle)
        run_and_check(fresh, bundle, "old")

    each_kill(warm, layout, "repair", setup, after)


# ---- killed while fetching -------------------------------------------------------------------------------

SLOW_SKOPEO = """#!/bin/sh
# Says that it has begun, and waits to be killed, before or after the real work.
for argument; do [ "$argument" = copy ] && copy=1; done
[ -z "$copy" ] && exec {skopeo} "$@"
if [ {when} = before ]; then echo > {mark}; exec sleep 1000; fi
{skopeo} "$@"
echo > {mark}; exec sleep 1000
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_fetch(core, layout, tmp_path, when):
    """skopeo and the process that called it die before or after the store has changed."""
    mark = tmp_path / "mark"
    wrapper = tmp_path / "bin" / "skopeo"
    wrapper.parent.mkdir()
    wrapper.write_text(SLOW_SKOPEO.format(skopeo=shutil.which("skopeo"), mark=mark, when=when))
    wrapper.chmod(0o755)
    code = (
        "import sys\n"
        "from ansible_collections.pvecri.runtime.plugins.module_utils import command\n"
        "from ansible_collections.pvecri.runtime.tests.integration.bundle import test_faults as tests\n"
        f"command.DEFAULT_PATH = {str(wrapper.parent)!r} + ':' + command.DEFAULT_PATH\n"
        "core = tests.core_of(sys.argv[1], sys.argv[2])\n"
        "tests.prepare(core, sys.argv[3])\n"
        "tests.create(core, sys.argv[3])\n"
    )
    argv = [sys.executable, "-c", code, core.paths.state_dir, core.paths.run_dir, layout]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(argv, env=env) as victim:
        for _unused in range(600):
            if mark.exists() or victim.poll() is not None:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.wait(0.05)
        assert mark.exists()
        victim.kill()
    # The wrapper leads a session of its own, so nothing else takes it along.
    for status in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(wrapper).encode() in status.read_bytes() or b"sleep\x001000" in status.read_bytes():
                environment = status.with_name("environ").read_bytes()
                if str(tmp_path).encode() in environment + status.read_bytes():
                    os.kill(int(status.parent.name), signal.SIGKILL)
    prepare(core, layout)
    bundle = core.manager.create(wanted("new"), source_of(layout))
    run_and_check(core, bundle, "new")
    check_nothing_else(core, ["test"])
    # The next fetch, of whatever, clears away what the killed one had in work.
    other = images.busybox_image(tmp_path / "other")
    core.store.ensure(source_of(other.path))
    assert os.listdir(os.path.join(core.paths.state_dir, "tmp")) == []


def test_kill_skopeo_in_the_middle_of_a_layer(core, tmp_path):
    """A layer that was half unpacked is swept by the next fetch."""
    made = images.OciLayout(tmp_path / "big")
    files = [images.File(f"d/{number:05}", os.urandom(2000)) for number in range(5000)]
    made.add_image(
        "latest", [images.tar_layer([images.directory("d"), *files])], {"Cmd": ["x"]}, compress=False
    )
    source = source_of(made.path)
    target = core.store._writer()._target("localhost/x:1")
    argv = ["skopeo", "copy", "-q", f"oci:{made.path}:latest", target]
    hit = 0
    for delay in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True) as victim:
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.wait(delay)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(victim.pid, signal.SIGKILL)
        hit += victim.returncode == -signal.SIGKILL
    assert hit, "not one of the kills came in time"
    image, _unused = core.store.ensure(source)
    assert len(os.listdir(os.path.join(image.layer_dirs[0], "d"))) == 5000
    layers = json.loads(pathlib.Path(core.paths.storage, "overlay-layers/layers.json").read_text())
    assert len(layers) == 1
    kept = {name for name in os.listdir(os.path.join(core.paths.storage, "overlay")) if len(name) == 64}
    assert kept == {layers[0]["id"]}


# ---- at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_warm", [True, False])
def test_two_processes_make_the_same_bundle(core, layout, is_warm):
    prepare(core, layout)
    if is_warm:
        core.store.ensure(source_of(layout))
    code = (
        "import sys\n"
        "from ansible_collections.pvecri.runtime.tests.integration.bundle import test_faults as tests\n"
        "core = tests.core_of(sys.argv[1], sys.argv[2])\n"
        "tests.prepare(core, sys.argv[3])\n"
        "sys.stdin.read(1)\n"
        "tests.create(core, sys.argv[3])\n"
        "print(core.runner.programs().count('skopeo'))\n"
    )
    argv = [sys.executable, "-c", code, core.paths.state_dir, core.paths.run_dir, layout]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(subprocess.Popen(argv, env=env, text=True, **pipes)) for _unused in range(3)
        ]
        answers = [process.communicate("x", timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0, 0], answers
    assert sum(int(out) for out, _unused in answers) == (0 if is_warm else 1)
    bundle = core.manager.load("test")
    assert bundle.problems == []
    assert bundle.is_mounted
    run_and_check(core, bundle, "new")
    check_nothing_else(core, ["test"])


#: Waits until it has planned, so that all plans are made before the first is carried out.
PLANNED = """
import json, sys
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import service
from ansible_collections.pvecri.runtime.tests.integration.bundle import test_faults as tests

state, run, layout, word = sys.argv[1:5]
core = tests.core_of(state, run)
tests.prepare(core, layout)
load, plans = core.manager.load, []

def first_look(name):
    found = load(name)
    if not plans:
        plans.append(found)
        print("planned", flush=True)
        sys.stdin.read(1)
    return found

core.manager.load = first_look
spec = None if word == "-" else tests.wanted(word)
result = service.perform(
    core.manager,
    service.Request(
        name="test",
        state=service.State.ABSENT if spec is None else service.State.PRESENT,
        spec=spec,
        source=None if spec is None else tests.source_of(layout),
    ),
    check=False,
)
print(json.dumps({"changed": result.changed, "before": result.differences.as_diff()["before"]}))
"""


def tasks_at_once(core, layout, words):
    """Let one task for each word plan, then let all go on at once; return what they say."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with contextlib.ExitStack() as stack:
        tasks = []
        for word in words:
            argv = [sys.executable, "-c", PLANNED, core.paths.state_dir, core.paths.run_dir, layout, word]
            tasks.append(stack.enter_context(subprocess.Popen(argv, env=env, text=True, **pipes)))
        for task in tasks:
            assert task.stdout.readline() == "planned\n", task.communicate()[1]
        for task in tasks:
            task.stdin.write("x")
            task.stdin.flush()
        answers = [task.communicate(timeout=100) for task in tasks]
    assert [task.returncode for task in tasks] == [0] * len(tasks), answers
    return [json.loads(out) for out, _unused in answers]


def test_two_tasks_that_agree_change_a_bundle_once(core, layout):
    prepare(core, layout)
    core.store.ensure(source_of(layout))
    answers = tasks_at_once(core, layout, ["new", "new", "new"])
    assert sorted(answer["changed"] for answer in answers) == [False, False, True]
    run_and_check(core, core.manager.load("test"), "new")
    answers = tasks_at_once(core, layout, ["-", "-"])
    assert sorted(answer["changed"] for answer in answers) == [False, True]
    assert core.manager.load("test") is None


def test_two_tasks_that_disagree_come_one_after_the_other(core, layout):
    prepare(core, layout)
    core.store.ensure(source_of(layout))
    answers = tasks_at_once(core, layout, ["one", "two"])
    assert [answer["changed"] for answer in answers] == [True, True]
    first, second = sorted(answers, key=lambda answer: "command" in answer["before"])
    assert first["before"] == {"state": "absent"}
    # The second says what it replaced, and it was the last word.
    last = answers.index(second)
    assert ["one", "two"][1 - last] in str(second["before"]["command"])
    run_and_check(core, core.manager.load("test"), ["one", "two"][last])
    # One of the two is what is there: only the other has something to do, whoever comes first.
    answers = tasks_at_once(core, layout, ["-", "-", ["one", "two"][last]])
    bundle = core.manager.load("test")
    assert sum(answer["changed"] for answer in answers) in (1, 2)
    assert (bundle is None) is (sum(answer["changed"] for answer in answers) == 1)


# ---- a full disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path_factory):
    """A core whose state directory lies on a loop file system of 12 MiB."""
    reason = host.missing()
    if reason or not shutil.which("mkfs.ext4"):
        pytest.skip(reason or "needs mkfs.ext4")
    with host.made_core() as made:
        disk = made.top / "disk"
        with disk.open("wb") as stream:
            stream.truncate(12 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True, timeout=60)
        os.mkdir(made.paths.state_dir)
        done = subprocess.run(
            ["mount", "-o", "loop", str(disk), made.paths.state_dir],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no loop devices here: {done.stderr.strip()}")
        yield made


def fill_up(core, leave=0):
    """Fill the file system but for ``leave`` bytes."""
    path = pathlib.Path(core.paths.state_dir, "ballast")
    with path.open("wb") as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"\0" * 4096)
            stream.flush()
    with path.open("r+b") as stream:
        stream.truncate(max(0, path.stat().st_size - leave))
    return path


def test_full_disk_while_fetching(small, layout):
    prepare(small, layout)
    ballast = fill_up(small, leave=1 << 20)
    with pytest.raises(CommandError, match="no space left on device") as caught:
        small.manager.create(wanted("new"), source_of(layout))
    assert "Make room" in caught.value.hint
    assert small.store.list() == []
    ballast.unlink()
    bundle = small.manager.create(wanted("new"), source_of(layout))
    run_and_check(small, bundle, "new")


@pytest.mark.parametrize("leave", [0, 8192, 20480, 40960, 65536])
def test_full_disk_while_making_the_bundle(small, layout, leave):
    prepare(small, layout)
    small.store.ensure(source_of(layout))
    small.manager.create(wanted("old"), source_of(layout))
    ballast = fill_up(small, leave=leave)
    try:
        bundle = small.manager.create(wanted("new"), source_of(layout))
    except CoreError as exc:
        refused = str(exc)
        bundle = small.fresh().manager.load("test")
        assert "No space left on device" in refused
        assert bundle.problems == []
        run_and_check(small, bundle, "old")
        assert os.listdir(small.paths.bundles) == ["test"]
    else:
        assert leave > 0, "a bundle cannot be made without any room"
        run_and_check(small, bundle, "new")
    ballast.unlink()
    run_and_check(small, small.manager.create(wanted("new"), source_of(layout)), "new")
    check_nothing_else(small, ["test"])


def test_full_memory_for_secrets(core, layout):
    """The hint is about the memory of secrets, not about the disk of the bundles."""
    top = os.path.join(core.paths.run_dir, "secrets")
    os.makedirs(top)
    syscalls.mount("secrets", top, "tmpfs", 0, "size=64k,mode=711")

    def wanted_secret(size):
        mount = Mount(kind=MountKind.SECRET, destination="/key", content=b"x" * size)
        return ContainerSpec(name="test", mounts=(mount,))

    core.manager.create(wanted_secret(1000), source_of(layout))
    with pytest.raises(CoreError, match="finds no room in memory") as caught:
        core.manager.create(wanted_secret(100_000), source_of(layout))
    assert top in caught.value.message
    assert "remount,size" in caught.value.hint
    assert caught.value.__cause__.errno == errno.ENOSPC
    bundle = core.fresh().manager.load("test")
    assert bundle.problems == []
    assert len(os.listdir(os.path.join(top, "play"))) == 1, "the old secret, and nothing of the new one"
    core.manager.create(wanted_secret(2000), source_of(layout))


def test_kill_while_binding_leaves_no_layer_writable(core, layout):
    """The one layer of an image is bound; a container must never get it read-write."""
    prepare(core, layout)
    plain = images.busybox_image(core.top / "plain")
    image = Mount(kind=MountKind.IMAGE, destination="/img", source=f"oci:{plain.path}:latest")
    bundle = core.manager.create(ContainerSpec(name="test", mounts=(image,)), source_of(layout))
    target = os.path.join(bundle.path, bundle.record.mounts[0].target)
    code = (
        "import os, signal, sys\n"
        "from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls\n"
        "from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting\n"
        "from ansible_collections.pvecri.runtime.tests.integration.bundle import test_faults as tests\n"
        "def dies(call):\n"
        "    def wrapper(*args, **options):\n"
        "        call(*args, **options)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return wrapper\n"
        "setattr(syscalls, sys.argv[3], dies(getattr(syscalls, sys.argv[3])))\n"
        "core = tests.core_of(sys.argv[1], sys.argv[2])\n"
        "core.manager.mount(core.manager.load('test'))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    killed = 0
    for call in ("mount", "mount_setattr", "move_mount"):
        rootfs.unmount(target)
        argv = [sys.executable, "-c", code, core.paths.state_dir, core.paths.run_dir, call]
        done = subprocess.run(argv, env=env, timeout=60, check=False)
        killed += done.returncode == -signal.SIGKILL
        if syscalls.is_mount_point(target):
            assert os.statvfs(target).f_flag & os.ST_RDONLY, f"killed after {call}"
    assert killed, "not one of the calls was made"
    core.manager.mount(core.manager.load("test"))
    assert os.statvfs(target).f_flag & os.ST_RDONLY
    assert os.path.exists(os.path.join(target, "bin/busybox"))


def test_reboot_takes_mounts_and_run_directory(warm, layout):
    """What a reboot leaves: the state directory, without any mount, and an empty run directory."""
    warm.manager.create(wanted("old"), source_of(layout))
    rootfs.unmount_below(str(warm.top))
    shutil.rmtree(warm.paths.run_dir)
    fresh = warm.fresh()
    bundle = fresh.manager.repair("test", wanted("old"))
    assert bundle.problems == []
    assert not bundle.is_mounted
    fresh.manager.mount(bundle)
    run_and_check(fresh, bundle, "old")
    image, fetched = fresh.store.ensure(source_of(layout))
    assert not fetched
    assert image.id == bundle.record.identity["image"]
