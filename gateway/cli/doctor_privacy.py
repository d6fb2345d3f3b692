"""What `nadi doctor` says of patients' rights: who answers, what is overdue, who came back."""

from collections.abc import Iterator
from pathlib import Path

from adapters.site import Site
from gateway.core.clock import to_ms, utc_now
from gateway.store.audit_questions import Asked
from gateway.store.erasure_file import ErasureFile, brought_back
from gateway.store.unit_of_work import Store, UnitOfWork

_NEWEST_USES = 200
_BACK = (
    "patients who were erased are back: the database is an earlier one. Run "
    "`nadi patient erase-restored`"
)
_SAY_SO = "write one (docs/site-yaml.md) and apply it"


def privacy_problems(site: Site, store: Store, data_dir: Path) -> Iterator[tuple[str, str, bool]]:
    """Give what is not as it should be: the check, what it found, whether that is a fault."""
    with store.read() as uow:
        back = brought_back(uow, ErasureFile(data_dir))
        asked = uow.rights_requests.list(only_open=True)
    if back:
        yield "erased patients", f"{len(back)} {_BACK}", True
    overdue = sum(each.is_overdue(to_ms(utc_now())) for each in asked)
    if overdue:
        says = f"{overdue} requests of patients are overdue (nadi rights list)"
        yield "patients' requests", says, True
    if site.privacy is None:
        says = "the site file has no `privacy`: nobody is named who answers for the processing"
        says = f"{says}; {_SAY_SO}"
        yield "privacy contacts", says, False
    if not site.retention.is_in_force:
        says = f"the site file has no `retention`: nothing is removed after its time; {_SAY_SO}"
        yield "retention", says, False
    for says in site.retention.shortened:
        yield "retention", says, False


def same_logins(uow: UnitOfWork) -> str:
    """Say of how many of the newest uses of break-glass use and review came from one login."""
    rows = uow.audit_questions.break_glass(Asked(limit=_NEWEST_USES)).rows
    reviews = [row["review"] for row in rows]
    logins = [
        each["same_login"] for each in reviews if isinstance(each, dict) and "same_login" in each
    ]
    if not logins:
        return ""
    named = ", ".join(sorted({str(each) for each in logins}))
    return (
        f"Use and review were both by login {named}, with two credentials, {len(logins)} times: "
        "was it a second person? (nadi audit break-glass)"
    )
