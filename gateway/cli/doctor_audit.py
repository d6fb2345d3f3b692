"""What `nadi doctor` says of who else writes here: false AuditEvents, guards that are gone."""

from gateway.store.audit_tags import false_ones
from gateway.store.guards import not_in_force
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


_PUT_BACK = (
    "Somebody dropped, disabled or changed them: keep a copy for the inquiry (nadi backup), look "
    "what was changed meanwhile (nadi audit verify), and put them back (docs/audit.md)."
)


def guards(store: Store) -> tuple[str, bool]:
    """Say whether every trigger that refuses to change the log is in force, and if all is well."""
    with store.read() as uow:
        gone = not_in_force(uow.connection)
    if not gone:
        return "every trigger that refuses to change what is on record is in force", True
    names = ", ".join(gone[:_NAMED]) + (", …" if len(gone) > _NAMED else "")
    return f"{len(gone)} triggers are not in force ({names}). {_PUT_BACK}", False
