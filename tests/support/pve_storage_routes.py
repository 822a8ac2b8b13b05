# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a real directory behind the template storage of a fake Proxmox VE, and templates on its list."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import typing as t

Values = dict[str, t.Any]

_STORAGE = "local"
_PREFIX = "vztmpl/"


@dataclasses.dataclass
class StorageRoutes:
    """The routes' state; tests add to it."""

    pve: t.Any
    cache: pathlib.Path
    #: What Proxmox's list of templates offers, by file name.
    appliances: dict[str, bytes] = dataclasses.field(default_factory=dict)
    #: Answers still to be lost, by method and end of the path.
    lost: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    def routes(self) -> list[tuple[str, str, t.Any]]:
        """Return the routes as fakepve registers them."""
        path = "/nodes/{node}/aplinfo"
        return [("GET", path, self._appliances), ("POST", path, self._download)]

    def wrap(self) -> None:
        """Put ourselves between the routes and fakepve's own handlers."""
        pve = self.pve
        self._listed, self._task, self._answered = pve._volumes, pve.task, pve._answer
        pve._volumes, pve.task, pve._answer = self._volumes, self._with_files, self._answer

    def _volumes(self, name: str) -> Values:
        if name == _STORAGE:
            volumes = self.pve.storages[name].setdefault("volumes", {})
            there = {f"{_PREFIX}{path.name}": path for path in self.cache.iterdir() if path.name[0] != "."}
            for volume in [key for key in volumes if key.startswith(_PREFIX) and key not in there]:
                del volumes[volume]
            for volume, path in there.items():
                info = path.stat()
                more = {"size": info.st_size, "ctime": int(info.st_mtime), "format": path.suffix[1:]}
                volumes[volume] = {"content": "vztmpl", **more}
        return t.cast("Values", self._listed(name))

    async def _with_files(
        self, node: str, kind: str, ident: t.Any, user: str, body: t.Any, **more: t.Any
    ) -> str:
        async def wrapped() -> t.Any:
            before = set(self.pve.storages[_STORAGE].get("volumes", {}))
            note = await body()
            if kind == "imgcopy":
                fields = self.pve.uploaded
                (self.cache / fields["filename"]).write_bytes(fields["data"])
            if kind == "imgdel":
                for volume in before - set(self.pve.storages[_STORAGE].get("volumes", {})):
                    (self.cache / volume.removeprefix(_PREFIX)).unlink(missing_ok=True)
            return note

        return str(await self._task(node, kind, ident, user, wrapped, **more))

    async def _appliances(self, _values: Values, _user: str) -> list[Values]:
        return [
            {
                "template": name,
                "type": "lxc",
                "section": "system",
                "package": name.partition("_")[0],
                "version": name.split("_")[1],
                "sha512sum": hashlib.sha512(content).hexdigest(),
                "location": f"http://download.proxmox.com/images/system/{name}",
            }
            for name, content in self.appliances.items()
        ]

    async def _download(self, values: Values, user: str) -> str:
        from fakepve import PveError

        if values["template"] not in self.appliances:
            raise PveError(400, "Parameter verification failed.", {"template": "no such template"})

        async def body() -> None:
            (self.cache / values["template"]).write_bytes(self.appliances[values["template"]])

        return str(await self.pve.task(values["node"], "download", values["storage"], user, body))

    async def _answer(self, request: t.Any, *more: t.Any) -> t.Any:
        answer = await self._answered(request, *more)
        for key, times in list(self.lost.items()):
            if request.method == key[0] and request.path.endswith(key[1]):
                self.lost[key] = times - 1
                if times <= 1:
                    del self.lost[key]
                request.transport.close()
                raise ConnectionResetError("the answer is lost on purpose")
        return answer


def install(pve: t.Any, directory: str) -> StorageRoutes:
    """Make ``directory`` the storage ``local`` of a fake that does not listen yet."""
    cache = pathlib.Path(directory, "template", "cache")
    os.makedirs(cache)
    pve.storages[_STORAGE]["path"] = directory
    pve.storages[_STORAGE].pop("avail", None)
    routes = StorageRoutes(pve, cache)
    routes.wrap()
    pve._routes_real_storage = routes.routes
    return routes
