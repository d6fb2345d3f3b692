"""The tables of the plain build, in SQLite with a durable commit per transaction."""

from datetime import UTC, datetime
from sqlite3 import Connection

from sqlalchemy import ForeignKey, Index, UniqueConstraint, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from benchmarks.plain.settings import settings


class Base(DeclarativeBase):
    """What the tables have in common."""


class Event(Base):
    """A resource as it was received."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("resource_type", "resource_id", "version"),
        Index("events_of_patient", "patient", "resource_type"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    resource_type: Mapped[str]
    resource_id: Mapped[str]
    version: Mapped[str]
    patient: Mapped[str]
    body: Mapped[str]
    received: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


class Job(Base):
    """One run of the model for one event."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), unique=True)
    status: Mapped[str] = mapped_column(default="queued")
    reason: Mapped[str] = mapped_column(default="")
    result: Mapped[str | None]


engine = create_engine(f"sqlite:///{settings.database}")
Session = sessionmaker(engine)


@event.listens_for(engine, "connect")
def _set_pragmas(connection: Connection, _: object) -> None:
    """Use the write-ahead log, and wait for the disk at every commit."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=30000")
