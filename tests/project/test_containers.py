"""compose.yaml and the Dockerfile, as far as they can be judged without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from streams.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def services() -> dict[str, Any]:
    """The services of compose.yaml."""
    found: dict[str, Any] = YAML(typ="safe").load(ROOT / "compose.yaml")["services"]
    return found


def test_compose_file_is_valid() -> None:
    """Against the schema of the compose specification."""
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_service_has_a_health_check() -> None:
    """And the application waits for those it needs."""
    assert all("healthcheck" in service for service in services().values())
    waits = services()["spoolhouse"]["depends_on"]
    assert {name: how["condition"] for name, how in waits.items()} == dict.fromkeys(waits, "service_healthy")


def test_redis_loses_nothing() -> None:
    """AOF, always fsynced, nothing evicted."""
    command = " ".join(services()["redis"]["command"])
    for wanted in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert wanted in command


def test_nothing_is_published_beyond_this_machine() -> None:
    """Only the application has a port, on loopback; it is no root."""
    for name, service in services().items():
        for port in service.get("ports", []):
            assert name == "spoolhouse"
            assert port.startswith("127.0.0.1:")
    assert services()["spoolhouse"]["user"] == "1000:1000"


def test_application_gets_settings_that_exist() -> None:
    """A mistyped name would be ignored in silence."""
    known = {f"SPOOLHOUSE_{name.upper()}" for name in Settings.model_fields} | {
        "TZ",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }
    assert set(services()["spoolhouse"]["environment"]) <= known
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert set(re.findall(r"\b(SPOOLHOUSE_[A-Z_]+)=", dockerfile)) <= known


def test_stop_waits_for_the_drain() -> None:
    """Docker's own ten seconds would cut an upload off."""
    grace = services()["spoolhouse"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["drain"].default + 5


def test_image_is_locked_and_not_root() -> None:
    """Hashes for everything, uid 1000, a health check."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert "USER 1000:1000" in dockerfile
    assert "HEALTHCHECK" in dockerfile
    packages = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert packages == {"streams", "processors", "projections", "api"}
