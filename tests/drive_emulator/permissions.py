"""Who may see a file."""

from __future__ import annotations

import hmac

from tests.drive_emulator.selecting import selected
from tests.drive_emulator.state import DriveError
from tests.drive_emulator.uploads import Uploads


class Permissions(Uploads):
    """permissions.create, list and delete."""

    def _share(self, file_id: str) -> None:
        record, told = dict(self._file(file_id)), self._json()
        kind, role = told.get("type"), told.get("role")
        if kind not in {"anyone", "domain", "user", "group"}:
            raise DriveError(400, "invalid", "The permission type field is required.", location="permission.type")
        if role not in {"reader", "commenter", "writer", "owner", "organizer", "fileOrganizer"}:
            raise DriveError(400, "invalid", "The permission role field is required.", location="permission.role")
        if (kind == "domain" and not told.get("domain")) or (
            kind in {"user", "group"} and not told.get("emailAddress")
        ):
            raise DriveError(400, "invalid", f"A permission of type {kind} names its {kind}.", location="permission")
        if kind in self.state.configuration["forbidden_audiences"]:
            message = "The organisation's policy does not allow sharing this item outside of it."
            raise DriveError(403, "publishOutNotPermitted", message)
        whom = told.get("domain") or told.get("emailAddress")
        permission = {
            "kind": "drive#permission",
            "id": "anyoneWithLink" if kind == "anyone" else str(abs(hash_of(f"{kind}/{whom}"))),
            "type": kind,
            "role": role,
            "allowFileDiscovery": bool(told.get("allowFileDiscovery", False)),
        } | {key: told[key] for key in ("domain", "emailAddress") if key in told}
        others = [one for one in record["permissions"] if one["id"] != permission["id"]]
        self.state.save(record | {"permissions": [*others, permission]})
        self._reply(200, selected(permission, self._fields() or "kind,id,type,role"))

    def _permissions(self, file_id: str) -> None:
        found = self._file(file_id)["permissions"]
        told = {"kind": "drive#permissionList", "permissions": found}
        self._reply(200, selected(told, self._fields() or "kind,nextPageToken,permissions(kind,id,type,role)"))

    def _unshare(self, file_id: str, permission_id: str) -> None:
        record = dict(self._file(file_id))
        kept = [one for one in record["permissions"] if one["id"] != permission_id]
        if len(kept) == len(record["permissions"]):
            raise DriveError(404, "notFound", f"Permission not found: {permission_id}.", location="permissionId")
        self.state.save(record | {"permissions": kept})
        self._reply(204)


def hash_of(text: str) -> int:
    """The same at every start."""
    return int.from_bytes(hmac.new(b"permission", text.encode(), "sha256").digest()[:8])
