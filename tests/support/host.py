# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give tests a state directory of their own, and leave neither mounts nor processes behind.

from ansible_collections.pvecri.runtime.tests.support.host import core, layout  # noqa: F401 - fixtures

def test_bundle(core, layout):
    bundle = core.manager.create(ContainerSpec(name="a"), layout)
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support import images, registry

CRUN = os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun")

_NEEDED = (CRUN, "skopeo", images.BUSYBOX)


@pytest.fixture(autouse=True)
def null_device() -> t.Iterator[None]:
    """Take the host's /dev/null back, which crun without conmon gives to the root of a user namespace."""
    yield
    if os.geteuid() == 0:
        os.chown(os.devnull, 0, 0)


def missing() -> str | None:
    """Return why bundles cannot be made here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    return next((f"needs {program}" for program in _NEEDED if shutil.which(program) is None), None)


class CountingRunner(SubprocessRunner):
    """Runs children for real and remembers their argument lists."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        """Run ``argv`` as SubprocessRunner does."""
        self.calls.append(list(argv))
        return super().run(argv, **options)

    def programs(self) -> list[str]:
        """Return the names of the programs that were started, in order."""
        return [os.path.basename(argv[0]) for argv in self.calls]


@dataclasses.dataclass(slots=True)
class Core:
    """Store and bundles below one directory."""

    top: pathlib.Path
    paths: Paths
    runner: CountingRunner
    store: ImageStore
    manager: BundleManager

    def run(self, bundle_path: str, name: str = "test", *, timeout_s: float = 60) -> Completed:
        """Run a bundle to its end in the foreground and return what it printed."""
        argv = [CRUN, "--root", self.paths.runtime_root, "run", "--bundle", bundle_path, name]
        return SubprocessRunner().run(argv, timeout_s=timeout_s, check=False)

    def fresh(self, runner: CountingRunner | None = None) -> Core:
        """Return the same directories as another process would see them."""
        return _core(self.top, self.paths, runner or CountingRunner())


def _core(top: pathlib.Path, paths: Paths, runner: CountingRunner) -> Core:
    store = ImageStore(paths, runner)
    return Core(top, paths, runner, store, BundleManager(paths, store, runner))


@contextlib.contextmanager
def made_core() -> t.Iterator[Core]:
    """Provide a `Core` below a short path, and clear everything away after."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    paths = Paths(state_dir=str(top / "s"), run_dir=str(top / "r"))
    try:
        yield _core(top, paths, CountingRunner())
    finally:
        clear(top, paths)


def clear(top: pathlib.Path, paths: Paths) -> None:
    """End containers, take off mounts and remove the directory ``top``."""
    for owner_root in pathlib.Path(paths.run_dir, "crun").glob("*"):
        for name in os.listdir(owner_root):
            subprocess.run(
                [CRUN, "--root", str(owner_root), "delete", "--force", name],
                capture_output=True,
                check=False,
                timeout=30,
            )
    rootfs.unmount_below(str(top))
    shutil.rmtree(top)


@pytest.fixture
def core() -> t.Iterator[Core]:
    """Directories, store and bundles of one test."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with made_core() as made:
        yield made


@pytest.fixture(scope="session")
def busybox_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """OCI layout with the image ``latest``: busybox and a shell."""
    return images.busybox_image(tmp_path_factory.mktemp("images") / "busybox").path


@pytest.fixture
def busybox(busybox_path: str) -> ImageSource:
    """The busybox image as a source."""
    return ImageSource(reference=f"oci:{busybox_path}:latest")


@pytest.fixture
def make_registry(tmp_path: pathlib.Path) -> t.Iterator[t.Callable[..., registry.Registry]]:
    """Return a function that starts a registry, stopped at the end of the test."""
    if not registry.is_available():
        pytest.skip("needs docker-registry")
    with contextlib.ExitStack() as stack:
        count = iter(range(100))

        def make(**options: t.Any) -> registry.Registry:
            made = registry.Registry(tmp_path / f"registry{next(count)}", **options)
            return stack.enter_context(made)

        yield make
