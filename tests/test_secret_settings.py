"""The secrets that .env lacks."""

from __future__ import annotations

import stat
from pathlib import Path

import config
import secret_settings


def test_new_file(tmp_path: Path) -> None:
    """All secrets are made, each time others, in a file that only its owner can read, and the settings take them."""
    one, other = tmp_path / "one", tmp_path / "other"
    added = [secret_settings.complete(file, tmp_path / "no-socket") for file in (one, other)]

    assert added[0] == ["REDIS_PASSWORD", "WEBHOOK_SECRET", "DOCKER_GID"]
    lines = [dict(line.split("=", 1) for line in file.read_text().splitlines()) for file in (one, other)]
    assert lines[0]["REDIS_PASSWORD"] != lines[1]["REDIS_PASSWORD"]
    assert len(lines[0]["REDIS_PASSWORD"]) >= 43  # 256 bits in base64
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert config.load(lines[0]).webhook_secrets == (lines[0]["WEBHOOK_SECRET"],)


def test_what_is_there_stays(tmp_path: Path) -> None:
    """Values that are set stay; empty and commented ones count as missing; a last line without its end is no trap."""
    file = tmp_path / ".env"
    file.write_text("REDIS_PASSWORD=mine\n#WEBHOOK_SECRET=x\nDOCKER_GID=\nPORT=4000")

    assert secret_settings.complete(file, Path("/")) == ["WEBHOOK_SECRET", "DOCKER_GID"]
    text = file.read_text()
    assert text.startswith("REDIS_PASSWORD=mine\n#WEBHOOK_SECRET=x\nDOCKER_GID=\nPORT=4000\n")
    assert text.endswith("DOCKER_GID=0\n")
    assert secret_settings.complete(file, Path("/")) == []
    assert file.read_text() == text
