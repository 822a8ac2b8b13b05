# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attach network namespaces to networks by running CNI plugins (CNI specification 1.0.0).

What was asked for and what came of it is written to a cache before and after the
plugins run.  So a DEL is possible after a kill in the middle of an ADD, and after a
restart of the host, when the namespace is gone and addresses still are taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import signal
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_cache import (
    Attachment,
    AttachmentCache,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    CONF_DIR,
    NetworkConfig,
    find_config,
    is_idle,
    plugin_request,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import (
    PortMapping,
    check_free,
    check_mappings,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.netns import is_pinned

#: Debian's containernetworking-plugins, and where others put theirs.
PLUGIN_DIRS = ("/usr/lib/cni", "/opt/cni/bin")

#: Section 4, "Result types", "Error": the codes that tell more than that it failed.
_INCOMPATIBLE_VERSION, _UNSUPPORTED_FIELD, _UNKNOWN_CONTAINER, _INVALID_CONFIG, _TRY_AGAIN = 1, 2, 3, 7, 11


#: Reference plugins that share chains of the packet filter (CNI-HOSTPORT-SETMARK, CNI-ADMIN, …).
_CHAIN_MAKERS = frozenset({"portmap", "firewall"})

#: Rounds in which plugins that are to be ended are looked for, and how long the kernel may take for one.
_KILL_ROUNDS = 2
_KILL_WAIT_S = 5.0

_RANDOM_ID = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class CniResult:
    """What a network gave to a namespace."""

    #: Addresses without prefix length, in the network's order.
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mac: str | None
    #: ``nameservers``, ``search``, ``options``, ``domain`` as the plugins said.
    dns: Json
    raw: Json


class Cni:
    """Run CNI's verbs for one owner's containers.

    Calls for the same container must be serialised by the caller.
    """

    def __init__(
        self,
        paths: Paths,
        runner: Runner,
        *,
        conf_dir: str = CONF_DIR,
        plugin_dirs: t.Sequence[str] = PLUGIN_DIRS,
        timeout_s: float = 60.0,
    ) -> None:
        """Set up; ``timeout_s`` bounds each run of a plugin."""
        self._cache = AttachmentCache(paths)
        scope = f"{os.path.realpath(paths.state_dir)}\0{paths.owner.value}"
        self._scope = hashlib.sha256(scope.encode()).hexdigest()[:12]
        self._lock = os.path.join(paths.run_dir, "locks", "cni-ports")
        self._runner = runner
        self._conf_dir = conf_dir
        self._plugin_dirs = tuple(plugin_dirs)
        self._timeout_s = timeout_s

    # ---- looking: no process --------------------------------------------------------------------------

    def cached(self, container_id: str, interface: str = "eth0") -> Attachment | None:
        """Return what is on record of a container's interface, an unfinished ADD too, or None."""
        return self._cache.load(container_id, interface)

    def result(self, container_id: str, interface: str = "eth0") -> CniResult | None:
        """Return what the network gave to a container, or None when it is not (wholly) attached."""
        attachment = self.cached(container_id, interface)
        return parse_result(attachment.result) if attachment and attachment.result is not None else None

    def attachments(self) -> list[Attachment]:
        """Return all attachments of this owner, of containers that are gone too."""
        return list(self._cache.list())

    def attached(self) -> set[str]:
        """Return the ids of this owner's containers that have any attachment, one that cannot be read too."""
        return self._cache.container_ids()

    # ---- verbs ----------------------------------------------------------------------------------------

    def add(
        self,
        container_id: str,
        netns: str,
        network: NetworkConfig | str | None = None,
        *,
        interface: str = "eth0",
        ports: t.Sequence[PortMapping | t.Mapping[str, t.Any]] = (),
        capabilities: t.Mapping[str, t.Any] | None = None,
        args: t.Mapping[str, str] | None = None,
        ready: t.Callable[[], object] | None = None,
    ) -> CniResult:
        """Attach a namespace to a network and return its addresses.

        ``network`` is a configuration, a name (`cni_config.find_config`), or None for the
        host's first.  ``ports`` are published; ``capabilities`` are further runtime
        configuration (``bandwidth``, ``dns``, ``ipRanges``, ``mac``, …) for the plugins that
        declare it; ``args`` become CNI_ARGS.  ``ready`` is called once the attachment is on
        record and before the first plugin, for a namespace that is made meanwhile.

        An attachment that is there already is returned as it is.  When a plugin fails, the
        others' work is undone.  Raises NotFound for an unknown network, Conflict for a port
        that is taken, InvalidSpec, Unsupported for a capability that no plugin has,
        MissingDependency for a plugin that is not installed, CommandTimeout and CommandError
        naming the plugin.
        """
        config = network if isinstance(network, NetworkConfig) else find_config(network, self._conf_dir)
        before = self.cached(container_id, interface)
        if before is not None:
            if before.result is not None and before.netns == netns and before.config.name == config.name:
                return parse_result(before.result)
            # Cut short, or of another namespace: its addresses must not be lost.
            self.delete(container_id, interface=interface)
        mappings = [port if isinstance(port, PortMapping) else PortMapping.from_plain(port) for port in ports]
        check_mappings(mappings)
        wanted = dict(capabilities or {})
        if mappings:
            wanted["portMappings"] = [mapping.plain() for mapping in mappings]
        _check_capabilities(config, wanted)
        attachment = Attachment(
            container_id=container_id,
            cni_id=self._cni_id(container_id),
            interface=interface,
            netns=netns,
            config=config,
            capabilities=wanted,
            args=dict(args or {}),
        )
        self._reserve(attachment)
        if ready is not None:
            try:
                ready()
            except BaseException:
                self._cache.remove(container_id, interface)
                raise
        try:
            result = self._chain(attachment)
        except BaseException:
            with contextlib.suppress(CoreError):
                self._detach(attachment)
            raise
        self._cache.store_result(dataclasses.replace(attachment, result=result))
        return parse_result(result)

    def delete(self, container_id: str, *, interface: str = "eth0") -> bool:
        """Detach, free addresses and ports, and return whether there was anything.

        Works without the namespace.  The plugins run in reverse order, all of them even
        when one fails; the record goes when all have succeeded.
        """
        attachment = self.cached(container_id, interface)
        if attachment is None:
            # A kill may have left parts of a record that was never whole.
            self._cache.remove(container_id, interface)
            return False
        try:
            self._detach(attachment)
        except CoreError:
            mended = self._with_mended_config(attachment)
            if mended is None:
                raise
            self._detach(mended)
        return True

    def _detach(self, attachment: Attachment) -> None:
        """Have every plugin detach, whatever became of the others; raises the first failure."""
        if attachment.result is None:
            _end_plugins(attachment.cni_id)
        failure: CoreError | None = None
        # Section 3, "DEL": the final result of the ADD goes to every plugin.
        previous = attachment.result if attachment.config.version_at_least(0, 4, 0) else None
        for plugin in reversed(attachment.config.plugins):
            if is_idle(plugin, attachment.capabilities):
                continue
            try:
                self._run("DEL", attachment, plugin, previous)
            except CoreError as exc:
                failure = failure or exc
        if failure is not None:
            raise failure
        self._cache.remove(attachment.container_id, attachment.interface)

    def _with_mended_config(self, attachment: Attachment) -> Attachment | None:
        """Return what was never attached with its network's configuration of today, if that is another.

        Plugins refuse a mistake in DEL as they did in ADD, however often they are asked.
        """
        if attachment.result is not None:
            return None
        try:
            config = find_config(attachment.config.name, self._conf_dir)
        except NotFound:
            return None
        is_same = config.plain() == attachment.config.plain()
        return None if is_same else dataclasses.replace(attachment, config=config)

    def check(self, container_id: str, *, interface: str = "eth0") -> None:
        """Ask every plugin whether the attachment is as it should be; raises what is wrong.

        Networks older than version 0.4.0, or with ``disableCheck``, cannot tell.
        """
        attachment = self.cached(container_id, interface)
        if attachment is None:
            raise NotFound(f"container '{container_id}' is in no network with '{interface}'")
        if attachment.result is None:
            raise WrongState(
                f"container '{container_id}' was never completely attached to '{attachment.config.name}'",
                hint="Delete it from the network and add it again",
            )
        if attachment.config.disable_check or not attachment.config.version_at_least(0, 4, 0):
            return
        for plugin in attachment.config.plugins:
            self._run("CHECK", attachment, plugin, attachment.result)

    def _cni_id(self, container_id: str) -> str:
        """Return the id for the plugins: their state is one for the host, and our names are not.

        A container of the same name in another state directory, or of the other owner, must
        neither be refused an address nor lose the one that it has.  A random id is unique by
        itself, and plugins that ask the cluster or the runtime by it want just that.
        """
        return container_id if _RANDOM_ID.fullmatch(container_id) else f"{container_id}-{self._scope}"

    def _reserve(self, attachment: Attachment) -> None:
        """Write the record before anything is done; ports are looked at and taken under one lock."""
        if not attachment.port_mappings:
            self._cache.store(attachment)
            return
        with locked(self._lock, what="published ports"):
            others = ((other.container_id, other.port_mappings) for other in self._cache.list_of_all_owners())
            check_free(attachment.port_mappings, others)
            self._cache.store(attachment)

    # ---- plugins --------------------------------------------------------------------------------------

    def _chain(self, attachment: Attachment) -> Json:
        previous: Json | None = None
        for plugin in attachment.config.plugins:
            if previous is not None and is_idle(plugin, attachment.capabilities):
                continue
            with self._alone(plugin):
                done = self._run("ADD", attachment, plugin, previous)
            answer = _json(done.stdout)
            if answer is None:
                raise CommandError(
                    f"CNI plugin '{plugin['type']}' of network '{attachment.config.name}' "
                    "succeeded without a result",
                    argv=done.argv,
                    rc=done.rc,
                    stdout=done.stdout,
                    stderr=done.stderr,
                )
            previous = answer
        return previous or {}

    @contextlib.contextmanager
    def _alone(self, plugin: Json) -> t.Iterator[None]:
        """Let plugins that make chains for all containers do so one at a time.

        They look whether a chain is there and make it if not: two at once, on a host that has
        none yet, and one of them fails.  Raises CommandTimeout when others take too long.
        """
        kind = str(plugin["type"])
        with contextlib.ExitStack() as stack:
            if kind in _CHAIN_MAKERS:
                lock = locked(f"{self._lock}-chains", what="packet filter chains", timeout_s=self._timeout_s)
                try:
                    stack.enter_context(lock)
                except Conflict as exc:
                    raise CommandTimeout(
                        f"CNI plugin '{kind}' had to wait for others of its kind for {self._timeout_s:g} s, "
                        "and was not run",
                        argv=[kind],
                        hint="Look at what they wait for: a lock of the packet filter, or many pods at once",
                    ) from exc
            yield

    def _run(self, verb: str, attachment: Attachment, plugin: Json, previous: Json | None) -> Completed:
        kind = str(plugin["type"])
        what = f"CNI plugin '{kind}' of network '{attachment.config.name}'"
        program = self._find(kind, what)
        request = plugin_request(attachment.config, plugin, attachment.capabilities, previous)
        # After a restart of the host the namespace is gone, and of one that was being made when its maker was
        # killed there may be the file alone, which plugins refuse: a DEL is then to do what it can without.
        netns = attachment.netns if verb != "DEL" or is_pinned(attachment.netns) else ""
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": attachment.cni_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": attachment.interface,
            "CNI_PATH": ":".join(self._plugin_dirs),
        }
        if attachment.args:
            env["CNI_ARGS"] = ";".join(f"{key}={value}" for key, value in attachment.args.items())
        try:
            done = self._runner.run(
                [program], stdin=json.dumps(request).encode(), env=env, timeout_s=self._timeout_s, check=False
            )
        except CommandTimeout as exc:
            raise CommandTimeout(
                f"{what} did not finish {verb} within {self._timeout_s:g} s and was killed",
                argv=exc.argv,
                stdout=exc.stdout,
                stderr=exc.stderr,
                hint="Look at what it waits for: an address server, or a lock of another plugin",
            ) from exc
        if done.rc != 0:
            raise _failure(what, verb, done)
        return done

    def _find(self, kind: str, what: str) -> str:
        for directory in self._plugin_dirs:
            program = os.path.join(directory, kind)
            if os.access(program, os.X_OK) and os.path.isfile(program):
                return program
        raise MissingDependency(
            f"{what} is not in {' or '.join(self._plugin_dirs)}",
            hint="Install the Debian package 'containernetworking-plugins', or the plugin",
        )


def _end_plugins(cni_id: str) -> None:
    """Kill plugins, and what they started, of an ADD that was cut short with us.

    They would go on, and take an address after it was given back.
    """
    for _round in range(_KILL_ROUNDS):
        for stat in procfs.with_environment(f"CNI_CONTAINERID={cni_id}", "CNI_COMMAND=ADD"):
            with procfs.held(stat.pid, stat.start_time) as pidfd:
                if pidfd is not None:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    procfs.await_end(pidfd, _KILL_WAIT_S)


def parse_result(raw: Json) -> CniResult:
    """Read a result of any version since 0.3.0 (section 5, "Result types")."""
    ips = [entry for entry in raw.get("ips") or () if entry.get("address")]
    inside = [entry for entry in raw.get("interfaces") or () if entry.get("sandbox")]
    return CniResult(
        tuple(str(entry["address"]).partition("/")[0] for entry in ips),
        tuple(str(entry["gateway"]) for entry in ips if entry.get("gateway")),
        next((str(entry["mac"]) for entry in inside if entry.get("mac")), None),
        dict(raw.get("dns") or {}),
        raw,
    )


def _failure(what: str, verb: str, done: Completed) -> CoreError:
    """Return the error that a plugin's error code stands for (section 5, "Error")."""
    answer = _json(done.stdout) or {}
    message = str(answer.get("msg") or "") or done.stderr.strip() or done.stdout.strip() or "no message"
    details = str(answer.get("details") or "")
    text = f"{what} failed in {verb}: {message}" + (f" ({details})" if details else "")
    code = answer.get("code")
    if code in {_INCOMPATIBLE_VERSION, _UNSUPPORTED_FIELD}:
        return Unsupported(text, hint="Change the network configuration, or update the plugin")
    if code == _INVALID_CONFIG:
        return InvalidSpec("network", text, hint="Correct the network configuration")
    if code == _UNKNOWN_CONTAINER:
        return NotFound(text)
    hint = "Try again later" if code == _TRY_AGAIN else None
    return CommandError(text, argv=done.argv, rc=done.rc, stdout=done.stdout, stderr=done.stderr, hint=hint)


def _json(text: str) -> Json | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _check_capabilities(config: NetworkConfig, capabilities: t.Mapping[str, t.Any]) -> None:
    """Refuse what no plugin of the network would see: it would be asked for and not done."""
    declared = {
        key
        for plugin in config.plugins
        for key, wanted in (plugin.get("capabilities") or {}).items()
        if wanted
    }
    for key in capabilities:
        if key not in declared:
            raise Unsupported(
                f"network '{config.name}' has no plugin with the capability '{key}'",
                hint="Add the plugin to the network's configuration (for portMappings: portmap)",
            )
