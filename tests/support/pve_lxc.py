# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make fakepve do what a Proxmox VE 9.2 does with containers, where the two differ.

- High availability keeps its resources (fakepve answers and stores nothing).
- ``move_volume`` moves (fakepve answers with a task that does nothing).
- A container made from a ``.tar`` gets the image's env, entrypoint and raw keys,
  ``host-managed=1`` on every interface and ostype ``unmanaged``, whatever was asked
  for; a privileged one fails in its task.
- Notes come back with a line break, and env without blanks at its end.
- The list of downloadable templates holds `APPLIANCES`, and downloading puts one onto the storage.
- ``env`` is hidden from users without VM.Config.Options.
- ``/cluster/resources`` may lag: names are those of the last call of ``sync``.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

Values = dict[str, t.Any]

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
IMAGE = "local:vztmpl/app.tar"
APPLIANCES = (
    "alpine-3.22-default_20250617_amd64.tar.xz",
    "debian-13-standard_13.1-2_amd64.tar.zst",
    "debian-13-standard_13.1-10_amd64.tar.zst",
    "debian-13-standard_13.2-1_arm64.tar.zst",
)


@dataclasses.dataclass
class LxcDouble:
    """The state of the routes and the faults that tests switch on."""

    pve: t.Any
    #: Resources of high availability by id.
    ha: dict[int, Values] = dataclasses.field(default_factory=dict)
    #: Env, entrypoint and raw lines of images, by volume id.
    images: dict[str, Values] = dataclasses.field(default_factory=dict)
    #: Names in /cluster/resources, None as long as it does not lag.
    names: dict[int, str] | None = None
    #: Called with (node, vmid) before a create request is carried out.
    before_create: t.Callable[[str, int], None] | None = None
    #: Exit status for the next tasks of a kind (``vzstart``) instead of OK.
    exitstatus: dict[str, str] = dataclasses.field(default_factory=dict)

    # ---- high availability

    def routes(self) -> list[tuple[str, str, t.Any]]:
        """Return the routes as fakepve registers them."""
        one = "/cluster/ha/resources/{sid}"
        return [
            ("POST", "/cluster/ha/resources", self._ha_add),
            ("GET", one, self._ha_get),
            ("PUT", one, self._ha_put),
            ("DELETE", one, self._ha_delete),
            ("POST", "/nodes/{node}/lxc/{vmid}/move_volume", self._move),
            ("GET", "/nodes/{node}/aplinfo", self._appliances),
            ("POST", "/nodes/{node}/aplinfo", self._download),
        ]

    async def _appliances(self, values: Values, user: str) -> list[Values]:
        return [{"template": name, "type": "lxc"} for name in APPLIANCES]

    async def _download(self, values: Values, user: str) -> str:
        async def body() -> None:
            self.pve.store_file(values["storage"], values["template"], 1024, "vztmpl")

        return str(await self.pve.task(values["node"], "download", values["storage"], user, body))

    def _vmid(self, values: Values) -> int:
        return int(str(values["sid"]).partition(":")[2] or values["sid"])

    def _resource(self, values: Values) -> Values:
        from fakepve import PveError

        found = self.ha.get(self._vmid(values))
        if found is None:
            raise PveError(500, f"no such resource '{values['sid']}'")
        return found

    async def _ha_add(self, values: Values, user: str) -> None:
        vmid = self._vmid(values)
        self.ha[vmid] = {k: v for k, v in values.items() if k != "sid"}
        self.pve.ct(vmid).ha_state = values.get("state", "started")

    async def _ha_get(self, values: Values, user: str) -> Values:
        return {"sid": values["sid"], "type": "ct", **self._resource(values)}

    async def _ha_put(self, values: Values, user: str) -> None:
        self._resource(values).update({k: v for k, v in values.items() if k != "sid"})

    async def _ha_delete(self, values: Values, user: str) -> None:
        self._resource(values)
        del self.ha[self._vmid(values)]
        self.pve.ct(self._vmid(values)).ha_state = None

    # ---- volumes

    async def _move(self, values: Values, user: str) -> t.Any:
        from fakepve import PveError, TaskError
        from fakepve.lxc import parse_mount, print_mount

        ct = self.pve.ct(int(values["vmid"]))
        disk, storage = values["volume"], values["storage"]
        if storage not in self.pve.storages:
            raise PveError(500, f"storage '{storage}' does not exist")

        async def body() -> None:
            if ct.status == "running":
                raise TaskError("cannot move volumes of a running container")
            mount = parse_mount(ct.config[disk])
            mount["volume"] = self.pve._allocate(ct.vmid, storage, self.pve._taken_volumes())
            ct.config[disk] = print_mount(mount, disk == "rootfs")

        return await self.pve.task(ct.node, "move_volume", ct.vmid, user, body, vm=ct)

    # ---- creation

    def wrap(self) -> None:
        """Put ourselves between the routes and fakepve's own handlers."""
        pve = self.pve
        create, put, get = pve._lxc_create, pve._update_config, pve._lxc_config_get
        listed, task = pve.ct_resources, pve.task

        async def lxc_create(user: str, values: Values) -> t.Any:
            if self.before_create is not None:
                self.before_create(values["node"], int(values["vmid"]))
            image = self.images.get(values["ostemplate"])
            if image is not None:
                values = {k: v for k, v in values.items() if k not in ("env", "entrypoint", "cmode")}
                if values.get("unprivileged") == 0:
                    return await self._fail("vzcreate", values, user, "setgid(0): Invalid argument")
            answer = await create(user, values)
            ct = pve.ct(int(values["vmid"]))
            if image is not None and ct is not None:
                self._apply_image(ct, image)
            if ct is not None:
                self._settle(ct)
            return answer

        async def update_config(ct: t.Any, *args: t.Any) -> None:
            await put(ct, *args)
            self._settle(ct)

        async def config_get(user: str, values: Values) -> Values:
            config = dict(await get(user, values))
            if not pve.allowed(user, f"/vms/{values['vmid']}", "VM.Config.Options"):
                config.pop("env", None)
            return config

        def resources(user: str, kind: str | None = None) -> list[Values]:
            found: list[Values] = listed(user, kind)
            for entry in found if self.names is not None else ():
                name = self.names.get(entry["vmid"]) if self.names is not None else None
                if name is None:
                    entry.pop("name", None)
                    entry["status"] = "unknown"
                else:
                    entry["name"] = name
            return found

        async def run_task(node: str, kind: str, ident: t.Any, user: str, body: t.Any, **more: t.Any) -> str:
            from fakepve import TaskError

            async def spoilt() -> t.Any:
                note = await body()
                if kind in self.exitstatus:
                    raise TaskError(self.exitstatus[kind])
                return note

            return str(await task(node, kind, ident, user, spoilt, **more))

        pve._lxc_create, pve._update_config, pve._lxc_config_get = lxc_create, update_config, config_get
        pve.ct_resources, pve.task = resources, run_task

    async def _fail(self, kind: str, values: Values, user: str, text: str) -> t.Any:
        from fakepve import TaskError

        async def body() -> None:
            raise TaskError(text)

        return await self.pve.task(values["node"], kind, values["vmid"], user, body)

    def _apply_image(self, ct: t.Any, image: Values) -> None:
        ct.config.update({k: v for k, v in image.items() if v})
        ct.config["ostype"] = "unmanaged"
        for key in [k for k in ct.config if re.fullmatch(r"net\d+", k)]:
            ct.config[key] += ",host-managed=1"

    @staticmethod
    def _settle(ct: t.Any) -> None:
        for config in (ct.config, ct.pending):
            if config.get("description") and not config["description"].endswith("\n"):
                config["description"] += "\n"
            if config.get("env"):
                config["env"] = config["env"].rstrip()

    def sync(self) -> None:
        """Do what pvestatd does every ten seconds: tell the cluster the names."""
        self.names = {ct.vmid: ct.name for ct in self.pve.cts}


#: The options of a container that many tests use.
WEB: Values = {
    "hostname": "web-1",
    "ostemplate": TEMPLATE,
    "rootfs": "local-lvm:8",
    "memory": 1024,
    "cores": 2,
    "networks": {"net0": {"name": "eth0", "bridge": "vmbr0", "ip": "dhcp"}},
    "features": {"nesting": True},
    "description": "The shop",
    "tags": ["shop"],
}

CONFIG = "/nodes/{node}/lxc/{vmid}/config"


def ct(cluster: t.Any) -> t.Any:
    """Return the fake's container web-1, or None."""
    return next((ct for ct in cluster.pve.cts if ct.name == "web-1"), None)


def writes(cluster: t.Any) -> list[tuple[str, str]]:
    """Return method and path below /nodes/NODE/lxc of every request that could change something."""
    return [
        (method, re.sub(r"^/nodes/\w+/lxc", "", path))
        for method, path in cluster.requests_seen()
        if method != "GET" and path != "/access/ticket"
    ]


def rewire(cluster: t.Any, method: str, template: str, handler: t.Any) -> None:
    """Put a handler in the place of one of fakepve's, which is listening already."""
    pve = cluster.pve
    fn = pve._lxc_handler(handler) if "/lxc" in template else pve._stateful_handler(template, handler)
    routes = [
        route
        for resource in pve.runner.app.router.resources()
        if re.sub(r":[^{}]+}", "}", resource.canonical) == f"/api2/json{template}"
        for route in resource
        if route.method == method
    ]
    assert len(routes) == 1, template
    routes[0]._handler = fn


def install(pve: t.Any) -> LxcDouble:
    """Add all this to a fake that does not listen yet, with a template and an image on ``local``."""
    double = LxcDouble(pve)
    pve._routes_lxc_double = double.routes
    double.wrap()
    for volid in (TEMPLATE, IMAGE):
        pve.store_file("local", volid.partition("/")[2], 1024, "vztmpl")
    double.images[IMAGE] = {
        "env": "PATH=/bin\0MODE=image",
        "entrypoint": "/app",
        "lxc": [["lxc.init.uid", "1000"]],
    }
    return double
