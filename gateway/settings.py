"""Every environment variable of every process, typed, in one place.

Each setting `x` is read from the variable `NADI_X`. Secrets are read from files (`*_FILE`), so
that no secret stands in an environment or a process list.
"""

import hashlib
import os
import socket
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

#: sun_path has 108 bytes on Linux, 104 on macOS; a little is left for the final NUL.
_LONGEST_SOCKET_PATH = 100

#: Addresses to listen on, and at which one the machine itself reaches them.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (an address to call, not to bind)


class Settings(BaseSettings):
    """The settings of one process of Nadi. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="NADI_", frozen=True, extra="ignore")

    data_dir: Path = Field(Path("data"), description="Folder of database, keys and sockets.")
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the API listens on.")
    api_url: str | None = Field(
        None, description="Where listeners find the API; on this machine when absent."
    )
    sandbox_port: int = Field(8090, ge=0, le=65535, description="Port of the stand-in EHR.")
    database_url: str | None = Field(
        None, description="SQLAlchemy URL; SQLite in the data folder when absent."
    )
    database_password_file: Path | None = Field(
        None, description="File with the password that completes database_url."
    )
    database_owner_url: str | None = Field(
        None,
        description="PostgreSQL URL of the tables' owner, for `nadi prepare` only: the role of "
        "database_url then may not change the audit log.",
    )
    database_owner_password_file: Path | None = Field(
        None, description="File with the password that completes database_owner_url."
    )
    broker_url: str | None = Field(
        None, description="Redis or AMQP URL; a Valkey server of Nadi's own when absent."
    )
    broker_password_file: Path | None = Field(
        None, description="File with the password that completes broker_url."
    )
    master_key_file: Path | None = Field(
        None, description="File of 64 hex digits; made in the data folder when absent."
    )
    audit_key_file: Path | None = Field(
        None, description="File of 64 hex digits; made in the data folder when absent."
    )
    consent_key_file: Path | None = Field(
        None, description="File of 64 hex digits; made in the data folder when absent."
    )
    credential_file: Path | None = Field(
        None,
        description="File with the token of who reads the audit log by command; "
        "credentials/compliance.token in the data folder when absent.",
    )
    models_dir: Path | None = Field(
        None,
        description="Folder of the models that came with Nadi; those in its package if absent.",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    otlp_endpoint: str | None = Field(
        None, description="OTLP/HTTP collector for traces; no traces when absent."
    )
    metrics_port: int | None = Field(
        None, description="Port on which a worker serves its own metrics; none when absent."
    )

    max_connections: int = Field(800, ge=1, description="Most connections to the API at once.")
    max_connections_per_address: int = Field(
        256, ge=1, description="Most of them from one network address."
    )
    max_header_bytes: int = Field(64 * 2**10, ge=1024, description="Largest headers of a request.")
    header_timeout_s: float = Field(10, gt=0, description="Within which headers have to arrive.")
    body_timeout_s: float = Field(60, gt=0, description="Within which a body has to arrive.")
    write_timeout_s: float = Field(30, gt=0, description="How long an answer may stay unread.")
    max_body_bytes: int = Field(16 * 2**20, description="Largest request body, as sent.")
    max_decompressed_bytes: int = Field(64 * 2**20, description="Largest body after gzip.")
    max_depth: int = Field(40, description="Deepest nesting of JSON.")
    max_entries: int = Field(5000, description="Most entries of one Bundle.")
    max_waiting: int = Field(2000, description="Most events waiting for a commit before 503.")
    max_backlog: int = Field(
        250_000, ge=0, description="Most jobs that wait before 503; 0: as many as come."
    )
    min_disk_free_bytes: int = Field(
        512 * 2**20,
        ge=0,
        description="Free disk below which events get 503, or a twentieth of a small disk; 0: off.",
    )
    min_memory_free_bytes: int = Field(
        128 * 2**20,
        ge=0,
        description="Available memory below which events get 503, or a twentieth of it; 0: off.",
    )
    commit_batch: int = Field(256, description="Most events that share one commit.")

    host_name: str = Field(
        default_factory=socket.gethostname,
        description="Name of this machine, in the log and for leases; no two that share a "
        "database may have the same. Its own name when absent.",
    )
    worker_name: str | None = Field(None, description="Name leases are held under; host and role.")
    infer_threads: int = Field(2, ge=1, description="Threads of the inference worker.")
    deliver_threads: int = Field(2, ge=1, description="Threads of the delivery worker.")
    batch_size: int = Field(64, ge=1, description="Most jobs of one micro-batch.")
    longest_wait_s: float = Field(
        900,
        gt=0,
        description="What waits longer in its lane gets an eighth of all places, the oldest first.",
    )
    lease_s: float = Field(60, description="How long a worker may hold a job before its rescue.")
    hung_after_s: float = Field(
        60,
        gt=0,
        description="How long a process may give no sign of life before `nadi up` starts it anew.",
    )
    stuck_after_s: float = Field(
        900, gt=0, description="How long one batch may take before its worker counts as hung."
    )
    heartbeat_fd: int | None = Field(
        None, description="Where a process gives its signs of life; `nadi up` sets it."
    )
    ring_again_s: float = Field(5, description="When a ring that nobody answered is repeated.")
    ehr_timeout_s: float = Field(10, description="Longest wait for an answer of the EHR.")
    retry_base_s: float = Field(1, description="First delay of a delivery's back-off.")
    retry_max_s: float = Field(300, description="Longest delay of a delivery's back-off.")
    retry_budget_s: float = Field(3 * 86400, description="Age at which a delivery is given up.")
    canary_every_s: float = Field(
        300, ge=0, description="How often the canary is run, from the start on; 0: never."
    )
    revocation_wait_s: float = Field(
        20,
        ge=0,
        description="How long a Consent waits for its 2xx while a result it stops is in flight.",
    )
    checkpoint_every_s: float = Field(2, description="How often the audit log is integrated.")

    @property
    def resolved_database_url(self) -> str:
        """The database URL in force, its password filled in from the file if there is one."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir.absolute() / 'nadi.db'}"
        return _with_password(self.database_url, self.database_password_file)

    @property
    def resolved_database_owner_url(self) -> str | None:
        """The URL of the tables' owner, its password filled in; None when it is not told."""
        if self.database_owner_url is None:
            return None
        return _with_password(self.database_owner_url, self.database_owner_password_file)

    @property
    def resolved_broker_url(self) -> str:
        """The broker URL in force: the embedded server's unix socket unless one is set."""
        if self.broker_url is None:
            return f"redis+socket://{self.broker_socket}"
        if self.broker_password_file is None:
            return self.broker_url
        password = quote(self.broker_password_file.read_text().strip(), safe="")
        if "@" in self.broker_url:
            return self.broker_url.replace("@", f":{password}@", 1)
        return self.broker_url.replace("://", f"://:{password}@", 1)

    @property
    def imported_models_dir(self) -> Path:
        """Folder of the imported models, each in a folder named after its digest."""
        return self.data_dir.absolute() / "models"

    @property
    def broker_socket(self) -> Path:
        """Unix socket of the embedded broker.

        A socket's path may have about 100 bytes: for a deep data folder the socket lies in a
        private folder among the temporary files, whose name every process finds alike.
        """
        socket = self.data_dir.absolute() / "run" / "broker.sock"
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH:
            return socket
        digest = hashlib.sha256(os.fsencode(socket)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"nadi-{os.getuid()}-{digest}" / "broker.sock"

    @property
    def base_url(self) -> str:
        """Address at which the API is reached from this machine."""
        return f"http://{self.host}:{self.port}"

    @property
    def api_address(self) -> str:
        """Address at which listeners find the API."""
        if self.api_url:
            return self.api_url.rstrip("/")
        host = WILDCARDS.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def _with_password(url: str, file: Path | None) -> str:
    if file is None:
        return url
    return url.replace("@", f":{quote(file.read_text().strip(), safe='')}@", 1)


def environment_with(**changed: str) -> dict[str, str]:
    """Give the environment of this process for a child of it, with some variables changed."""
    return {**os.environ, **changed}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Read the environment once per process."""
    return Settings()


def live_in(environment: Mapping[str, str]) -> None:
    """Take another environment for this process, and forget what was read in the former."""
    os.environ.clear()
    os.environ.update(environment)
    get_settings.cache_clear()


def environment(name: str) -> str | None:
    """Read one variable that a site file names (`env:NAME`, `${NAME}`)."""
    return os.environ.get(name)


def environment_default(name: str, value: str) -> None:
    """Set one variable of this process and its children, unless it is set."""
    os.environ.setdefault(name, value)
