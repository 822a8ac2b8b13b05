# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold scripts/lib/setup.sh by running its functions in bash, with programs of the test's own in PATH."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t

import pytest

ROOT = pathlib.Path(__file__).parents[3]


class Shell:
    """Run bash code after sourcing setup.sh, with a cache folder and programs of its own."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.tmp_path = tmp_path
        self.programs = tmp_path / "bin"
        self.programs.mkdir()
        (tmp_path / "cache/logs").mkdir(parents=True)

    def program(self, name: str, code: str) -> pathlib.Path:
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{code}\n")
        path.chmod(0o755)
        return path

    def run(self, code: str, *, root: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'set -euo pipefail; ROOT={root}; source "{ROOT}/scripts/lib/setup.sh"; {code}'],
            env={
                "PATH": f"{self.programs}:/usr/bin:/bin:/usr/sbin:/sbin",
                "PVECRI_CACHE": f"{self.tmp_path}/cache",
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )


@pytest.fixture
def shell(tmp_path: pathlib.Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        pytest.param('ID=debian\nVERSION_ID="12"\n', None, id="12"),
        pytest.param("ID=debian\nVERSION_ID=13\n", None, id="13-unquoted"),
        pytest.param("ID='debian'\nVERSION_ID='13'\n", None, id="single-quotes"),
        pytest.param(
            'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', "Debian 11 is not supported", id="11"
        ),
        pytest.param('ID=debian\nPRETTY_NAME="Debian sid"\n', "Debian sid is not supported", id="sid"),
        pytest.param(
            'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="12"\n', "ubuntu 12 is not supported (it is like: debian)"
        ),
        pytest.param(None, "the distribution is unknown", id="no-file"),
        pytest.param('ID=debian\nVERSION_ID="$(touch pwned)12"\n', "is not supported", id="never-executed"),
    ],
)
def test_require_debian(shell: Shell, content: str | None, refused: str | None) -> None:
    file = shell.tmp_path / "os-release"
    if content is not None:
        file.write_text(content)
    shell.program("apt-get", "exit 0")
    done = shell.run(f"cd {shell.tmp_path}; OS_RELEASE={file}; require_debian; echo accepted")
    if refused is None:
        assert (done.returncode, done.stdout) == (0, "accepted\n")
    else:
        assert done.returncode == 1
        assert refused in done.stderr
        assert "Supported: Debian 12 and 13" in done.stderr
    assert not (shell.tmp_path / "pwned").exists()


def test_require_cache_names_the_folder_and_the_way_out(shell: Shell) -> None:
    (shell.tmp_path / "file").touch()
    done = shell.run(f"CACHE={shell.tmp_path}/file/x; LOGS=$CACHE/logs; require_cache")
    assert done.returncode == 1
    assert f"{shell.tmp_path}/file/x cannot be written" in done.stderr
    assert "PVECRI_CACHE" in done.stderr


def dpkg(shell: Shell, states: dict[str, str]) -> None:
    """Let dpkg-query answer from a table; ask for anything else and it fails, as the real one does."""
    cases = "".join(f"{name}) printf '{state}' ;;\n" for name, state in states.items())
    shell.program("dpkg-query", f'case "${{!#}}" in\n{cases}*) exit 1 ;;\nesac')
    shell.program("dpkg", "exit 0")


def test_missing_packages_counts_only_what_is_whole(shell: Shell) -> None:
    dpkg(shell, {"crun": "installed", "conmon": "half-configured", "skopeo": "config-files"})
    done = shell.run("missing_packages crun conmon skopeo umoci")
    assert done.stdout.split() == ["conmon", "skopeo", "umoci"]


def test_ensure_packages_does_nothing_when_all_are_there(shell: Shell) -> None:
    dpkg(shell, {"crun": "installed"})
    shell.program("apt-get", "touch $PVECRI_CACHE/called")
    done = shell.run("ensure_packages crun")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (shell.tmp_path / "cache/called").exists()


@pytest.mark.parametrize(
    ("missing", "masked"),
    [
        pytest.param("lxc skopeo", ["lxc-monitord.service", "lxc-net.service", "lxc.service"], id="lxc"),
        pytest.param("docker-registry", ["docker-registry.service"], id="one"),
        pytest.param("liblxc-common", [], id="another-with-the-name-in-it"),
    ],
)
def test_services_of_new_packages_stay_down(shell: Shell, missing: str, masked: list[str]) -> None:
    units = shell.tmp_path / "units"
    units.mkdir()
    shell.program(
        "systemctl",
        f"""
        echo "$*" >>{shell.tmp_path}/calls
        case "$1" in
        mask) ln -s /dev/null {units}/"${{!#}}" ;;
        unmask) rm {units}/"${{!#}}" ;;
        esac
        """,
    )
    done = shell.run(
        f"SYSTEMD_UNITS={units}; missing=({missing}); keep_services_down; ls {units}; "
        f"release_services; ls {units}"
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, masked, "")
    calls = shell.tmp_path / "calls"
    disabled = [line for line in calls.read_text().splitlines() if "disable" in line] if masked else []
    assert sorted(line.split()[-1].removesuffix(".service") for line in disabled) == sorted(
        name.removesuffix(".service") for name in masked
    )


def apt(shell: Shell, *, known_after_update: bool = True, install_fails: int = 0) -> None:
    """Let apt know the packages after an update only, and fail to install a number of times."""
    calls = shell.tmp_path / "calls"
    answer = f'grep -q "^update" {calls}' if known_after_update else "false"
    shell.program(
        "apt-cache",
        f'if {answer}; then echo "  Candidate: 1.0-1"; else echo "  Candidate: (none)"; fi 2>/dev/null',
    )
    shell.program(
        "apt-get",
        f"""
        for word; do case "$word" in update|install) echo "$word ${{*: -2}}" >>{calls} ;; esac; done
        [[ " $* " == *' install '* ]] || exit 0
        (($(grep -c '^install' {calls}) > {install_fails})) || {{ echo 'E: no route'; exit 100; }}
        """,
    )
    calls.touch()


def calls(shell: Shell) -> list[str]:
    return [line.split()[0] for line in (shell.tmp_path / "calls").read_text().splitlines()]


def test_ensure_packages_updates_once_and_installs_in_one_call(shell: Shell) -> None:
    dpkg(shell, {})
    apt(shell)
    done = shell.run("ensure_packages crun conmon")
    assert done.returncode == 0, done.stderr
    assert "apt: installing crun conmon" in done.stdout
    assert calls(shell) == ["update", "install"]
    assert "install crun conmon" in (shell.tmp_path / "calls").read_text()


def test_ensure_packages_names_what_apt_does_not_know(shell: Shell) -> None:
    dpkg(shell, {})
    apt(shell, known_after_update=False)
    done = shell.run("ensure_packages crun conmon")
    assert done.returncode == 1
    assert "apt does not know these packages: crun conmon" in done.stderr
    assert "among apt's sources" in done.stderr
    assert calls(shell) == ["update"]


@pytest.mark.parametrize(
    ("failures", "rc", "sequence"), [(1, 0, "update install update install"), (2, 1, None)]
)
def test_ensure_packages_refreshes_a_stale_list_once(
    shell: Shell, failures: int, rc: int, sequence: str | None
) -> None:
    dpkg(shell, {})
    apt(shell, install_fails=failures)
    done = shell.run("ensure_packages crun")
    assert done.returncode == rc
    assert calls(shell) == (sequence or "update install update install").split()
    if rc:
        assert "apt could not install: crun" in done.stderr
        assert "E: no route" in done.stderr


@pytest.mark.parametrize("known", [True, False])
def test_ensure_packages_does_not_try_twice_without_a_network(shell: Shell, known: bool) -> None:
    dpkg(shell, {})
    shell.program("apt-cache", "echo '  Candidate: 1.0'" if known else "exit 0")
    count = shell.tmp_path / "count"
    shell.program(
        "apt-get", f"echo x >>{count}; echo \"Temporary failure resolving 'deb.debian.org'\"; exit 100"
    )
    done = shell.run("ensure_packages crun")
    assert done.returncode == 1
    assert "apt cannot reach its package servers" in done.stderr
    assert count.read_text() == "x\n"


def fake_python(shell: Shell, pip: str = "exit 0") -> str:
    """Return a Python whose virtual environments hold a Python that answers to pip with ``pip``."""
    inner = shell.program("inner-python", pip)
    return str(
        shell.program(
            "fake-python",
            f"""
            [[ "$1" != --version ]] || {{ echo Python 3.11.2; exit; }}
            mkdir -p "$3/bin" && cp {inner} "$3/bin/python"
            """,
        )
    )


def venv(shell: Shell, python: str, pins: str = "a==1\n", then: str = "") -> subprocess.CompletedProcess[str]:
    (shell.tmp_path / "pins.txt").write_text(pins)
    return shell.run(f'PYTHON={python}; ensure_venv dev "{shell.tmp_path}/pins.txt" a; echo "$VENV"; {then}')


def environments(shell: Shell) -> tuple[list[str], list[str]]:
    """Return the links and the folders in the cache's venv folder."""
    entries = sorted((shell.tmp_path / "cache/venv").iterdir())
    return [e.name for e in entries if e.is_symlink()], [e.name for e in entries if not e.is_symlink()]


def test_ensure_venv_is_built_once_and_published_by_a_link(shell: Shell) -> None:
    python = fake_python(shell)
    first, second = venv(shell, python), venv(shell, python)
    assert first.returncode == second.returncode == 0, first.stderr
    assert "installing the Python tools" in first.stdout
    assert second.stdout == first.stdout.splitlines()[-1] + "\n"
    links, folders = environments(shell)
    assert len(links) == len(folders) == 1
    assert second.stdout.strip().endswith(folders[0])


def test_ensure_venv_follows_the_pins(shell: Shell) -> None:
    python = fake_python(shell)
    paths = {venv(shell, python, pins).stdout.splitlines()[-1] for pins in ("a==1\n", "a==2\n")}
    assert len(paths) == 2
    assert all(pathlib.Path(path).is_dir() for path in paths)


def test_ensure_venv_repairs_what_a_killed_run_left(shell: Shell) -> None:
    killed = venv(shell, fake_python(shell, "kill -9 $PPID; sleep 1"))
    assert killed.returncode == -9
    links, folders = environments(shell)
    assert (links, len(folders)) == ([], 1)
    done = venv(shell, fake_python(shell))
    assert done.returncode == 0, done.stderr
    links, after = environments(shell)
    assert len(links) == len(after) == 1
    assert after != folders


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "NewConnectionError: Temporary failure in name resolution",
            ["PyPI could not be reached", "PIP_INDEX_URL"],
        ),
        ("SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED", ["not trusted", "PIP_CERT"]),
        ("OSError: [Errno 28] No space left on device", ["disk is full", "PVECRI_CACHE"]),
        ("ERROR: something else", ["something else", "The lines above say why"]),
    ],
)
def test_ensure_venv_says_why_pip_failed(shell: Shell, output: str, expected: list[str]) -> None:
    done = venv(shell, fake_python(shell, f"echo '{output}'; exit 1"))
    assert done.returncode == 1
    assert all(text in done.stderr for text in expected)
    assert environments(shell)[0] == []


def test_collection_copy_holds_what_git_would_commit(shell: Shell) -> None:
    root = shell.tmp_path / "checkout"
    for name in ("plugins/kept.py", "new.py", "deleted.py", "ignored.pyc", "a b.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".gitignore").write_text("*.pyc\n")
    (root / "link").symlink_to("new.py")

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", "plugins/kept.py", "deleted.py", ".gitignore")
    (root / "deleted.py").unlink()
    done = shell.run(
        'ensure_collection_link; ensure_collection_copy; echo "$COPY"; readlink -f "$COLLECTIONS"/*/*/*',
        root=root,
    )
    assert done.returncode == 0, done.stderr
    copy, linked = done.stdout.split()
    found = {str(path.relative_to(copy)) for path in pathlib.Path(copy).rglob("*") if not path.is_dir()}
    assert found == {"plugins/kept.py", "new.py", ".gitignore", "a b.txt", "link"}
    assert linked == str(root)
    assert copy.endswith("ansible_collections/pvecri/runtime")


def test_setup_lock_makes_the_second_wait(shell: Shell) -> None:
    code = "one() { echo in; sleep 0.3; echo out; }; with_setup_lock one & with_setup_lock one; wait"
    lines = [line for line in shell.run(code).stdout.splitlines() if line in ("in", "out")]
    assert lines == ["in", "out", "in", "out"]


def numbers(tmp_path: pathlib.Path, xml: str) -> list[str]:
    file = tmp_path / "junit.xml"
    file.write_text(xml)
    command: t.Final = ["python3", str(ROOT / "scripts/lib/junit_counts.py"), str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_junit_counts_errors_as_failures(tmp_path: pathlib.Path) -> None:
    xml = '<testsuites><testsuite tests="10" failures="1" errors="2" skipped="3"/></testsuites>'
    assert numbers(tmp_path, xml) == ["4", "3", "3"]
