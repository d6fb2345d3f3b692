"""What `nadi doctor` says of AuditEvents that nobody with the master key wrote."""

from gateway.store.audit_tags import false_ones
from gateway.store.unit_of_work import Store

_NAMED = 5
_MEND = (
    "Somebody else can write to this database: change its password and look who has its file. "
    "Keep a copy for the inquiry (nadi backup). `nadi audit verify` names each of them; they have "
    "no place in the signed log and prove nothing. Processes of an older Nadi that ran on after an "
    "upgrade write such events too (docs/audit.md)."
)


def false_tags(store: Store) -> tuple[str, bool]:
    """Say how many AuditEvents carry a false tag or none, and whether all is well.

    Raises:
        ConfigurationError: The master key is another one, so nothing can be said.
        StoreUnavailable: The database is away.
    """
    store.check_key()
    with store.read() as uow:
        found = false_ones(uow)
    if not found.numbers:
        return "no event without a place in the log has a false tag", True
    numbers = ", ".join(str(number) for number in found.numbers[:_NAMED])
    more = ", …" if len(found.numbers) > _NAMED else ""
    count = f"{len(found.numbers)}" if found.is_all else f"{len(found.numbers)} or more"
    what = f"{count} AuditEvents were not written with this installation's key"
    return f"{what} (numbers {numbers}{more}). {_MEND}", False
