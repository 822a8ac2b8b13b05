# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that an LXC container's configuration includes, line by line."""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import include
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import HostView, IncludeFacts, Shown

Json = dict[str, t.Any]

FACTS = IncludeFacts(
    netns="/ns/net",
    ipcns="/ns/ipc",
    utsns="/ns/uts",
    stop_signal=15,
    sysfs="/g/7/sys",
    io_dir="/g/7/io",
    uses_v2=True,
)

#: What every container of a pod has.
HEAD = [
    "lxc.namespace.share.net = /ns/net",
    "lxc.namespace.share.ipc = /ns/ipc",
    "lxc.namespace.share.uts = /ns/uts",
    "lxc.mount.auto =",
    "lxc.mount.auto = proc:mixed cgroup:mixed:force",
    "lxc.mount.entry = /g/7/sys sys none ro,rbind 0 0",
    "lxc.mount.entry = /g/7/io dev/.pvecri none bind,ro,create=dir 0 0",
    "lxc.init.cmd = /dev/.pvecri/run /dev/.pvecri/init",
    "lxc.init.uid = 0",
    "lxc.init.gid = 0",
    "lxc.init.cwd = /",
    "lxc.console.path = none",
    "lxc.tty.max = 0",
    "lxc.pty.max = 1024",
    "lxc.signal.halt = 15",
]
TAIL = [
    "lxc.cgroup2.memory.high = max",
    "lxc.cgroup2.memory.max = max",
    "lxc.cgroup2.memory.swap.max = max",
]

#: Those that LXC makes by itself.
USUAL: list[Json] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
]


def _middle(config: Json, facts: IncludeFacts = FACTS) -> list[str]:
    """Return the lines between those that all containers have."""
    made = include.lines(config, facts)
    assert made[: len(HEAD)] == HEAD
    return made[len(HEAD) :]


def _mount(destination: str, *options: str, source: str = "/s", kind: str = "bind") -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def test_lines_of_the_least_container() -> None:
    assert include.lines({"mounts": USUAL}, FACTS) == HEAD + TAIL


def test_text_is_the_lines_below_a_remark() -> None:
    text = include.text({}, FACTS)
    assert text.startswith("# ")
    assert text.splitlines()[1:] == HEAD + TAIL
    assert text.endswith("max\n")


def test_lines_without_a_pod() -> None:
    made = include.lines({}, IncludeFacts(netns="", io_dir="/io", uses_v2=False))
    assert made[0] == "lxc.mount.auto ="
    assert not any("share" in line or "sys none" in line or "signal" in line for line in made)


def test_lines_of_a_privileged_container_leave_capabilities_to_the_launcher() -> None:
    made = include.lines({}, IncludeFacts(netns="/n", io_dir="/io", unprivileged=False))
    assert "lxc.cap.drop =" in made


def test_lines_of_a_terminal() -> None:
    made = include.lines({}, IncludeFacts(netns="/n", io_dir="/io", pts=12))
    assert "lxc.mount.entry = /dev/pts/12 dev/console none bind,create=file 0 0" in made


@pytest.mark.parametrize(
    ("mount", "entry"),
    [
        (_mount("/v", "rbind", "rprivate", "rw"), "/s v none rbind,rprivate,create=dir 0 0"),
        (_mount("/v/", "rbind", "rslave", "ro"), "/s v none rbind,rslave,ro,create=dir 0 0"),
        (
            _mount("/v", "bind", "private", "ro", "nosuid", "nodev", "noexec", "noatime"),
            "/s v none bind,private,ro,nosuid,nodev,noexec,noatime,create=dir 0 0",
        ),
        (_mount("/dev/termination-log", "rbind"), "/s dev/termination-log none rbind,create=dir 0 0"),
        (_mount("/sys/fs/bpf", "rbind"), "/s sys/fs/bpf none rbind,create=dir 0 0"),
        (_mount("/proc/meminfo", "bind"), "/s proc/meminfo none bind,create=dir 0 0"),
        (_mount("/a b\tc", "rbind"), "/s a\\040b\\011c none rbind,create=dir 0 0"),
        (_mount("/v", "rbind", source="/x\\y\nz"), "/x\\134y\\012z v none rbind,create=dir 0 0"),
        (
            _mount("/dev/shm", "nosuid", "mode=1777", "size=64k", kind="tmpfs", source="shm"),
            "tmpfs dev/shm tmpfs nosuid,mode=1777,size=64k,create=dir 0 0",
        ),
        (
            _mount("/t", "rw", "uid=5", "gid=6", kind="tmpfs"),
            "tmpfs t tmpfs rw,uid=5,gid=6,create=dir 0 0",
        ),
        (
            _mount("/dev/mqueue", "nosuid", kind="mqueue"),
            "mqueue dev/mqueue mqueue rw,create=dir,optional 0 0",
        ),
    ],
)
def test_lines_of_a_mount(mount: Json, entry: str) -> None:
    assert _middle({"mounts": [*USUAL, mount]}) == [f"lxc.mount.entry = {entry}", *TAIL]


def test_mounts_keep_their_order_and_show_what_was_prepared() -> None:
    view = HostView(binds={"/b": Shown("/g/7/mounts/0"), "/b/c": Shown("/g/7/mounts/1", is_directory=False)})
    config = {"mounts": [_mount("/b", "rbind"), _mount("/b/c", "bind", "ro")]}
    assert _middle(config, _with(host=view)) == [
        "lxc.mount.entry = /g/7/mounts/0 b none rbind,create=dir 0 0",
        "lxc.mount.entry = /g/7/mounts/1 b/c none bind,ro,create=file 0 0",
        *TAIL,
    ]


def _with(**changes: t.Any) -> IncludeFacts:
    values = {name: getattr(FACTS, name) for name in FACTS.__dataclass_fields__}
    return IncludeFacts(**{**values, **changes})


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (_mount("/proc", "rbind"), "/proc"),
        (_mount("/proc/self/cwd/x", "rbind"), "/proc/self/cwd/x"),
        (_mount("/proc/1/root", kind="tmpfs"), "/proc/1/root"),
        (_mount("/dev", "rbind"), "/dev"),
        (_mount("/sys", "rbind"), "/sys"),
        (_mount("/dev/.pvecri", "rbind"), "/dev/.pvecri"),
        (_mount("/dev/.pvecri/run", "rbind"), "/dev/.pvecri/run"),
        (_mount("/v", "rbind", "rshared"), "rshared"),
        (_mount("/v", "rbind", "ro", "rro"), "rro"),
        (_mount("/v", "rbind", "sync"), "sync"),
        (_mount("/v", "size=1,evil", kind="tmpfs"), "size=1,evil"),
        (_mount("/v", "nr_inodes=3", kind="tmpfs"), "nr_inodes"),
        (_mount("/v", kind="overlay"), "overlay"),
        ({**_mount("/v", "rbind"), "uidMappings": [{}]}, "ids"),
    ],
)
def test_mount_that_lxc_cannot_make_is_refused(mount: Json, said: str) -> None:
    with pytest.raises(Unsupported) as caught:
        include.lines({"mounts": [mount]}, FACTS)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "mount",
    [
        _mount("/v", "rbind", source="relative"),
        _mount("/v", "rbind", source="/x\ry"),
        _mount("/" + "v" * 4000, "rbind"),
        _mount("/", "rbind"),
        _mount("//", "rbind"),
        _mount("../v", "rbind"),
    ],
    ids=["relative", "carriage-return", "too-long", "root", "root-twice", "above"],
)
def test_mount_whose_paths_lxc_cannot_take_is_refused(mount: Json) -> None:
    with pytest.raises(InvalidSpec):
        include.lines({"mounts": [mount]}, FACTS)


def test_lines_of_the_kernels_files() -> None:
    linux = {
        "maskedPaths": ["/proc/kcore", "/proc/acpi", "/proc/none", "/sys/firmware", "/elsewhere"],
        "readonlyPaths": ["/proc/sys", "/proc/bus", "/sys/x y", "/elsewhere"],
    }
    known = {"/proc/kcore": False, "/proc/sys": True, "/elsewhere": True}
    known.update(dict.fromkeys(("/proc/acpi", "/sys/firmware", "/proc/bus", "/sys/x y"), True))
    assert _middle({"linux": linux}, _with(host=HostView(kernel_paths=known))) == [
        "lxc.mount.entry = /proc/bus proc/bus none rbind,ro,optional 0 0",
        "lxc.mount.entry = /g/7/sys/x\\040y sys/x\\040y none rbind,ro,optional 0 0",
        "lxc.mount.entry = /dev/null proc/kcore none bind,ro,optional 0 0",
        "lxc.mount.entry = tmpfs proc/acpi tmpfs ro,size=0,optional 0 0",
        "lxc.mount.entry = tmpfs sys/firmware tmpfs ro,size=0,optional 0 0",
        *TAIL,
    ]


def test_files_of_the_host_are_none_of_the_kernels() -> None:
    linux = {"readonlyPaths": ["/proc/../etc"], "maskedPaths": ["/sys/../etc"]}
    known = dict.fromkeys(("/proc/../etc", "/sys/../etc"), True)
    assert _middle({"linux": linux}, _with(host=HostView(kernel_paths=known))) == TAIL


def test_devices_are_not_allowed_as_a_file_of_the_cgroup() -> None:
    with pytest.raises(InvalidSpec, match=r"devices\.allow"):
        include.lines({"linux": {"resources": {"unified": {"devices.allow": "a"}}}}, FACTS)


def test_lines_of_devices() -> None:
    linux = {
        "devices": [
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
            {"path": "/dev/pts/3", "type": "c", "major": 136, "minor": 3},
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
            {"path": "/dev/disk", "type": "b", "major": 8, "minor": 0},
        ],
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"},
            ]
        },
    }
    facts = _with(host=HostView(devices={"/dev/disk": "/g/7/mounts/d3"}))
    assert _middle({"linux": linux}, facts) == [
        "lxc.cgroup2.devices.allow = c 10:229 rwm",
        "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file 0 0",
        "lxc.cgroup2.devices.allow = b 8:0 r",
        "lxc.mount.entry = /g/7/mounts/d3 dev/disk none bind,create=file 0 0",
        *TAIL,
    ]


def test_lines_of_all_devices() -> None:
    linux = {"resources": {"devices": [{"allow": True, "access": "rwm"}]}}
    assert _middle({"linux": linux})[0] == "lxc.cgroup2.devices.allow = a"
    made = include.lines({"linux": linux}, _with(uses_v2=False))
    assert "lxc.cgroup.devices.allow = a" in made


@pytest.mark.parametrize("change", [{"type": "p"}, {"access": "rx"}])
def test_device_that_is_none_is_refused(change: Json) -> None:
    device = {"path": "/dev/x", "type": "c", "major": 1, "minor": 2}
    rule = {**device, "allow": True, "access": "r", **change}
    linux = {"devices": [{**device, **change}], "resources": {"devices": [rule]}}
    with pytest.raises(InvalidSpec, match="/dev/x"):
        include.lines({"linux": linux}, FACTS)


def test_lines_of_throttles_of_several_devices() -> None:
    rates = [{"major": 8, "minor": minor, "rate": 5} for minor in (0, 16)]
    made = _middle({"linux": {"resources": {"blockIO": {"throttleReadBpsDevice": rates}}}})
    assert made == [*TAIL, "lxc.cgroup2.io.max = 8:0 rbps=5", "lxc.cgroup2.io.max = 8:16 rbps=5"]


def test_lines_of_limits_of_processes() -> None:
    process = {
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6},
            {"type": "RLIMIT_CORE", "soft": -1, "hard": (1 << 64) - 1},
        ],
        "oomScoreAdj": -7,
    }
    assert _middle({"process": process}) == [
        *TAIL,
        "lxc.prlimit.nofile = 5:6",
        "lxc.prlimit.core = unlimited:unlimited",
        "lxc.proc.oom_score_adj = -7",
    ]


def test_lines_of_limits_of_the_cgroup() -> None:
    resources = {
        "cpu": {"shares": 1024, "quota": 150_000, "period": 100_000},
        "memory": {"limit": 1 << 30, "swap": 1 << 30},
        "pids": {"limit": 9},
        "unified": {"memory.high": "5\n"},
    }
    assert _middle({"linux": {"resources": resources}}) == [
        "lxc.cgroup2.cpu.weight = 39",
        "lxc.cgroup2.cpu.max = 150000 100000",
        "lxc.cgroup2.memory.high = max",
        f"lxc.cgroup2.memory.max = {1 << 30}",
        "lxc.cgroup2.memory.swap.max = 0",
        "lxc.cgroup2.pids.max = 9",
        # The last one counts.
        "lxc.cgroup2.memory.high = 5",
    ]
    del resources["unified"]
    old = include.lines({"linux": {"resources": resources}}, _with(uses_v2=False))[len(HEAD) :]
    assert old == [
        "lxc.cgroup.cpu.shares = 1024",
        "lxc.cgroup.cpu.cfs_period_us = 100000",
        "lxc.cgroup.cpu.cfs_quota_us = 150000",
        f"lxc.cgroup.memory.limit_in_bytes = {1 << 30}",
        f"lxc.cgroup.memory.memsw.limit_in_bytes = {1 << 30}",
        "lxc.cgroup.pids.max = 9",
    ]


#: Places of a configuration that hold text of a user.
HOSTILE: list[t.Callable[[Json, str], object]] = [
    lambda config, text: config["mounts"].append(_mount("/v", "rbind", source="/" + text)),
    lambda config, text: config["mounts"].append(_mount("/" + text, "rbind")),
    lambda config, text: config["mounts"].append(_mount("/" + text, kind="tmpfs")),
    lambda config, text: config["mounts"].append(_mount("/t", "size=1" + text, kind="tmpfs")),
    lambda config, text: config["mounts"].append(_mount("/v", "rbind", text)),
    lambda config, text: config["mounts"].append(_mount("/v", kind=text)),
    lambda config, text: config["process"].update(args=[text], env=[f"A={text}"], cwd="/" + text),
    lambda config, text: config.update(hostname=text, annotations={text: text}),
    lambda config, text: config["process"].update(rlimits=[{"type": "RLIMIT_" + text, "soft": 1, "hard": 1}]),
    lambda config, text: config["linux"].update(resources={"cpu": {"cpus": text}}),
    lambda config, text: config["linux"].update(resources={"cpu": {"mems": text}}),
    lambda config, text: config["linux"].update(resources={"unified": {"memory.high": text}}),
    lambda config, text: config["linux"].update(resources={"unified": {"memory." + text: "1"}}),
    lambda config, text: config["linux"].update(
        resources={"hugepageLimits": [{"pageSize": text, "limit": 1}]}
    ),
    lambda config, text: config["linux"].update(
        devices=[{"path": "/dev/" + text, "type": "c", "major": 1, "minor": 2}]
    ),
    lambda config, text: config["linux"].update(
        devices=[{"path": "/dev/x", "type": text, "major": 1, "minor": 2}]
    ),
    lambda config, text: config["linux"].update(
        maskedPaths=["/proc/" + text], readonlyPaths=["/proc/" + text]
    ),
]


@pytest.mark.parametrize(
    "text", ["x\nlxc.hook.start-host = /evil", "x\rlxc.hook.stop = /evil", "x\0y", "\n#"]
)
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_text_of_a_user_becomes_a_line_of_its_own(number: int, text: str) -> None:
    config: Json = {"mounts": copy.deepcopy(USUAL), "process": {}, "linux": {}}
    HOSTILE[number](config, text)
    facts = _with(host=HostView(kernel_paths={"/proc/" + text: False}))
    try:
        made = include.lines(config, facts)
    except CoreError:
        return
    assert "/evil" not in {line.partition(" = ")[2] for line in made}
    for line in made:
        assert "\n" not in line
        assert "\r" not in line
        assert "\0" not in line
        assert line.startswith("lxc.")
        assert "hook" not in line.partition("=")[0]
