"""What people, systems and models are called in a report for a patient: no word of a machine."""

from adapters.site import Site
from gateway.core.audit_answers import Json
from gateway.core.jobs import Job
from gateway.core.principal import Role
from gateway.store.credentials import Credential
from gateway.store.unit_of_work import UnitOfWork

_ROLES = {
    Role.EHR: "a record system",
    Role.INTEGRATOR: "an engineer of the hospital",
    Role.CLINICIAN: "a clinician",
    Role.COMPLIANCE: "a compliance officer",
    Role.OPERATOR: "an operator of this system",
}
_LOGIN = "os-user:"


class Called:
    """Names who and what stands in the log, as a patient can understand it."""

    def __init__(self, uow: UnitOfWork, site: Site) -> None:
        """Take what is known by name.

        Args:
            uow: Any transaction.
            site: Whose systems have titles.
        """
        self._site = site
        self._people = {each.id: each for each in uow.credentials.list()}
        cards = [line.card for line in uow.models.lines()]
        self._models = {each.digest: each.title for each in cards}
        self._versions = {each.reference: each.title for each in cards}
        self._versions |= {f"{each.name}@{_major(each.version)}": each.title for each in cards}

    def party(self, identifier: str, name: str) -> str:
        """Name somebody, or something, that took part in an event."""
        person = self._people.get(identifier)
        if person is not None:
            return self._person(person)
        if identifier.startswith(_LOGIN):
            login = identifier.removeprefix(_LOGIN)
            return f"staff at this system's own computer (login {login})"
        if identifier in self._site.systems:
            return self._system(identifier)
        title = self._models.get(identifier) or self._versions.get(identifier)
        title = title or self._versions.get(name)
        return f"AI model: {title}" if title else name

    def system(self, name: str) -> str:
        """Name a system of the site."""
        return self._system(name)

    def model(self, job: Job) -> str:
        """Name the model of a job."""
        return self._models.get(job.model_digest) or self._versions.get(job.model, job.model)

    def line(self, line: Json) -> Json:
        """Name who stands in a line of `who_saw`."""
        return {**line, "who": self.party(str(line["id"]), str(line["who"]))}

    def _person(self, person: Credential) -> str:
        if person.role is Role.EHR and person.system:
            return self._system(person.system)
        what = _ROLES[person.role]
        # What the first start made has no name of a person.
        return what if person.name == f"first-{person.role.value}" else f"{person.name}, {what}"

    def _system(self, name: str) -> str:
        called = self._site.called(name)
        return called if called != name else f"the record system '{name}'"


def _major(version: str) -> str:
    return version.partition(".")[0]
