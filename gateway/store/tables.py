"""The tables. One rule: no column holds a patient's value in the clear.

Payloads and result bodies are sealed (`LargeBinary`, see sealing.py); patients and resources are
named by keyed hashes (`*_key`). Times are milliseconds since 1970-01-01 UTC (`*_ms`).
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Serial = BigInteger().with_variant(Integer, "sqlite")


def _only(where: str) -> dict[str, Any]:
    """Give what makes an index one of some rows."""
    plain = text(where.replace("events.", ""))
    return {"sqlite_where": plain, "postgresql_where": plain}


# A Bundle as received: its bytes with the entries' resources cut out and their events' ids in
# their place, so that skeleton and events together give back every byte. Single resources have no
# submission.
submissions = Table(
    "submissions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("dedupe_key", String(64), nullable=False, unique=True),
    Column("system", String(64), nullable=False),
    Column("bundle_type", String(32), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("skeleton", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)

# Consents that a newer version replaced are few among all that is received.
REPLACED_CONSENT = "events.resource_type = 'Consent' and not events.is_current"
# Those in force are looked through again and again: does their EHR still have them?
CURRENT_CONSENT = "events.resource_type = 'Consent' and events.is_current"

events = Table(
    "events",
    metadata,
    Column("id", String(36), primary_key=True),
    # same resource version, or same bytes where it has no version: the same event
    Column("dedupe_key", String(64), nullable=False, unique=True),
    Column("submission_id", String(36), index=True),
    Column("entry_index", Integer),
    Column("system", String(64), nullable=False),
    Column("principal_id", String(36), nullable=False),
    Column("request_id", String(64)),
    Column("resource_type", String(64), nullable=False),
    Column("resource_key", String(64)),
    Column("version_id", String(64)),
    Column("last_updated_ms", BigInteger),
    Column("patient_key", String(64)),
    # sealed `Patient/<id>`: with a Bundle's urn:uuid references resolved
    Column("patient_ref", LargeBinary),
    # keyed hashes of the resource's codings ("system|code"), separated by newlines: a diagnosis is
    # a patient's value too
    Column("codes", Text, nullable=False, server_default=""),
    Column("effective_ms", BigInteger),
    # how urgent it says it is (gateway.core.lanes); NULL where it does not say
    Column("lane", SmallInteger),
    Column("is_current", Boolean, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("ix_events_record", "patient_key", "resource_type", "effective_ms"),
    # of each resource one version is current, however many processes receive it at once
    Index(
        "uq_events_current",
        "resource_key",
        unique=True,
        sqlite_where=text("is_current = 1"),
        postgresql_where=text("is_current"),
    ),
    Index("ix_events_principal", "principal_id", "id"),
    Index("ix_events_replaced_consents", "id", **_only(REPLACED_CONSENT)),
    Index("ix_events_current_consents", "system", "id", **_only(CURRENT_CONSENT)),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("event_id", String(36), nullable=False),
    Column("route", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("business_status", String(32), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("patient_key", String(64)),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("lease_owner", String(128)),
    Column("lease_until_ms", BigInteger),
    Column("available_ms", BigInteger, nullable=False),
    Column("lane", SmallInteger, nullable=False, server_default="3"),
    Column("decisions", Text, nullable=False, server_default="[]"),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # when the EHR last said all that it has of what the model reads; NULL where it did not
    Column("told_ms", BigInteger),
    UniqueConstraint("event_id", "route", "model_digest"),
    Index("ix_jobs_patient_key", "patient_key"),
    Index("ix_jobs_created_ms", "created_ms"),
    # Finished jobs are nearly all rows and never looked for by state: keep them out. Those that
    # wait lie in the order in which they are rung for.
    Index(
        "ix_jobs_open",
        "state",
        "lane",
        "route",
        "available_ms",
        **_only("state in ('ready', 'in-progress')"),
    ),
    # What a worker holds is little: who looks for the lease that ran out reads no backlog.
    Index("ix_jobs_leased", "lease_until_ms", **_only("lease_until_ms is not null")),
)

_KEPT_HERE = text("rung = 'worklist'")
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job_id", String(36), nullable=False, unique=True),
    Column("system", String(64), nullable=False),
    Column("lane", SmallInteger, nullable=False, server_default="3"),
    # the system, and whose event it answers, "system/source": what waits shares by it
    Column("line", String(129), nullable=False, server_default=""),
    Column("patient_key", String(64), nullable=False),
    # the result's identifier value, derived from event version, route and model digest
    Column("identifier", String(64), nullable=False, unique=True),
    # sealed JSON: the resources to be written, see gateway.core.findings.Report
    Column("body", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("next_attempt_ms", BigInteger, nullable=False),
    Column("lease_owner", String(128)),
    Column("lease_until_ms", BigInteger),
    # What the EHR last said: a status code or an error's name, never its text.
    Column("last_answer", String(128), nullable=False, server_default=""),
    # Where the EHR keeps it, for example `Observation/<id>`; sealed, since an id may name a patient
    Column("location", LargeBinary),
    Column("created_ms", BigInteger, nullable=False),
    Column("delivered_ms", BigInteger),
    # In which form of the write-back ladder it is there, and what of it the EHR did not keep.
    Column("rung", String(24), nullable=False, server_default=""),
    Column("lost", String(255), nullable=False, server_default=""),
    # What no EHR takes, for clinicians, the newest first.
    Index("ix_deliveries_worklist", "id", sqlite_where=_KEPT_HERE, postgresql_where=_KEPT_HERE),
    Index(
        "ix_deliveries_open",
        "state",
        "lane",
        "line",
        "next_attempt_ms",
        **_only("state in ('pending', 'in-flight')"),
    ),
)

# Results in an EHR that are to be marked as entered in error, since consent was withdrawn.
retractions = Table(
    "retractions",
    metadata,
    Column("delivery_id", String(36), primary_key=True),
    Column("patient_key", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("next_attempt_ms", BigInteger, nullable=False),
    Column("last_answer", String(128), nullable=False, server_default=""),
    Column("created_ms", BigInteger, nullable=False),
    Column("settled_ms", BigInteger),
    Index("ix_retractions_state", "state", "next_attempt_ms"),
)

break_glass_uses = Table(
    "break_glass_uses",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job_id", String(36), nullable=False, unique=True),
    Column("patient_key", String(64), nullable=False),
    Column("route", String(64), nullable=False),
    Column("clinician_id", String(36), nullable=False),
    Column("clinician", String(64), nullable=False),
    Column("reason", LargeBinary, nullable=False),
    Column("used_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("reviewed_ms", BigInteger),
    Column("reviewer_id", String(36)),
    Column("reviewer", String(64)),
    Column("verdict", String(16)),
    Column("comment", LargeBinary),
    Index("ix_break_glass_uses_reviewed_ms", "reviewed_ms"),
)

# One row: how the canary stands, a built-in patient who refuses everything.
canary_state = Table(
    "canary_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("enrolled_ms", BigInteger),
    Column("last_run_ms", BigInteger),
    Column("is_proven", Boolean, nullable=False, server_default=false()),
    Column("checked_seq", BigInteger, nullable=False, server_default="0"),
    Column("tripped_ms", BigInteger),
    Column("why", Text, nullable=False, server_default=""),
)

patient_keys = Table(
    "patient_keys",
    metadata,
    Column("patient_key", String(64), primary_key=True),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

# One row: a keyed hash of a fixed text, which only the right master key gives.
key_check = Table(
    "key_check",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", String(64), nullable=False),
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("system", String(64)),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

sites = Table(
    "sites",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("yaml", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("applied_ms", BigInteger, nullable=False),
    Column("applied_by", String(64), nullable=False),
)

# The register of models: a line is added once and retired at most once. Days are ISO 8601.
models = Table(
    "models",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("intended_use", Text, nullable=False),
    Column("not_for", Text, nullable=False),
    # JSON list of sentences
    Column("contraindications", Text, nullable=False),
    Column("demonstration_only", Boolean, nullable=False),
    Column("manufacturer", Text, nullable=False),
    Column("jurisdiction", String(2)),
    Column("device_class", String(8)),
    Column("licence_number", Text),
    Column("change_protocol", Text),
    Column("not_before", String(10)),
    Column("not_after", String(10)),
    Column("signer", String(64), nullable=False),
    Column("signer_key", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("registered_ms", BigInteger, nullable=False),
    Column("registered_by", String(64), nullable=False),
    Column("retired_ms", BigInteger),
    Column("retired_by", String(64)),
    Column("reason", Text, nullable=False, server_default=""),
    # a name and version mean one content at a time
    Index("uq_models_active", "name", "version", unique=True, **_only("state = 'active'")),
)

# The steps of every job and every push are nearly all of the log. What is not one of them is rare,
# and is looked for by what it is.
USUAL_EVENTS = ("receive", "consent", "admit", "fetch", "infer", "deliver", "complete")
IS_RARE = "event not in ({})".format(", ".join(f"'{name}'" for name in USUAL_EVENTS))
IS_REFUSED = "outcome <> '0'"

# Append-only: migrations put triggers on it that refuse UPDATE and DELETE.
audit_events = Table(
    "audit_events",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("event", String(32), nullable=False),
    Column("action", String(1), nullable=False),
    Column("outcome", String(2), nullable=False),
    Column("patient_key", String(64)),
    Column("job_id", String(36)),
    Column("event_id", String(36)),
    # canonical JSON of the AuditEvent, which is the leaf of the Merkle log; on SQLite packed, see
    # gateway.store.packing
    Column("body", LargeBinary, nullable=False),
    # keyed hash of id and body: whoever has no key can't invent one; NULL from before there was one
    Column("tag", LargeBinary),
    Index("ix_audit_events_patient", "patient_key", "recorded_ms"),
    Index("ix_audit_events_recorded_ms", "recorded_ms"),
    Index("ix_audit_events_job_id", "job_id"),
    Index(
        "ix_audit_events_rare",
        "event",
        "recorded_ms",
        sqlite_where=text(IS_RARE),
        postgresql_where=text(IS_RARE),
    ),
    Index(
        "ix_audit_events_refused",
        "recorded_ms",
        sqlite_where=text(IS_REFUSED),
        postgresql_where=text(IS_REFUSED),
    ),
    sqlite_autoincrement=True,
)

# What else an AuditEvent is found by, see gateway.core.audit_terms. Append-only too.
audit_terms = Table(
    "audit_terms",
    metadata,
    # compared by bytes on both databases, so that terms of one kind lie together
    Column("term", Text().with_variant(Text(collation="C"), "postgresql"), primary_key=True),
    Column("recorded_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("audit_seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

audit_leaves = Table(
    "audit_leaves",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("audit_seq", BigInteger, nullable=False, unique=True),
    Column("leaf_hash", LargeBinary, nullable=False),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    # the signed note, C2SP tlog-checkpoint
    Column("note", Text, nullable=False),
    # compact range after `size` leaves, so that integration goes on without rereading
    Column("frontier", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

# Roots of complete subtrees of 256, 65,536 … leaves: a proof reads these instead of every leaf.
audit_nodes = Table(
    "audit_nodes",
    metadata,
    Column("first_leaf", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf_count", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

# What each witness of the site file is known to have of this log.
witness_states = Table(
    "witness_states",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("confirmed_ms", BigInteger),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("next_attempt_ms", BigInteger, nullable=False, server_default="0"),
    # in our words, never the witness's; empty when all is well
    Column("problem", Text, nullable=False, server_default=""),
    # it holds a checkpoint that this log does not continue
    Column("disagrees", Boolean, nullable=False, server_default=false()),
)

# The newest checkpoint of other logs, for which this gateway is the witness.
witnessed_logs = Table(
    "witnessed_logs",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)

circuit_breakers = Table(
    "circuit_breakers",
    metadata,
    Column("system", String(64), primary_key=True),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("open_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("is_probing", Boolean, nullable=False, server_default=false()),
)
