# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load images from archives beside a running endpoint and without one."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.images import OciLayout

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    with running_endpoint(images={}, network=False) as made:
        yield made


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint) -> t.Iterator[None]:
    yield
    if not endpoint.is_running:
        endpoint.start()
    for image in endpoint.cri.list_images():
        endpoint.cri.remove_image(image.id)
    assert os.listdir(f"{endpoint.state_dir}/tmp") == []
    assert endpoint.tracebacks() == []


def _archive(path: pathlib.Path, kind: str, layout: OciLayout, tag: str, name: str = "") -> str:
    subprocess.run(
        [
            *["skopeo", "copy", "--quiet", "--insecure-policy"],
            f"oci:{layout.path}:{tag}",
            f"{kind}:{path}" + (f":{name}" if name else ""),
        ],
        check=True,
    )
    return str(path)


def _load(endpoint: Endpoint, *arguments: str, code: int = 0) -> t.Any:
    done = endpoint.command("images", "load", "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def _names(endpoint: Endpoint) -> list[str]:
    return sorted(name for image in endpoint.cri.list_images() for name in image.repo_tags)


def _is_packed(path: str, kind: str) -> str:
    if kind == "gz":
        with open(path, "rb") as plain, gzip.open(f"{path}.gz", "wb") as packed:
            shutil.copyfileobj(plain, packed)
    elif kind:
        subprocess.run(["zstd" if kind == "zst" else kind, "--quiet", "--keep", path], check=True)
    return f"{path}.{kind}" if kind else path


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("packed", ["", "gz", "zst", "xz"])
def test_load_is_seen_at_once_and_changes_once(
    endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path, kind: str, packed: str
) -> None:
    file = _is_packed(_archive(tmp_path / "a.tar", kind, layout, "v1", "shop.test/web:1"), packed)
    first = _load(endpoint, file)
    assert first["changed"]
    assert [(each["name"], each["changed"]) for each in first["images"]] == [("shop.test/web:1", True)]
    image = endpoint.cri.image_status("shop.test/web:1")
    assert image.id == first["images"][0]["id"]
    again = _load(endpoint, file)
    assert (again["changed"], again["images"][0]["changed"]) == (False, False)


def test_archive_with_several_images(endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "all:of:it.tar"
    plain = tmp_path / "all.tar"
    for tag, names in (
        ("v1", ["shop.test/a:1", "shop.test/a:latest"]),
        ("v2", ["b"]),
        ("v3", ["shop.test/c:1"]),
    ):
        extra = [option for name in names[1:] for option in ("--additional-tag", name)]
        subprocess.run(
            [
                *["skopeo", "copy", "--quiet", "--insecure-policy", *extra],
                f"oci:{layout.path}:{tag}",
                f"docker-archive:{tmp_path}/{tag}.tar:{names[0]}",
            ],
            check=True,
        )
    _join([tmp_path / f"{tag}.tar" for tag in ("v1", "v2", "v3")], plain)
    os.rename(plain, file)
    wanted = ["docker.io/library/b:latest", "shop.test/a:1", "shop.test/a:latest", "shop.test/c:1"]
    assert sorted(each["name"] for each in _load(endpoint, str(file))["images"]) == wanted
    assert _names(endpoint) == wanted
    assert len(endpoint.cri.list_images()) == 3
    assert not _load(endpoint, str(file))["changed"]
    problems = _load(endpoint, str(file), "--name", "x", code=1)["problems"]
    assert "holds 3 images, which cannot all have the name x" in problems[0]


def _join(parts: t.Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """Make one docker-archive of several."""
    place = target.parent / "joined"
    place.mkdir()
    entries = []
    for part in parts:
        subprocess.run(["tar", "-xf", part, "-C", place], check=True)
        entries += json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(entries))
    subprocess.run(["tar", "-cf", target, "-C", place, "."], check=True)


def test_name_that_is_given(endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path) -> None:
    file = _archive(tmp_path / "a.tar", "oci-archive", layout, "v1")
    assert (
        "does not say what its image is called. Give --name" in _load(endpoint, file, code=1)["problems"][0]
    )
    assert _load(endpoint, file, "--name", "mine")["images"][0]["name"] == "docker.io/library/mine:latest"
    other = _archive(tmp_path / "b.tar", "oci-archive", layout, "v2")
    assert _load(endpoint, other, "--name", "mine")["changed"]
    assert not _load(endpoint, other, "--name", "mine")["changed"]
    listed = json.loads(endpoint.command("images", "list", "--json").stdout)["images"]
    assert [image["names"] for image in listed] == [["docker.io/library/mine:latest"], []]


def test_good_files_are_loaded_beside_bad_ones(
    endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path
) -> None:
    good = _archive(tmp_path / "a.tar", "docker-archive", layout, "v1", "shop.test/web:1")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(pathlib.Path(good).read_bytes()[:-700_000])
    done = endpoint.command("images", "load", str(cut), str(tmp_path / "none"), good)
    assert done.returncode == 1
    assert done.stdout.startswith("loaded    shop.test/web:1 sha256:")
    assert len(done.stderr.splitlines()) == 2
    assert _names(endpoint) == ["shop.test/web:1"]
    assert endpoint.command("images", "load", str(cut), good, "--name", "x").returncode == 1


def test_policy_of_signatures_counts(endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path) -> None:
    file = _archive(tmp_path / "a.tar", "docker-archive", layout, "v1", "shop.test/web:1")
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    before = endpoint.settings
    endpoint.settings = {"images": {"policy_file": str(policy)}}
    endpoint.write_config()
    try:
        assert "signature policy does not admit" in _load(endpoint, file, code=1)["problems"][0]
        # The probe's own image is the endpoint's.
        assert json.loads(endpoint.command("probe", "--pod", "--json").stdout)["ok"]
    finally:
        endpoint.settings = before
        endpoint.write_config()
    assert _names(endpoint) == []


def test_load_without_an_endpoint(endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path) -> None:
    file = _archive(tmp_path / "a.tar", "docker-archive", layout, "v1", "shop.test/web:1")
    endpoint.stop()
    assert _load(endpoint, file)["changed"]
    assert "shop.test/web:1" in endpoint.command("images", "list").stdout
    endpoint.start()
    assert _names(endpoint) == ["shop.test/web:1"]


def test_load_that_is_killed_leaves_no_half_image(
    endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path
) -> None:
    file = _is_packed(_archive(tmp_path / "a.tar", "docker-archive", layout, "v1", "shop.test/web:1"), "gz")
    for number in range(8):
        killed = endpoint.begin_command("images", "load", file)
        time.sleep(0.12 + 0.03 * number)
        killed.kill()
        killed.wait()
        for image in endpoint.cri.list_images():
            endpoint.cri.remove_image(image.id)
    _load(endpoint, file)
    assert _names(endpoint) == ["shop.test/web:1"]


def test_loads_beside_removals(endpoint: Endpoint, layout: OciLayout, tmp_path: pathlib.Path) -> None:
    files = [
        _archive(tmp_path / f"{tag}.tar", "docker-archive", layout, tag, f"shop.test/{tag}:1")
        for tag in ("v1", "v2")
    ]
    for _unused in range(4):
        running = [endpoint.begin_command("images", "load", file) for file in files]
        while any(each.poll() is None for each in running):
            for image in endpoint.cri.list_images():
                endpoint.cri.remove_image(image.id)
        # What is removed each time as soon as it is there, was there.
        assert {each.returncode for each in running} <= {0, 1}
    _load(endpoint, *files)
    assert _names(endpoint) == ["shop.test/v1:1", "shop.test/v2:1"]
