"""A user of the watched-folder notifier moves over: the `.env` as it stands, the table with its rows."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e.running import spoolhouse, until
from tests.servers import MariaDBServer

TABLE = """CREATE TABLE `videos` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `main_dir` varchar(512) DEFAULT NULL,
  `des_video_path` varchar(1024) NOT NULL,
  `status` int(11) DEFAULT 1,
  `created_date` datetime DEFAULT current_timestamp(),
  `des_url` varchar(1024) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_des_video_path` (`des_video_path`(255)),
  KEY `idx_status` (`status`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"""


def _sql(url: str, *statements: str) -> list[Any]:
    async def run() -> list[Any]:
        engine = create_async_engine(url)
        rows: list[Any] = []
        try:
            async with engine.begin() as conn:
                for statement in statements:
                    result = await conn.execute(text(statement))
                    rows = list(result) if result.returns_rows else []
        finally:
            await engine.dispose()
        return rows

    return asyncio.run(run())


def test_the_env_file_and_the_table_work_as_they_stand(
    tmp_path: Path, own_mariadb: MariaDBServer, sample_videos: list[Path]
) -> None:
    """Given a notifier's .env and its filled table, when Spoolhouse takes over, then rows keep their ids and new ones follow."""
    url = own_mariadb.new_database("vfs")
    own_mariadb.execute("CREATE USER 'vfs'@'%' IDENTIFIED BY 's#cret'", "GRANT ALL ON vfs.* TO 'vfs'@'%'")
    client, logs = tmp_path / "client", tmp_path / "logs"
    (client / "a folder").mkdir(parents=True)
    shutil.copy(sample_videos[1], client / "old.mp4")
    rows = (
        f"(7, '{client}', '{client}/old.mp4', 1, '2024-03-01 10:00:00', 'http://media.example/old.mp4')",
        f"(9, '{client}', '{client}/gone.mp4', 1, '2024-03-02 10:00:00', 'http://media.example/gone.mp4')",
        "(20, '/elsewhere', '/elsewhere/theirs.mp4', 5, '2024-03-03 10:00:00', NULL)",
    )
    _sql(url, TABLE, f"INSERT INTO videos VALUES {', '.join(rows)}")
    (tmp_path / ".env").write_text(
        f"""# Logging Configuration
LOG_BASE_DIRECTORY={logs}  # Directory where logs will be stored

MYSQL_USER=vfs
MYSQL_PASS="s#cret"
MYSQL_HOST=127.0.0.1
MYSQL_PORT={own_mariadb.port}
MYSQL_DB_NAME=vfs

CLIENT_VIDEO_DIR={client}  # Directory to monitor for new videos
INTERNAL_VIDEO_FOLDER_PATH={tmp_path}/internal  # Internal directory for processing
NGINX_BASE_URL=http://media.example/files/  # Base URL for video access
NGINX_INTERNAL_PATH={client}  # Internal path served by Nginx
BASE_PATH={client}  # Base path for URL construction
FOLDER_POLL_INTERVAL=5  # Polling interval in seconds (default: 5)
"""
    )
    with spoolhouse(tmp_path / "data") as running:
        shutil.copy(sample_videos[1], client / "a folder" / "new & nice.mp4")
        found = until(
            lambda: (r := _sql(url, "SELECT * FROM videos ORDER BY id")) and len(r) == 4 and r, why="the new row"
        )
        assert tuple(found[0]) == (
            *(
                7,
                str(client),
                f"{client}/old.mp4",
                1,
                dt.datetime(2024, 3, 1, 10),
                "http://media.example/old.mp4",
            ),
        )
        assert tuple(found[2])[:4] == (20, "/elsewhere", "/elsewhere/theirs.mp4", 5)
        number, main_dir, path, status, created, address = found[3]
        assert (number, main_dir, path, status) == (21, str(client), f"{client}/a folder/new & nice.mp4", 1)
        assert address == "http://media.example/files/a%20folder/new%20%26%20nice.mp4"
        assert abs((dt.datetime.now() - created).total_seconds()) < 300

        _sql(url, "UPDATE videos SET status = 3 WHERE id = 21")
        (client / "old.mp4").unlink()
        until(
            lambda: _sql(url, "SELECT status FROM videos WHERE id = 7")[0][0] == 0, why="status 0 of the removed file"
        )
        rebuilt = running.command("rebuild", "--compare")
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        statuses = dict(_sql(url, "SELECT id, status FROM videos ORDER BY id"))
        assert statuses[21] == 3
        assert statuses[20] == 5

        today = dt.date.today().strftime("%d-%m-%Y")
        daily = logs / f"{today}_vfs_tusker_notifier_videos.log"
        until(lambda: daily.exists() and "new & nice.mp4" in daily.read_text(), why="the line in the day's log file")
        assert running.stop() == 0
    with spoolhouse(tmp_path / "data"):
        again = _sql(url, "SELECT id, des_video_path FROM videos ORDER BY id")
        assert [one[0] for one in again] == [7, 9, 20, 21]
    assert "s#cret" not in running.output.read_text()
