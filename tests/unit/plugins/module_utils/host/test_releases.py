# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack releases, switch between them, and remove what is left over."""

from __future__ import annotations

import fcntl
import importlib.util
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.host import releases
from ansible_collections.pvecri.runtime.plugins.module_utils.host.releases import Actual, Plan

OLD, MIDDLE, NEW, NEWER = (f"0.1.0-{digit * 12}" for digit in "0123")
PROGRAM = "/lib/current/bin/pvecri"


def plan(actual: Actual, release: str = NEW, **given) -> Plan:
    options = {"activate": True, "keep": 1, "program": PROGRAM, **given}
    return releases.plan(actual, release, **options)


@pytest.mark.parametrize(
    ("actual", "given", "expected"),
    [
        (Actual(), {}, Plan(unpack=NEW, activate=NEW, link_program=True)),
        (Actual((NEW,), NEW, PROGRAM), {}, Plan()),
        (Actual((NEW,), NEW, "/elsewhere"), {}, Plan(link_program=True)),
        (Actual((NEW, OLD), OLD, PROGRAM), {}, Plan(activate=NEW)),
        (Actual((OLD,), OLD, PROGRAM), {"activate": False}, Plan(unpack=NEW)),
        (Actual((MIDDLE, OLD), OLD, PROGRAM), {}, Plan(unpack=NEW, activate=NEW, remove=(MIDDLE,))),
        (Actual((MIDDLE, OLD), OLD, PROGRAM), {"keep": 2}, Plan(unpack=NEW, activate=NEW)),
        (Actual((NEW, MIDDLE, OLD), NEW, PROGRAM), {}, Plan(remove=(OLD,))),
        (Actual((NEW, MIDDLE, OLD), NEW, PROGRAM), {"keep": 0}, Plan(remove=(MIDDLE, OLD))),
        (Actual((NEW, MIDDLE, OLD), NEW, PROGRAM), {"keep": 0, "in_use": {OLD}}, Plan(remove=(MIDDLE,))),
        (Actual((NEW,), NEW, PROGRAM, (".new-x",)), {}, Plan(sweep=(".new-x",))),
    ],
)
def test_plan(actual, given, expected):
    made = plan(actual, **given)
    assert made == expected
    assert bool(made) == bool(
        expected.unpack or expected.activate or expected.link_program or expected.remove
    )


@pytest.mark.parametrize("name", ["", "..", "0.1.0", "0.1.0-xyz", "../0.1.0-000000000000", "-000000000000"])
def test_check_name_refuses(name):
    with pytest.raises(InvalidSpec, match="release"):
        releases.check_name(name)


def tar(path: pathlib.Path, *members: tuple[str, bytes | None], kind: bytes | None = None) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if kind is not None:
                entry.type = kind
            elif data is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data or b""))
    return str(path)


@pytest.fixture
def place(tmp_path):
    class Place:
        lib = str(tmp_path / "lib")
        link = str(tmp_path / "sbin/pvecri")
        archive = tar(tmp_path / "a.tgz", ("bin", None), ("bin/pvecri", b"x"), ("m.py", b"A = 1\n"))

        def install(self, release, *, keep=1, archive=True):
            actual = releases.read(self.lib, self.link)
            program = os.path.join(self.lib, "current", releases.PROGRAM)
            made = releases.plan(actual, release, activate=True, keep=keep, program=program)
            path = self.archive if archive else None
            releases.apply(made, lib_dir=self.lib, program_link=self.link, archive=path)
            return made

    return Place()


def test_install_switch_and_remove(place):
    assert place.install(OLD).unpack == OLD
    assert releases.read(place.lib, place.link).current == OLD
    top = pathlib.Path(place.lib, "releases", OLD)
    assert json.loads((top / "RELEASE").read_text()) == {"version": "0.1.0", "release": OLD}
    assert (top / "bin/pvecri").stat().st_mode & 0o777 == 0o755
    assert os.path.realpath(place.link) == str(top / "bin/pvecri")
    cached = importlib.util.cache_from_source(str(top / "m.py"))
    # The header's flags: a hash, that is never compared.
    assert pathlib.Path(cached).read_bytes()[4] == 1
    assert not place.install(OLD)
    place.install(NEW)
    place.install(NEWER)
    assert releases.read(place.lib, place.link).releases == (NEWER, NEW)
    assert place.install(NEW, archive=False) == Plan(activate=NEW)
    assert releases.is_own_link(place.lib, place.link)
    releases.remove_all(place.lib, place.link)
    assert not os.path.lexists(place.link)
    assert not os.path.exists(place.lib)
    releases.remove_all(place.lib, place.link)


def test_rubbish_of_interrupted_runs_is_swept(place):
    base = pathlib.Path(place.lib, "releases")
    for name in (f".new-{OLD}", MIDDLE):
        (base / name / "deep").mkdir(parents=True)
    (base / "somebody-elses").mkdir()
    assert releases.read(place.lib, place.link).rubbish == (f".new-{OLD}", MIDDLE)
    place.install(MIDDLE)
    assert sorted(os.listdir(base)) == [MIDDLE, "somebody-elses"]


def test_current_that_leads_nowhere_is_none(place):
    os.makedirs(place.lib)
    os.symlink(f"releases/{OLD}", os.path.join(place.lib, "current"))
    assert releases.read(place.lib, place.link).current is None
    place.install(OLD)
    assert releases.read(place.lib, place.link).current == OLD


def test_release_that_is_not_there_is_named(place):
    with pytest.raises(NotFound, match=NEW):
        place.install(NEW, archive=False)


def test_program_of_somebody_else_stays(place):
    os.makedirs(os.path.dirname(place.link))
    pathlib.Path(place.link).write_text("theirs")
    with pytest.raises(WrongState, match="is not a link of ours"):
        place.install(OLD)
    releases.remove_all(place.lib, place.link)
    assert pathlib.Path(place.link).read_text() == "theirs"


@pytest.mark.parametrize(
    ("name", "kind"), [("../x", None), ("/x", None), ("x", tarfile.SYMTYPE), ("x", tarfile.CHRTYPE)]
)
def test_archive_with_something_strange_is_refused(place, tmp_path, name, kind):
    place.archive = tar(tmp_path / "bad.tgz", (name, b""), kind=kind)
    with pytest.raises(InvalidSpec, match="the archive has a member"):
        place.install(OLD)
    assert releases.read(place.lib, place.link).releases == ()


def test_release_that_does_not_compile_is_refused(place, tmp_path):
    place.archive = tar(tmp_path / "bad.tgz", ("m.py", b"def\n"))
    with pytest.raises(WrongState, match="does not compile"):
        place.install(OLD)
    assert releases.read(place.lib, place.link).current is None


def test_in_use_is_what_a_process_holds(place):
    place.install(OLD)
    place.install(NEW)
    assert releases.in_use(place.lib, (OLD, NEW, MIDDLE)) == set()
    with open(os.path.join(place.lib, "releases", OLD, "RELEASE")) as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        assert releases.in_use(place.lib, (OLD, NEW)) == {OLD}


def test_guard_holds_off_a_second_run(place):
    code = f"import fcntl; fcntl.flock(open({place.lib + '/.lock'!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with releases.guarded(place.lib):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BlockingIOError" in done.stderr
