# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create a pod's container as an LXC container of Proxmox VE.

    template ─ claim a vmid ─ POST create ┬ the task of Proxmox VE             ┬ read back ─ include ─ READY
                                          └ conmon, holder, include file, /sys ┘

The record says what is about to be done before it is done, so that whoever comes after a kill finds
the container by its vmid, and knows by its tags and notes whether it is ours.  What fails is undone
by the caller, who removes the container as one that is whole.
"""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CoreError,
    InvalidSpec,
    LoginFailed,
    MissingPrivilege,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import ID_OFFSET, LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import guests, lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.tasks import Upid
from pvecri.pve import failures, identity, params, vmids, waiting
from pvecri.pve.identity import Identity
from pvecri.pve.node import PveNode
from pvecri.runtimes.protocol import Creation

#: Type of the task that makes a container.
_CREATE_TASK = "vzcreate"


class Templates(t.Protocol):
    """What turns an image into a template."""

    def place(self, image: Image) -> str:
        """Return the volume id of the image's template, which is there then."""


class Driver(t.Protocol):
    """What is made of a container on this host before Proxmox VE starts it."""

    def prepare(self, record: LxcRecord, config: t.Mapping[str, t.Any], facts: t.Any) -> None:
        """Make conmon, the holder and what they and LXC need: files, mounts, a /sys of the pod."""


class Maker:
    """Makes containers; one for all threads."""

    def __init__(
        self, node: PveNode, driver: Driver, templates: Templates, paths: Paths, *, uses_v2: bool
    ) -> None:
        self._node = node
        self._driver = driver
        self._templates = templates
        self._paths = paths
        self._uses_v2 = uses_v2
        #: Numbers that are in use by us.
        self.vmids = vmids.Vmids(node.vmid_range, (each.vmid for each in records.everyone(paths)))

    def create(
        self, creation: Creation, config: t.Mapping[str, t.Any], facts: t.Callable[[LxcRecord], t.Any]
    ) -> None:
        """Create the container of a bundle with this ``config.json``; ``facts`` says how it meets its pod.

        Raises what `failures` makes of Proxmox VE's refusals, and what preparing raises.
        """
        stages, node = creation.stages, self._node
        what = f"container {creation.record.id} cannot be created"
        layouts.prepare(self._paths)
        template = self._templates.place(creation.wish.image)
        stages.done("template")
        with failures.named(node, what):
            space = failures.Space(node.storage, self._rootfs_bytes(creation))
        with failures.named(node, what, space=space):
            record, upid = self._request(creation, config, template)
        stages.done("request")
        with concurrent.futures.ThreadPoolExecutor(1, "pve-create") as helper:
            # The pool waits for the task even when the rest fails: nothing can be undone while it works.
            task = helper.submit(self._await_task, creation, record, upid, what, space)
            self._driver.prepare(record, config, facts(record))
            stages.done("prepare")
            task.result()
        stages.done("task_beyond")
        self._include(record, what)
        stages.done("include")

    # ---- the request --------------------------------------------------------------------------------------

    def _request(
        self, creation: Creation, config: t.Mapping[str, t.Any], template: str
    ) -> tuple[LxcRecord, str]:
        """Ask Proxmox VE for the container under the first number that it gives; return record and task.

        The task is empty when the container turns out to be there already.
        """
        node = self._node
        for vmid in self.vmids.claims(node.client, creation.record.id):
            try:
                record = self._record(creation, vmid, template)
                asked = self._params(creation, record, config)
                # The journal: from here on there may be a container of that number.
                records.save(LxcLayout(self._paths, record.name), record)
            except BaseException:
                self.vmids.release(vmid)
                raise
            # When this fails the number stays claimed as long as the record has it.
            upid = self._post(record, asked)
            if upid is not None:
                return self._amend(record, upids={"create": upid} if upid else {}), upid
            self.vmids.release(vmid)
        raise AssertionError("claims end by raising")

    def _rootfs_bytes(self, creation: Creation) -> int:
        request = creation.wish.request
        image_bytes = creation.wish.image.size_bytes
        return params.size_of_rootfs(request.config, request.pod, image_bytes, self._node.config)

    def _record(self, creation: Creation, vmid: int, template: str) -> LxcRecord:
        node, config = self._node, creation.wish.request.config
        unprivileged = not config.linux.security_context.privileged
        return LxcRecord(
            name=creation.record.id,
            vmid=vmid,
            node=node.name,
            sandbox_id=creation.record.sandbox_id,
            bundle=creation.bundle.path,
            log_path=creation.log_path,
            boot_id=procfs.boot_id(),
            created_at=time.time(),
            lxc_path=node.lxc_path,
            stage=Stage.CREATING,
            terminal=config.tty,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
            unprivileged=unprivileged,
            id_offset=ID_OFFSET if unprivileged else 0,
            endpoint=node.endpoint_id,
            template=template,
            storage=node.storage,
        )

    def _params(
        self, creation: Creation, record: LxcRecord, config: t.Mapping[str, t.Any]
    ) -> dict[str, t.Any]:
        request = creation.wish.request
        return params.create_params(
            record.vmid,
            Identity(
                endpoint=record.endpoint,
                container=record.name,
                sandbox=record.sandbox_id,
                vmid=record.vmid,
            ),
            request.config,
            request.pod,
            oci_resources=(config.get("linux") or {}).get("resources") or {},
            rootfs_bytes=self._rootfs_bytes(creation),
            template=record.template,
            storage=record.storage,
            settings=self._node.config,
            uses_v2=self._uses_v2,
        )

    def _post(self, record: LxcRecord, asked: t.Mapping[str, t.Any]) -> str | None:
        """Send the request; return its task, "" for one that is done, None when the number is another's."""
        try:
            return str(self._node.client.post(("nodes", self._node.name, "lxc"), **asked))
        except (InvalidSpec, MissingPrivilege, LoginFailed):
            self._amend(record, stage=Stage.CLAIMED)
            raise
        except ApiError as exc:
            if exc.maybe_done:
                # Its answer was lost: what there is now tells.
                if vmids.is_free(self._node.client, record.vmid):
                    raise
                return self._found(record)
            if exc.is_unreachable or vmids.is_free(self._node.client, record.vmid):
                # Nothing was made: to take it back, Proxmox VE need not be asked.
                self._amend(record, stage=Stage.CLAIMED)
                raise
            return None

    def _found(self, record: LxcRecord) -> str | None:
        """Return the task of a request whose answer was lost, "" when it has ended, None if there was none.

        Whoever else uses our login does not use our numbers, which are claimed.
        """
        client = self._node.client
        login = f"{client.connection.user}!{client.connection.token_id}"
        guest = Guest(vmid=record.vmid, node=self._node.name)
        for upid in guests.running_tasks(client, guest):
            task = Upid.parse(upid)
            if task.type == _CREATE_TASK and task.user == login:
                return upid
        config = self._node.container(record.vmid).read().config
        return "" if identity.is_ours(config, record) else None

    # ---- beside the task, and after it --------------------------------------------------------------------

    def _await_task(
        self, creation: Creation, record: LxcRecord, upid: str, what: str, space: failures.Space
    ) -> None:
        node = self._node
        with creation.stages.timed("pve_task"), failures.named(node, what, space=space):
            if not upid:
                return
            done = waiting.wait_task(node, upid, node.config.task_timeout_s)
        for warning in done.warnings:
            node.log.warning(
                "Proxmox VE warns", extra={"container": record.name, "vmid": record.vmid, "warning": warning}
            )

    def _include(self, record: LxcRecord, what: str) -> None:
        """Let the configuration take in our file, once it is certain that the container is ours."""
        node = self._node
        with failures.named(node, what, vmid=record.vmid):
            self._check(record)
            self._amend(record, stage=Stage.INCLUDED)
            path = layouts.guest(self._paths, record.vmid).config
            lxc_raw.write(
                record.vmid, {lxc_raw.INCLUDE: (path,)}, config_dir=node.raw_dir, lock_dir=node.lock_dir
            )
            digest = node.container(record.vmid).read().digest
        self._amend(record, stage=Stage.READY, config_digest=digest or "")

    def _check(self, record: LxcRecord) -> None:
        """Raise CoreError unless Proxmox VE made what was asked for."""
        made = self._node.container(record.vmid).read()
        if not identity.is_ours(made.config, record):
            raise CoreError(
                f"container {record.vmid} on node '{record.node}' does not have the tags and notes that were "
                "asked for; it is left alone",
                hint="Somebody else works on numbers of pve.vmid_range: give it a range that nobody uses",
            )
        if made.lock:
            raise CoreError(f"container {record.vmid} on node '{record.node}' is locked ({made.lock})")

    def _amend(self, record: LxcRecord, **changes: t.Any) -> LxcRecord:
        return records.amend(LxcLayout(self._paths, record.name), **changes)
