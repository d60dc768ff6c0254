"""How the colours of a picture are meant, by the codes of ITU-T H.273 and FFmpeg's names for them."""

from __future__ import annotations

from typing import Any

_RANGES = {1: "tv", 2: "pc"}
_SPACES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ictcp",
}  # fmt: skip
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
_HDR = {16: "PQ", 18: "HLG"}


def colours(context: Any, picture: Any | None) -> dict[str, Any]:
    """What the stream says of its colours, and where it is silent, what its first picture says."""

    def of(name: str, unknown: int) -> int:
        said = getattr(context, name, unknown)
        return int(said if said != unknown or picture is None else getattr(picture, name, unknown))

    transfer = of("color_trc", 2)
    return {
        "colour_range": _RANGES.get(of("color_range", 0)),
        "colour_space": _SPACES.get(of("colorspace", 2)),
        "colour_primaries": _PRIMARIES.get(of("color_primaries", 2)),
        "colour_transfer": _TRANSFERS.get(transfer),
        "hdr": transfer in _HDR,
        "hdr_format": _HDR.get(transfer),
    }
