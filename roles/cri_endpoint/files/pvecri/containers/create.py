# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create a container: check, select, prepare, write the bundle, let its runtime create it.

The record stands before anything else does and the last step marks it CREATED, so that
recovery knows everything between for a create that was cut short.

Nothing of a bundle is synced to disk: a power cut ends every container anyway, and a
bundle that it damaged can be removed as well as a whole one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
import typing as t

from google.protobuf.message import Message

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Selection
from pvecri.api import cri_pb2
from pvecri.checkpoints.restoring import Checkpoint, Origin, Restorer, refuse_guest
from pvecri.containers import apparmor, fields, selection, surroundings, teardown
from pvecri.containers.notes import Notes
from pvecri.containers.relabel import relabel
from pvecri.containers.request import Request
from pvecri.containers.spec import cdi
from pvecri.containers.spec.build import container_spec
from pvecri.context import Context
from pvecri.images.names import public_id, public_names
from pvecri.images.service import ImageService
from pvecri.pve import native_image
from pvecri.runtimes.protocol import Creation, Wish
from pvecri.stages import Stages
from pvecri.state import spare
from pvecri.state.records import RESTORED, ContainerRecord, Phase


class Creator:
    """Makes containers; knows which ones are being made by this process."""

    def __init__(self, context: Context, images: ImageService, notes: Notes) -> None:
        self._context = context
        self._restorer = Restorer(context, images)
        self._images = images
        self._notes = notes
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._devices = cdi.Catalogue(context.config.runtime.cdi_dirs)

    def create(self, sandbox_id: str, config: cri_pb2.ContainerConfig, origin: Origin | None = None) -> str:
        """Return the id of a new container, or of the one that was made of the same request before.

        With an ``origin`` it is restored from there, as with an image that is a checkpoint.

        Raises InvalidSpec, NotFound, Conflict (the name is another's), WrongState
        (the sandbox is not ready), Unsupported and CommandError; nothing is left behind then.
        """
        stages = Stages()
        self._context.runtimes.anticipate()
        request = Request.checked(self._context.registry.sandbox(sandbox_id), config)
        stages.done("validate")
        with self._making(request.name), fields.named(lambda field: fields.request_field(field, config)):
            return self._create(request, stages, origin)

    @contextlib.contextmanager
    def _making(self, name: str) -> t.Iterator[None]:
        """Keep a second request of this name out: it would take the first one's half for a left-over."""
        with self._lock:
            if name in self._names:
                raise Conflict(f"a container named {name} is being made", hint="Try again")
            self._names.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._names.discard(name)

    def _create(self, request: Request, stages: Stages, origin: Origin | None) -> str:
        context, sandbox = self._context, request.sandbox
        holder = context.registry.container_named(request.name)
        if holder is not None and holder.config == request.encoded:
            if holder.phase is not Phase.CREATING:
                return holder.id
            # A create that was cut short.  Recovery may be undoing it: then this waits, and finds nothing.
            with context.registry.held(holder.id):
                teardown.undo(context, holder.id)
                context.registry.remove_container(holder.id)
        checkpoint = self._restorer.find(request, origin)
        if checkpoint is not None:
            request = checkpoint.request(request)
        config = request.config
        image = self._images.resolve(config.image.image, field="config.image.image")
        chosen = selection.select(context.policy, config, request.pod, sandbox.handler, image)
        if checkpoint is not None:
            refuse_guest(chosen)
        native_image.refuse_elsewhere(image, chosen)
        wish = Wish(request=request, image=image, selection=chosen)
        context.runtimes.check(wish)
        stages.done("select")
        record = self._record(request, image, chosen, checkpoint)
        # Whoever removes the pod meanwhile finds the record, and waits until it is whole or gone.
        with context.registry.held(record.id):
            reserved = context.registry.reserve_container(record)
            if reserved.id != record.id:
                return reserved.id
            try:
                stages.done("reserve")
                selection.refuse_second(context.registry.containers_of(sandbox.id), record)
                self._make(wish, record, stages, checkpoint=checkpoint)
            except BaseException:
                self._undo(record.id)
                raise
        context.log.info(
            "container created",
            extra={
                "container": record.id,
                "container_name": config.metadata.name,
                "sandbox": sandbox.id,
                "image": config.image.image,
                "runtime": chosen.runtime.value,
                "rule": chosen.rule or "",
                "reason": chosen.reason,
            },
        )
        context.log.debug("container made", extra={"container": record.id, **stages.times})
        return record.id

    def _record(
        self, request: Request, image: Image, chosen: Selection, checkpoint: Checkpoint | None
    ) -> ContainerRecord:
        names = public_names(image)
        extra: dict[str, t.Any] = {"image_name": names[0]} if names else {}
        if checkpoint is not None:
            extra[RESTORED] = checkpoint.noted()
        linux = request.config.linux
        return ContainerRecord(
            id=os.urandom(32).hex(),
            name=request.name,
            sandbox_id=request.sandbox.id,
            config=request.encoded,
            image_id=public_id(image),
            image_ref=self._images.shown_reference(image),
            created_at_ns=time.time_ns(),
            selection=chosen.as_dict(),
            resources=_bytes(linux.resources) if linux.HasField("resources") else b"",
            mounts=tuple(_bytes(mount) for mount in request.config.mounts),
            extra=extra,
        )

    def _make(
        self,
        wish: Wish,
        record: ContainerRecord,
        stages: Stages,
        *,
        checkpoint: Checkpoint | None,
    ) -> None:
        context, request, image = self._context, wish.request, wish.image
        config = request.config
        log_path = surroundings.find_log(config, request.pod)
        around = surroundings.look(context, record.id, request, image, self._images.resolve)
        notes: list[str] = []
        spec = container_spec(config, around, notes)
        if devices := cdi.wanted_devices(config):
            spec = self._devices.edits(devices).applied(spec)
        stages.done("describe")
        if context.host.has_apparmor and spec.security.apparmor not in {None, "unconfined"}:
            apparmor.check_loaded(spec.security.apparmor)
        if spec.security.selinux_mount_label:
            relabel(config.mounts, spec.security.selinux_mount_label)
        known: dict[str, t.Any] = {"log_path": log_path, "stop_signal": spec.stop_signal}
        bundle = context.bundles.create(
            spec,
            native_image.source_of(image, config.image.image),
            # What the record is rebuilt from, should the database be lost.
            extra=spare.container_extra(dataclasses.replace(record, **known)),
        )
        stages.done("bundle")
        self._notes.tell(record.id, [*notes, *bundle.warnings])
        if checkpoint is not None:
            # Its start restores it: before that there is no process.
            self._restorer.prepare(checkpoint, bundle, record)
        else:
            context.runtimes.create(
                Creation(wish=wish, record=record, spec=spec, bundle=bundle, log_path=log_path, stages=stages)
            )
        stages.done("create")
        context.registry.update_container(record.id, phase=Phase.CREATED, **known, **_user(bundle))
        stages.done("record")
        self._refuse_late(request.sandbox.id)

    def _refuse_late(self, sandbox_id: str) -> None:
        """Raise WrongState when the pod was stopped meanwhile: nobody would end the container then."""
        sandbox = self._context.registry.sandbox(sandbox_id)
        if sandbox.phase is not Phase.READY or self._context.registry.flags(sandbox_id):
            raise WrongState(f"sandbox {sandbox_id} was stopped while the container was being made")

    def _undo(self, container_id: str) -> None:
        """Take away what was made; what resists stays on record for recovery to try again."""
        try:
            teardown.undo(self._context, container_id)
            self._context.registry.remove_container(container_id)
        except Exception as exc:  # the client is to hear of the first failure, whatever this one is
            self._context.log.error(
                "a container that could not be made could not be taken away, either",
                exc_info=None if isinstance(exc, CoreError) else exc,
                extra={"container": container_id, "error": str(exc)},
            )


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _user(bundle: Bundle) -> dict[str, t.Any]:
    user = bundle.config["process"]["user"]
    return {"uid": user["uid"], "gid": user["gid"], "groups": tuple(user.get("additionalGids", ()))}
