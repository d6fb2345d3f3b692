"""What a service asks an EHR to bring along: templates made from what the model needs.

One template for each input, so that an EHR can answer each by its newest result: more than the
model would look at is not asked for, and is not taken when it comes all the same. Local codes that
mean the same are asked for too, since an EHR is searched by the codes it writes.

Source: CDS Hooks 2.0, "Prefetch Template".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from gateway.core.cds.request import PATIENT_KEY, Brought, CdsRequest
from gateway.core.event import facts
from models.manifest import Input, Manifest

#: Local code to the code of LOINC that it stands for, both as (system, code).
LocalCodes = Mapping[tuple[str, str], tuple[str, str]]

PATIENT = "{{context.patientId}}"
_SETTLED = "final,amended,corrected"
#: Of an input that is averaged, or looked back over, so many results are asked for.
_MOST_OF_WINDOW = 50
#: What triggers models that read images or texts, and by what the newest is found.
_NEWEST_BY = {
    "DiagnosticReport": "-date",
    "DocumentReference": "-date",
    "Media": "-created",
    "ImagingStudy": "-started",
    "Composition": "-date",
}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Template:
    """One thing that is asked for.

    Attributes:
        key: Its key in `prefetch`.
        resource_type: What is searched, or read.
        parameters: Of the search; none for a read of the patient.
        most: Of what comes, so many of the newest are taken.
    """

    key: str
    resource_type: str
    parameters: tuple[tuple[str, str], ...] = ()
    most: int = 1

    @property
    def query(self) -> str:
        """The template as it stands in the discovery."""
        if not self.parameters:
            return f"{self.resource_type}/{PATIENT}"
        said = "&".join(f"{name}={_kept(value)}" for name, value in self.parameters)
        return f"{self.resource_type}?{said}"

    def search(self, patient: str) -> tuple[tuple[str, str], ...]:
        """Give the parameters of a search that finds the same for one patient."""
        if not self.parameters:
            return (("_id", patient),)
        return tuple((name, value.replace(PATIENT, patient)) for name, value in self.parameters)


def _kept(value: str) -> str:
    return value if value == PATIENT else quote(value, safe=":/|,-_.")


def templates_of(
    manifest: Manifest, *, trigger_type: str | None, local_codes: LocalCodes
) -> tuple[Template, ...]:
    """Give what is asked for, the patient first.

    Args:
        manifest: Of the model.
        trigger_type: Resource type that starts the route, where its trigger says so.
        local_codes: The hospital's own codes and what they mean.
    """
    found = [Template(PATIENT_KEY, "Patient")]
    found += [
        _of_input(each, local_codes) for each in manifest.inputs if each.source == "observation"
    ]
    newest_by = _NEWEST_BY.get(trigger_type or "")
    if newest_by and (manifest.image or manifest.text):
        asked = (("patient", PATIENT), ("_sort", newest_by), ("_count", "1"))
        found.append(Template("trigger", str(trigger_type), asked))
    return tuple(found)


def _of_input(each: Input, local_codes: LocalCodes) -> Template:
    codes = dict.fromkeys(code.key for code in (*each.codes, *each.panels))
    own = [local for local, meaning in local_codes.items() if meaning in codes]
    asked = ",".join(f"{system}|{code}" for system, code in (*codes, *own))
    is_one = each.aggregation == "latest" and each.look_back_h is None
    most = 1 if is_one else _MOST_OF_WINDOW
    parameters = (
        ("patient", PATIENT),
        ("code", asked),
        ("status", _SETTLED),
        ("_sort", "-date"),
        ("_count", str(most)),
    )
    return Template(each.id, "Observation", parameters, most)


def missing_of(request: CdsRequest, templates: Sequence[Template]) -> tuple[Template, ...]:
    """Give what the EHR did not bring."""
    return tuple(each for each in templates if each.key not in request.prefetch)


def taken_of(
    prefetch: Mapping[str, Sequence[Brought]], templates: Sequence[Template]
) -> Iterator[Brought]:
    """Give of what was brought what was asked for, each resource once."""
    seen: set[bytes] = set()
    for template in templates:
        for each in _newest(prefetch.get(template.key, ()), template):
            if each.raw not in seen:
                seen.add(each.raw)
                yield each


def _newest(found: Iterable[Brought], template: Template) -> list[Brought]:
    wanted = [each for each in found if each.content.get("resourceType") == template.resource_type]
    if len(wanted) <= template.most:
        return wanted
    return sorted(wanted, key=_moment, reverse=True)[: template.most]


def _moment(each: Brought) -> datetime:
    """Say when it was true; what can't be read is the oldest, and refused when it is validated."""
    try:
        return facts(each.content).effective or _LONG_AGO
    except (AttributeError, KeyError, TypeError, ValueError):
        return _LONG_AGO
