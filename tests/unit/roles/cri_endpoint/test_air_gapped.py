# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Ansible write what leads a host to mirrors, and let apt and skopeo read it."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import subprocess
import tomllib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.role_variables import evaluate

ROOT = pathlib.Path(__file__).parents[4]
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc=\n-----END PGP PUBLIC KEY BLOCK-----"
GIVEN: dict[str, t.Any] = {
    "cri_endpoint_apt_sources": [
        {
            "uris": ["https://mirror.example.org/debian"],
            "suites": ["trixie", "trixie-updates"],
            "components": ["main"],
        },
        {"uris": ["https://usual.example.org/debian"]},
        {"uris": ["http://10.0.0.1:8000/"], "suites": ["./"], "trusted": True},
        {
            "uris": ["https://signed.example.org/"],
            "suites": ["./"],
            "signed_by": KEY,
            "architectures": ["amd64"],
        },
    ],
    # As surveys of AWX give it.
    "cri_endpoint_apt_only": "true",
    "cri_endpoint_apt_proxy": "http://proxy.example.org:3128",
    "cri_endpoint_apt_ca": "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n",
    "cri_endpoint_registries": [
        {
            "prefix": "docker.io",
            "mirrors": [
                {"location": "mirror.example.org/hub", "insecure": True, "pull_from_mirror": "digest-only"},
                {"location": "other.example.org"},
            ],
        },
        {"prefix": "*.example.net", "blocked": True},
        {"prefix": "quay.io/team", "location": "mirror.example.org/team", "mirror_by_digest_only": True},
    ],
    "cri_endpoint_registry_logins": [
        {"registry": "mirror.example.org", "username": "node", "password": 'a "quoted": one'},
        {"registry": "other.example.org/team", "username": "node", "password": "ü"},
    ],
    "cri_endpoint_registry_certificates": [
        {"registry": "mirror.example.org:5000", "ca": "CA", "client_cert": "CERT", "client_key": "KEY"}
    ],
    "cri_endpoint_images": [
        {"name": "registry.example.org/a:1", "src": "a.tar"},
        {"name": "registry.example.org/b:1", "src": "b.tar", "pinned": False},
    ],
}
CERTS = "/etc/containers/certs.d"
FORMER = [f"{CERTS}/old.example.org/pvecri.{name}" for name in ("crt", "key")]
FORMER.append(f"{CERTS}/mirror.example.org:5000/pvecri.crt")
FILES = ("__cri_endpoint_apt_files", "__cri_endpoint_registry_files", "__cri_endpoint_registry_secret_files")
PINNED, GONE = "__cri_endpoint_images_pinned", "__cri_endpoint_certificates_to_remove"
ALL_GONE = "__cri_endpoint_files_to_remove"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, t.Any]]:
    former = {"__cri_endpoint_former_certificates": {"files": [{"path": path} for path in FORMER]}}
    given = {
        "given": {**GIVEN, **former, "wanted": [*FILES, PINNED, GONE]},
        "plain": {},
        "absent": {**GIVEN, **former, "cri_endpoint_state": "absent", "wanted": [GONE, ALL_GONE]},
    }
    return evaluate(tmp_path_factory.mktemp("given"), given, FILES)


@pytest.fixture
def rendered(cases: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    return cases["given"]


@pytest.fixture
def files(rendered: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    return {file["path"]: file for name in FILES for file in rendered[name]}


def test_registries_are_those_that_were_given(files: dict[str, dict[str, t.Any]]) -> None:
    assert tomllib.loads(files["/etc/pvecri/registries.conf"]["content"]) == {
        "registry": [
            {
                "prefix": "docker.io",
                "location": "docker.io",
                "mirror": [
                    {
                        "location": "mirror.example.org/hub",
                        "insecure": True,
                        "pull-from-mirror": "digest-only",
                    },
                    {"location": "other.example.org"},
                ],
            },
            {"prefix": "*.example.net", "blocked": True},
            {"prefix": "quay.io/team", "location": "mirror.example.org/team", "mirror-by-digest-only": True},
        ]
    }


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_skopeo_understands_the_registries(
    files: dict[str, dict[str, t.Any]], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "registries.conf"
    path.write_text(files["/etc/pvecri/registries.conf"]["content"])
    argv = ["skopeo", f"--registries-conf={path}", "inspect", "docker://a.example.net/team/app:1"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is blocked in" in done.stderr


def test_logins_are_private_and_whole(files: dict[str, dict[str, t.Any]]) -> None:
    file = files["/etc/pvecri/auth.json"]
    assert (file["mode"], file["secret"]) == ("0600", True)
    auths = json.loads(file["content"])["auths"]
    assert {registry: base64.b64decode(entry["auth"]).decode() for registry, entry in auths.items()} == {
        "mirror.example.org": 'node:a "quoted": one',
        "other.example.org/team": "node:ü",
    }


def test_certificates_have_the_names_that_tools_look_for(files: dict[str, dict[str, t.Any]]) -> None:
    folder = f"{CERTS}/mirror.example.org:5000"
    contents = {
        name: files[f"{folder}/pvecri.{name}"]["content"].splitlines()[1] for name in ("crt", "cert", "key")
    }
    assert contents == {"crt": "CA", "cert": "CERT", "key": "KEY"}
    assert files[f"{folder}/pvecri.key"]["mode"] == "0600"


def test_certificates_of_former_runs_go_and_keys_are_not_shown(cases: dict[str, dict[str, t.Any]]) -> None:
    folder = f"{CERTS}/old.example.org"
    gone = cases["given"][GONE]
    assert [entry["path"] for entry in gone] == [*FORMER[:2], folder, CERTS]
    assert [entry["path"] for entry in gone if entry["secret"]] == [FORMER[1]]
    assert set(FORMER) < {entry["path"] for entry in cases["absent"][GONE]}


def test_removal_names_every_file_of_the_stage(cases: dict[str, dict[str, t.Any]]) -> None:
    gone = {entry["path"]: entry for entry in cases["absent"][ALL_GONE]}
    for file in (file for name in FILES for file in cases["given"][name]):
        assert gone[file["path"]]["state"] == "absent"
        assert not gone[file["path"]].get("content")
        assert gone[file["path"]].get("secret", False) == file.get("secret", False)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")
def test_apt_reads_the_mirrors_and_nothing_else(
    files: dict[str, dict[str, t.Any]], tmp_path: pathlib.Path
) -> None:
    sources, config = tmp_path / "pvecri.sources", tmp_path / "pvecri.conf"
    sources.write_text(files["/etc/apt/sources.list.d/pvecri.sources"]["content"])
    config.write_text(
        files["/etc/apt/pvecri.conf"]["content"].replace(
            "/etc/apt/sources.list.d/pvecri.sources", str(sources)
        )
        + files["/etc/apt/apt.conf.d/60pvecri"]["content"]
    )
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "APT_CONFIG": str(config)}
    run: t.Any = {"env": environment, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    argv = [
        "apt-get",
        "update",
        "--print-uris",
        "-o",
        f"Dir::State::Lists={tmp_path}",
        "-o",
        "Debug::NoLocking=true",
    ]
    shown = subprocess.run(argv, check=True, **run).stdout
    assert {line.split("'")[1] for line in shown.splitlines() if "/InRelease" in line} == {
        "https://mirror.example.org/debian/dists/trixie/InRelease",
        "https://mirror.example.org/debian/dists/trixie-updates/InRelease",
        "https://usual.example.org/debian/dists/bookworm/InRelease",
        "http://10.0.0.1:8000/./InRelease",
        "https://signed.example.org/./InRelease",
    }
    known = subprocess.run(["apt-config", "dump"], check=True, **run).stdout
    for host in ("mirror.example.org", "10.0.0.1", "signed.example.org"):
        assert f'Acquire::http::Proxy::{host} "http://proxy.example.org:3128";' in known
        assert f'Acquire::https::{host}::CaInfo "/etc/apt/pvecri-ca.pem";' in known


def test_images_from_files_are_pinned_unless_said_otherwise(rendered: dict[str, t.Any]) -> None:
    assert rendered[PINNED] == ["registry.example.org/a:1"]


def test_without_variables_there_is_no_file(cases: dict[str, dict[str, t.Any]]) -> None:
    assert {file["state"] for name in FILES for file in cases["plain"][name]} == {"absent"}


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_flat_repository_names_each_package(tmp_path: pathlib.Path) -> None:
    control = tmp_path / "package/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: a\nVersion: 1:2\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: a\n"
    )
    (tmp_path / "mirror").mkdir()
    deb = tmp_path / "mirror/a_1%3a2_all.deb"
    subprocess.run(
        ["dpkg-deb", "--build", str(tmp_path / "package"), str(deb)], check=True, capture_output=True
    )
    argv = ["/usr/bin/python3", str(ROOT / "playbooks/files/flat_repository.py"), str(tmp_path / "mirror")]
    first, again = (
        subprocess.run(argv, check=True, capture_output=True, text=True).stdout for _unused in "12"
    )
    assert (first, again) == ("changed\n", "")
    stanza = (tmp_path / "mirror/Packages").read_text()
    assert "Package: a\n" in stanza
    assert f"Filename: ./{deb.name}\nSize: {os.path.getsize(deb)}\nSHA256: " in stanza
