"""The shape of the repository: what lies where, what is documented, what is locked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streams.settings import NOTIFIER_MARKS, NOTIFIER_REQUIRED, Settings

ROOT = Path(__file__).resolve().parents[2]

FOLDERS = {"streams", "processors", "projections", "api", "scripts", "tests", "docs"}
FILES = {
    *("compose.yaml", "pyproject.toml", "README.md", "Dockerfile", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("requirements.lock", "requirements-dev.lock"),
}


def tracked() -> list[str]:
    """Every file that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return listed.stdout.splitlines()


def pyproject() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """Package → version in a lock file."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^ \\;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_top_level_is_what_was_decided() -> None:
    """A new folder there is a decision, not a habit."""
    top = {path.split("/")[0] for path in tracked()}
    assert {name for name in top if not name.startswith(".")} <= FOLDERS | FILES
    assert not [path for path in tracked() if path.endswith((".mp4", ".mkv", ".mov", ".avi", ".webm"))]


def test_every_script_is_described_and_runnable() -> None:
    """scripts/README.md says what each is for."""
    described = (ROOT / "scripts" / "README.md").read_text()
    for path in (ROOT / "scripts").iterdir():
        if path.is_dir() or path.name == "README.md":
            continue
        assert f"`{path.name}`" in described, path.name
        assert path.suffix or path.stat().st_mode & 0o111, f"{path.name} cannot be run"


def test_decisions_are_numbered_and_short() -> None:
    """Context, decision, consequences, in half a page each."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{n:04}" for n in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), path.name
        assert len(text.split()) < 350, f"{path.name} is longer than half a page"


def test_links_between_documents_lead_somewhere() -> None:
    """Relative links in every Markdown file."""
    for name in tracked():
        if name.endswith(".md"):
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", (ROOT / name).read_text()):
                assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_documented_settings_exist() -> None:
    """README and migrating name no setting that nobody reads, and every alias is told of."""
    known = {f"SPOOLHOUSE_{name.upper()}" for name in Settings.model_fields}
    for path in (ROOT / "README.md", ROOT / "docs" / "migrating.md"):
        assert set(re.findall(r"\bSPOOLHOUSE_[A-Z_]+\b", path.read_text())) <= known, path.name
    migrating = (ROOT / "docs" / "migrating.md").read_text()
    for name in {*NOTIFIER_MARKS, *NOTIFIER_REQUIRED}:
        assert f"`{name}`" in migrating, name


@pytest.mark.parametrize(("lock", "groups"), [("requirements.lock", ["build"]), ("requirements-dev.lock", ["dev"])])
def test_lock_holds_what_pyproject_asks_for(lock: str, groups: list[str]) -> None:
    """Whoever changes a dependency runs scripts/lock."""
    metadata, versions = pyproject(), locked(lock)
    asked = [*metadata["project"]["dependencies"]]
    for group in groups:
        asked += [one for one in metadata["dependency-groups"][group] if isinstance(one, str)]
    for requirement in map(Requirement, asked):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {lock}: run scripts/lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} but {version}: run scripts/lock"
        )


def test_both_locks_agree() -> None:
    """What is tested is what runs."""
    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: dev.get(name) for name in runtime} == runtime


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("streams/wrong.py", "import processors"),
        ("processors/wrong.py", "import projections"),
        ("projections/wrong.py", "import api"),
        ("processors/wrong.py", "import av"),
        ("processors/wrong.py", "import redis.asyncio"),
        ("processors/wrong.py", "from watchfiles import awatch"),
        ("api/wrong.py", "import sqlalchemy"),
        ("streams/wrong.py", "import click"),
        ("streams/wrong.py", "from faust import App"),
    ],
)
def test_forbidden_imports_are_found(tmp_path: Path, place: str, line: str) -> None:
    """The contracts bite."""
    for package in ("streams", "processors", "projections", "api"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    program = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    kept = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert kept.returncode == 0, kept.stdout
    (tmp_path / place).write_text(line + "\n")
    broken = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert broken.returncode == 1
    assert "BROKEN" in broken.stdout
