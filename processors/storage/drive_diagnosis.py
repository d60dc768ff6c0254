"""What stands between us and a copy in Drive, looked at step by step, for `spoolhouse drive check`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from processors.ports import Finding
from processors.storage.drive_account import Account
from processors.storage.drive_client import Client
from streams.errors import SpoolhouseError

T = TypeVar("T")

FOLDER = "application/vnd.google-apps.folder"


async def diagnose(drive: Client, audience: str) -> list[Finding]:
    """Credentials, token, folder, rights, quota, sharing with `audience`; ends where the rest is moot."""
    findings: list[Finding] = []
    drive.accounts.reconsider()
    try:
        account = await asyncio.to_thread(drive.accounts.current)
    except SpoolhouseError as error:
        return [_failed("credentials", error)]
    named = f"{account.kind} {account.email}".strip()
    findings.append(Finding("credentials", ok=True, told=f"readable: {named}"))
    told = await _looked(findings, "token", lambda: drive.ask(_about(drive), "account"))
    if told is None:
        return findings
    user = str(told.get("user", {}).get("emailAddress", "")) or named
    findings.append(Finding("token", ok=True, told=f"Google gives tokens, as {user}"))
    folder = await _looked(findings, "folder", lambda: drive.ask(_folder(drive), "folder"))
    if folder is None:
        return findings
    findings += [
        _is_folder(folder),
        _rights(folder, user),
        _quota(told.get("storageQuota", {}), folder, account),
        await _sharing(drive, folder, audience),
    ]
    return findings


def _about(drive: Client) -> Callable[[Any], dict[str, Any]]:
    return lambda http: dict(drive.service.about().get(fields="user(emailAddress),storageQuota").execute(http=http))


def _folder(drive: Client) -> Callable[[Any], dict[str, Any]]:
    fields = "id,name,mimeType,trashed,driveId,capabilities(canAddChildren)"
    files = drive.service.files
    return lambda http: dict(
        files().get(fileId=drive.folder_id, fields=fields, supportsAllDrives=True).execute(http=http)
    )


def _is_folder(folder: dict[str, Any]) -> Finding:
    name = f"{folder.get('name', '?')} ({folder.get('id')})"
    if folder.get("mimeType") != FOLDER:
        advice = "DRIVE_FOLDER_ID must be the id of a folder: the last part of its address in the browser"
        return Finding("folder", ok=False, told=f"{name} is not a folder", advice=advice)
    if folder.get("trashed"):
        return Finding("folder", ok=False, told=f"{name} lies in the trash", advice="restore it, or name another")
    where = "in a shared drive" if folder.get("driveId") else "in My Drive"
    return Finding("folder", ok=True, told=f"{name}, {where}")


def _rights(folder: dict[str, Any], user: str) -> Finding:
    if folder.get("capabilities", {}).get("canAddChildren"):
        return Finding("rights", ok=True, told="files may be put into the folder")
    return Finding(
        "rights",
        ok=False,
        told="files may not be put into the folder",
        advice=f"share the folder with {user} as an editor (in a shared drive: as a contributor or more)",
    )


def _quota(quota: dict[str, Any], folder: dict[str, Any], account: Account) -> Finding:
    if folder.get("driveId"):
        return Finding("quota", ok=True, told="the shared drive's room counts, not that of the account")
    if account.kind == "service account":
        return Finding(
            "quota",
            ok=False,
            told="service accounts have no storage quota of their own, and the folder is not in a shared drive",
            advice="use a folder in a shared drive, or the OAuth token of a user",
        )
    if "limit" not in quota:
        return Finding("quota", ok=True, told="without a limit")
    free = int(quota["limit"]) - int(quota.get("usage", 0))
    told = f"{max(0, free) / 2**30:.2f} GB free of {int(quota['limit']) / 2**30:.2f} GB"
    if free <= 0:
        return Finding("quota", ok=False, told=told, advice="make room in Drive (its trash counts) or buy more")
    return Finding("quota", ok=True, told=told)


async def _sharing(drive: Client, folder: dict[str, Any], audience: str) -> Finding:
    if audience == "nobody":
        return Finding("sharing", ok=True, told="files are shared with nobody beyond the folder's own people")
    whom = "anyone who has the link" if audience == "anyone" else f"everyone at {audience}"
    shared_drive = folder.get("driveId")
    if shared_drive and audience == "anyone":

        def ask(http: Any) -> dict[str, Any]:
            asked = drive.service.drives().get(driveId=shared_drive, fields="id,restrictions(domainUsersOnly)")
            return dict(asked.execute(http=http))

        findings: list[Finding] = []
        told = await _looked(findings, "sharing", lambda: drive.ask(ask, "file"))
        if told is None:
            return findings[0]
        if told.get("restrictions", {}).get("domainUsersOnly"):
            return Finding(
                "sharing",
                ok=False,
                told="the shared drive does not let files be shared outside its organisation",
                advice="set SPOOLHOUSE_DRIVE_SHARE to the domain or to nobody, or allow it in the shared drive's settings",
            )
    return Finding("sharing", ok=True, told=f"files will be readable by {whom}")


async def _looked(findings: list[Finding], subject: Any, look: Callable[[], Awaitable[T]]) -> T | None:
    """What a look gives; None, and a finding, where it failed."""
    try:
        return await look()
    except SpoolhouseError as error:
        findings.append(_failed(subject, error))
        return None


def _failed(subject: Any, error: SpoolhouseError) -> Finding:
    """A failure: its words say what to do, unless nobody answered."""
    unreachable = "is unreachable" in str(error)
    advice = "check the network, and SPOOLHOUSE_DRIVE_ENDPOINT where it is set" if unreachable else ""
    return Finding(subject, ok=False, told=str(error), advice=advice)
