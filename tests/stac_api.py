"""A STAC API for tests: PostgreSQL with pgSTAC, and stac-fastapi-pgstac, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVERS = Path(__file__).parents[1] / ".venv-servers/bin"
"""What tests/servers.sh installs."""
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StacServers:
    """A running database with pgSTAC in it, and APIs before it."""

    database: dict[str, str]
    """Where the database is, as its clients' environment says it."""
    address: str
    """Host and port of an API that can be written."""
    read_only: str
    """Host and port of one that cannot."""


def missing() -> str | None:
    """Why there can be no STAC API here; None where there can."""
    if not (SERVERS / "uvicorn").is_file():
        return "no STAC API in .venv-servers: tests/servers.sh installs it"
    if _postgres() is None:
        return "no PostgreSQL with PostGIS: tests/servers.sh installs it for root on Debian"
    return None


@contextmanager
def stac_servers() -> Iterator[StacServers]:
    """The running servers, their database empty and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="scenefuse-stac-"))  # pytest's own may be closed to the database's user
    try:
        with _database(folder) as database:
            subprocess.run([SERVERS / "pypgstac", "migrate"], env=database, check=True, capture_output=True, cwd=folder)
            writing = database | {"ENABLE_TRANSACTIONS_EXTENSIONS": "true"}
            with _api(folder, writing) as address, _api(folder, database) as read_only:
                yield StacServers(database=database, address=address, read_only=read_only)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _database(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of clients of a running PostgreSQL, which refuses to be root's."""
    programs = _postgres()
    assert programs is not None
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    port, data = _free_port(), folder / "data"
    subprocess.run(
        [programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "stac", "--no-sync"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "stac",
        "PGPASSWORD": "any",
        "PGDATABASE": "postgres",
    }
    with _process(command, folder, user=user) as process:
        _await(process, lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close())
        _await(process, lambda: _is_ready(programs, environment))
        yield environment


def _is_ready(programs: Path, environment: dict[str, str]) -> None:
    if subprocess.run([programs / "pg_isready", "-q"], env=environment, check=False).returncode:
        raise OSError("it does not take connections yet")


@contextmanager
def _api(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Host and port of a running STAC API."""
    port = _free_port()
    command: list[str | Path] = [
        SERVERS / "uvicorn",
        "stac_fastapi.pgstac.app:create_app",
        "--factory",
        "--port",
        str(port),
    ]
    with _process(command, folder, environment=environment) as process:
        _await(process, lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close())
        yield f"127.0.0.1:{port}"


@contextmanager
def _process(
    command: list[str | Path], folder: Path, *, environment: dict[str, str] | None = None, user: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with (
        (folder / f"{Path(command[0]).name}-{_free_port()}.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment, user=user) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL ends its connections, uvicorn itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _await(process: subprocess.Popen[bytes], attempt: Callable[[], None]) -> None:
    """Wait until an attempt at talking to the process raises no OSError."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            attempt()
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgres() -> Path | None:
    """Folder of the newest PostgreSQL's programs that has PostGIS; None where there is none."""
    found = sorted(Path("/usr/share/postgresql").glob("*/extension/postgis.control"), key=lambda path: path.parts[4])
    return Path("/usr/lib/postgresql") / found[-1].parts[4] / "bin" if found else None
