"""What the first bytes of a file say it is. Pure, and never wrong on purpose: in doubt, unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SNIFF = 64 * 1024
"""Bytes from the start of a file that are looked at."""

Verdict = Literal["container", "other", "unknown"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the bytes look like."""

    verdict: Verdict
    """`container`: it bears a video container's signature. `other`: positively something else."""
    name: str
    """`mp4`, `a PNG image` …"""
    mime: str | None = None


UNKNOWN = Kind("unknown", "bytes that bear no signature of a video container")

_MP4 = Kind("container", "mp4", "video/mp4")
_MOV = Kind("container", "mov", "video/quicktime")
_3GP = Kind("container", "3gp", "video/3gpp")
_TS = Kind("container", "mpegts", "video/mp2t")
_MPEG = Kind("container", "mpeg", "video/mpeg")
_MKV = Kind("container", "matroska", "video/x-matroska")
_WEBM = Kind("container", "webm", "video/webm")
_AVI = Kind("container", "avi", "video/x-msvideo")

_CONTAINERS: tuple[tuple[bytes, Kind], ...] = (
    (b"FLV\x01", Kind("container", "flv", "video/x-flv")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind("container", "asf", "video/x-ms-asf")),
    (b"OggS", Kind("container", "ogg", "video/ogg")),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", Kind("container", "mxf", "application/mxf")),
    (b"\x00\x00\x00\x00\x01\xbc", Kind("container", "gxf", "application/gxf")),
    (b"YUV4MPEG2 ", Kind("container", "yuv4mpegpipe", "video/x-yuv4mpeg")),
    (b"DKIF\x00\x00", Kind("container", "ivf", "video/x-ivf")),
    (b"nut/multimedia container\x00", Kind("container", "nut", "video/x-nut")),
    (b".RMF\x00\x00\x00", Kind("container", "rm", "application/vnd.rn-realmedia")),
    (b"\xb7\xd8\x00\x20\x37\x49\xda\x11", Kind("container", "wtv", "video/x-ms-wtv")),
    (b"BIKi", Kind("container", "bink", None)),
    (b"SMK2", Kind("container", "smk", None)),
    (b"\x1f\x07\x00", Kind("container", "dv", "video/x-dv")),
)

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00\x01\x00", "an icon"),
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"{\\rtf", "an RTF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1f\x8b\x08", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"#!", "a script"),
    (b"SQLite format 3\x00", "a database"),
    (b"ID3", "an MP3 sound file"),
    (b"fLaC", "a FLAC sound file"),
    (b"#!AMR", "an AMR sound file"),
    (b"MThd", "a MIDI file"),
    (b"\x00\x01\x00\x00\x00", "a font"),
    (b"OTTO", "a font"),
    (b"wOF2", "a font"),
)

_RIFF_OTHERS = {b"WAVE": "a WAV sound file", b"WEBP": "a WebP image", b"RMID": "a MIDI file", b"ACON": "a cursor"}
_PICTURE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"jp2 ", b"crx "})
_SOUND_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"sidx", b"styp", b"uuid"})
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")


def kind_of(head: bytes, *, whole: bool = False) -> Kind:
    """What a file is that begins with `head` (its first 64 KiB, or less while it still comes in).

    `whole`: `head` is the entire file.
    """
    for magic, container in _CONTAINERS:
        if head.startswith(magic):
            return container
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return Kind("other", name)
    kind: Kind | None = _iso_media(head) or _riff(head) or _matroska(head)
    if kind is None and _is_text(head, whole):
        html = b"<html" in head[:1024].lower() or b"<!doctype html" in head[:1024].lower()
        kind = Kind("other", "an HTML page" if html else "text")
    return kind or _start_codes(head) or _transport_stream(head, whole) or UNKNOWN


def _iso_media(head: bytes) -> Kind | None:
    if len(head) < 8:
        return None
    length, box = int.from_bytes(head[:4], "big"), head[4:8]
    if box == b"ftyp" and length >= 12:
        brand = head[8:12]
        if brand in _PICTURE_BRANDS:
            return Kind("other", "a picture (HEIF or AVIF)")
        if brand in _SOUND_BRANDS:
            return Kind("container", "m4a", "audio/mp4")
        if brand == b"qt  ":
            return _MOV
        return _3GP if brand[:2] == b"3g" else _MP4
    # Older QuickTime files, and those whose start is missing, have no ftyp.
    return _MOV if box in _BOXES and (length >= 8 or length in (0, 1)) else None


def _riff(head: bytes) -> Kind | None:
    if head[:4] not in (b"RIFF", b"RF64") or len(head) < 12:
        return None
    form = head[8:12]
    if form in (b"AVI ", b"AVIX", b"AMV "):
        return _AVI
    name = _RIFF_OTHERS.get(form)
    return Kind("other", name) if name else None


def _matroska(head: bytes) -> Kind | None:
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    return _WEBM if b"webm" in head[:128] else _MKV


def _start_codes(head: bytes) -> Kind | None:
    """MPEG program streams, and bare MPEG-1/2/4, H.264 and H.265 video."""
    at = 1 if head.startswith(b"\x00\x00\x00\x01") else 0
    if head[at : at + 3] != b"\x00\x00\x01" or len(head) < at + 5:
        return None
    code = head[at + 3]
    if code == 0xBA:
        return _MPEG
    if code in (0xB0, 0xB3, 0xB5):
        return Kind("container", "mpegvideo", "video/mpeg")
    if not code & 0x80:
        if code & 0x1F in (6, 7, 9) and code & 0x60 in (0, 0x20, 0x40, 0x60):
            return Kind("container", "h264", "video/h264")
        if (code >> 1) & 0x3F in (32, 33, 35, 39) and head[at + 4] & 0x07:
            return Kind("container", "hevc", "video/h265")
    return None


def _transport_stream(head: bytes, whole: bool) -> Kind | None:
    """0x47 every 188 bytes (192 with time stamps, 204 with error correction), wherever it begins."""
    for stride in (188, 192, 204):
        wanted = 5 if not whole else max(2, min(5, len(head) // stride))
        for start in range(min(stride, len(head))):
            packets = head[start::stride][:wanted]
            if len(packets) == wanted and packets == b"\x47" * wanted:
                return _TS
    return None


def _is_text(head: bytes, whole: bool) -> bool:
    if not head or b"\x00" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut where the head ends.
        if whole or error.start < len(head) - 3:
            return False
    return not any(byte < 32 and byte not in _TEXT_CONTROLS for byte in head)
