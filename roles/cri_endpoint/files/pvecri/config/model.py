# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the configuration: every section and key, its default, what it means and what it may be.

A key is one line here and nothing elsewhere: `load` reads types and checks from these
classes and `show` its words.  A default that suits every host beats a key.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import RUN_DIR, STATE_DIR
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import PLUGIN_DIRS
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import CONF_DIR
from pvecri.config.checks import (
    Check,
    absolute_path,
    absolute_paths,
    at_least,
    between,
    file_mode,
    group_name,
    host_or_address,
    image_patterns,
    image_reference,
    image_references,
    ip_address,
    one_of,
    optional_host,
    optional_node_name,
    optional_path,
    pool_name,
    run_directory,
    socket_path,
    storage_name,
    template_sources,
    vmid_range,
)

CONFIG_FILE = "/etc/pvecri/config.toml"

T = t.TypeVar("T")
MIB = 1 << 20


def option(default: T, doc: str, *checks: Check, octal: bool = False) -> T:
    """Return a dataclass field with what `load` and `show` want to know of a key."""
    about = {"doc": doc, "checks": checks, "octal": octal}
    # pylint: disable=invalid-field-call  # it is called in the body of a dataclass
    if isinstance(default, dict):
        return t.cast("T", dataclasses.field(default_factory=default.copy, metadata=about))
    return dataclasses.field(default=default, metadata=about)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How clients reach the endpoint."""

    socket: str = option(f"{RUN_DIR}/pvecri.sock", "Path of the unix socket.", socket_path)
    socket_mode: int = option(0o660, "Permission bits of the socket.", file_mode, octal=True)
    socket_group: str = option("root", "Group of the socket: a name, or a number in quotes.", group_name)
    max_message_bytes: int = option(
        16 * MIB,
        "Size of a request or an answer that is refused when exceeded.",
        between(1 * MIB, 1024 * MIB),
    )
    max_concurrent_rpcs: int = option(
        1000, "Requests that are worked on at once; more are answered RESOURCE_EXHAUSTED.", at_least(10)
    )
    shutdown_timeout_s: float = option(
        10.0, "How long a stop waits for requests in flight, in seconds.", between(0, 3600)
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PathsConfig:
    """Where the endpoint keeps what."""

    state_dir: str = option(STATE_DIR, "Records, bundles and the image store.", absolute_path)
    run_dir: str = option(RUN_DIR, "What a reboot may lose.", run_directory)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """How containers are run."""

    crun: str = option("/usr/bin/crun", "The program crun.", absolute_path)
    conmon: str = option("/usr/bin/conmon", "The program conmon.", absolute_path)
    criu: str = option("/usr/sbin/criu", "The program criu, which checkpoints need.", absolute_path)
    cgroup_driver: str = option(
        "auto",
        "Who makes cgroups: systemd, cgroupfs, or auto (systemd where it is the init). kubelet follows it.",
        one_of("auto", "systemd", "cgroupfs"),
    )
    pids_limit: int = option(
        0, "Processes of a container whose request sets no limit; 0 is no limit.", at_least(0)
    )
    concurrency: int = option(16, "Processes of crun that run at once.", between(1, 1024))
    command_timeout_s: float = option(60.0, "Time that crun has for one act, in seconds.", between(1, 3600))
    exec_output_max_bytes: int = option(
        7 * MIB,
        "Output of ExecSync that is kept, of stdout and stderr each; both must fit server.max_message_bytes.",
        between(4096, 512 * MIB),
    )
    cdi_dirs: tuple[str, ...] = option(
        ("/etc/cdi", "/var/run/cdi"),
        "Directories of descriptions of devices (CDI); a later one counts before an earlier one.",
        absolute_paths,
    )
    policy_file: str = option(
        "", "File with the policy that selects a runtime (.toml, .json or .yaml).", optional_path
    )
    policy: dict[str, t.Any] = option(
        {}, "The policy itself: default, handlers and rules. Not together with policy_file."
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """How pods get their network."""

    conf_dir: str = option(
        CONF_DIR, "Directory of CNI network configurations; the first counts.", absolute_path
    )
    plugin_dirs: tuple[str, ...] = option(PLUGIN_DIRS, "Directories of CNI plugins.", absolute_paths)
    max_parallel: int = option(8, "Pods whose network is made or unmade at once.", between(1, 256))
    timeout_s: float = option(60.0, "Time that one CNI plugin has, in seconds.", between(1, 3600))
    conf_template: str = option(
        "",
        "Template of a CNI configuration, written to conf_dir when the node gets its pod CIDR: "
        "{pod_cidr} stands for its IPv4 range, {pod_cidr_6} for its IPv6 range.",
        optional_path,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImagesConfig:
    """How images are fetched and kept."""

    pause_image: str = option(
        "registry.k8s.io/pause:3.10", "Image of pause containers; never removed by a client.", image_reference
    )
    pinned: tuple[str, ...] = option((), "Further images that no client may remove.", image_references)
    registries_conf: str = option(
        "", "Mirrors and insecure registries; empty: the host's registries.conf.", optional_path
    )
    policy_file: str = option("", "Signature policy; empty: the host's policy.json.", optional_path)
    authfile: str = option(
        "", "Registry logins for requests that bring none; empty: the host's auth.json.", optional_path
    )
    max_parallel_pulls: int = option(4, "Images that are pulled at once.", between(1, 64))
    pull_timeout_s: float = option(3600.0, "Time that one pull has, in seconds.", between(1, 86400))
    no_progress_timeout_s: float = option(
        60.0, "A pull that brings nothing for so long is given up, in seconds.", between(1, 3600)
    )
    pull_retries: int = option(
        2, "How often a request to a registry is repeated when it fails, with growing pauses.", between(0, 20)
    )
    additional_stores: tuple[str, ...] = option(
        (), "Roots of other image stores whose images are used where they lie.", absolute_paths
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PveConfig:
    """How containers are run as LXC containers of Proxmox VE."""

    enabled: str = option(
        "auto",
        "Whether containers can run under Proxmox LXC; auto: if access_file is there.",
        one_of("auto", "true", "false"),
    )
    access_file: str = option(
        "/etc/pvecri/pve.json",
        "File with the API's address and the token; the role writes it.",
        absolute_path,
    )
    node: str = option(
        "", "Name of this node in the cluster; empty: as /etc/pve/local says.", optional_node_name
    )
    rootfs_storage: str = option(
        "",
        "Storage of the containers' root file systems (content rootdir); empty: local-lvm, local-zfs, or the "
        "first that takes them.",
        storage_name,
    )
    rootfs_size_gib: float = option(
        4.0, "Size of a root file system, in GiB, unless a pod asks for another.", between(0.125, 65536)
    )
    template_storage: str = option(
        "",
        "Storage of images and templates (content vztmpl); empty: local, or the first that takes them.",
        storage_name,
    )
    pool: str = option("", "Resource pool that containers join; empty: none.", pool_name)
    vmid_range: tuple[int, ...] = option(
        (900_000, 999_999),
        "First and last number that containers get; nothing else may use them.",
        vmid_range,
    )
    templates: dict[str, t.Any] = option(
        {},
        "Where templates of images lxc/NAME come from that are not in Proxmox's own list: "
        '"lxc/NAME:TAG" = {url = "https://…", sha512 = "…"}.',
        template_sources,
    )
    task_timeout_s: float = option(
        600.0, "Time that a task of Proxmox VE has, in seconds; it goes on after it.", between(1, 86400)
    )
    start_timeout_s: float = option(
        60.0, "Time that a container has until its program runs, in seconds.", between(1, 3600)
    )
    watch_interval_s: float = option(
        30.0,
        "How often Proxmox VE is asked what was done to containers behind the endpoint's back, in seconds.",
        between(0.1, 3600),
    )
    config_dir: str = option("/etc/pve", "Where the cluster's configuration is mounted.", absolute_path)
    lock_dir: str = option(
        "/run/lock/lxc", "Where Proxmox VE locks configurations of containers.", absolute_path
    )
    lxc_path: str = option("/var/lib/lxc", "Where LXC keeps its containers.", absolute_path)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StreamingConfig:
    """How clients reach the streams of exec, attach and port forwarding."""

    address: str = option(
        "127.0.0.1",
        "Address or host name to listen on; one that is not of the loopback interface wants tls_cert.",
        host_or_address,
    )
    port: int = option(0, "TCP port to listen on; 0: one that the kernel chooses.", between(0, 65535))
    url_host: str = option(
        "",
        "Host in the URLs that clients are given; empty: the address, or loopback's if that means all.",
        optional_host,
    )
    tls_cert: str = option(
        "", "File with the certificate (PEM, with its chain); empty: no TLS.", optional_path
    )
    tls_key: str = option("", "File with the certificate's key (PEM).", optional_path)
    tls_client_ca: str = option(
        "", "File with the authorities (PEM) of which clients need a certificate; empty: none.", optional_path
    )
    idle_timeout_s: float = option(
        4 * 3600.0,
        "A session in which nothing moves for so long is ended, in seconds; 0 is never.",
        between(0, 30 * 86400),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsConfig:
    """How containers are checkpointed and restored."""

    timeout_s: float = option(
        600.0, "Time that a dump or a restore has, in seconds; a request may set its own.", between(1, 86400)
    )
    max_size_mib: int = option(
        64 * 1024,
        "Size, unpacked, of a checkpoint that is refused when exceeded, in MiB.",
        between(1, 1 << 30),
    )
    trusted_images: tuple[str, ...] = option(
        (),
        "Images (globs) from which containers may be restored. Who makes them can be root on this host.",
        image_patterns,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where /healthz, /readyz and /metrics are answered over HTTP."""

    address: str = option(
        "127.0.0.1",
        "Address to listen on; one that is not of the loopback interface wants allow_remote.",
        ip_address,
    )
    port: int = option(0, "TCP port to listen on; 0: none of this is served.", between(0, 65535))
    allow_remote: bool = option(
        False,
        "Let other hosts ask, without login and encryption; told are counts, no names of pods or images.",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What the endpoint says of its work."""

    level: str = option("info", "Least severity that is logged.", one_of("debug", "info", "warning", "error"))
    format: str = option("text", "One line of text, or one JSON object, per event.", one_of("text", "json"))
    slow_rpc_s: float = option(2.0, "Requests that take longer are logged, in seconds.", at_least(0))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration."""

    server: ServerConfig = ServerConfig()
    paths: PathsConfig = PathsConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    network: NetworkConfig = NetworkConfig()
    images: ImagesConfig = ImagesConfig()
    pve: PveConfig = PveConfig()
    streaming: StreamingConfig = StreamingConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
