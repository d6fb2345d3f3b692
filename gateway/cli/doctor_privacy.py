"""What `nadi doctor` says of patients' rights: who answers, what is overdue, who came back."""

from collections.abc import Iterator
from pathlib import Path

from adapters.site import Site
from gateway.core.clock import to_ms, utc_now
from gateway.store.erasure_file import ErasureFile, brought_back
from gateway.store.unit_of_work import Store

_BACK = (
    "patients who were erased are back: the database is an earlier one. Run "
    "`nadi patient erase-restored`"
)


def privacy_problems(site: Site, store: Store, data_dir: Path) -> Iterator[tuple[str, bool]]:
    """Give what is not as it should be, and whether it is a fault rather than a gap."""
    with store.read() as uow:
        back = brought_back(uow, ErasureFile(data_dir))
        asked = uow.rights_requests.list(only_open=True)
    if back:
        yield f"{len(back)} {_BACK}", True
    overdue = sum(each.is_overdue(to_ms(utc_now())) for each in asked)
    if overdue:
        yield f"{overdue} requests of patients are overdue (nadi rights list)", True
    if site.privacy is None:
        yield "the site file has no `privacy`: nobody is named who answers for it", False
    if not site.retention.is_in_force:
        yield "the site file has no `retention`: nothing is removed after its time", False
