"""(4.2) (4.3) What a patient's consents hide from a model, and what her labels ask of a result.

Where a Consent speaks of some data only, each resource is asked for by itself, and what is not
permitted is put aside before anything is read out of it. If a model would have read some of that,
the model is not asked at all (`masked`): neither a mask nor an imputed or older value may stand in
for what a patient hides, also where the model could do without the input. The refusal names neither
the input nor the label, which would tell what is hidden.

The bytes that a document points at (Binary, DICOM) are permitted with the document, unless they
carry labels of their own.

A result is as confidential as the most confidential of what it was made from.

Source: IHE PCF volume 1, 1:53.4.2; FHIR R4 security labels; HL7 Healthcare Privacy and Security
Classification System, high-water mark.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.core.attachments import HOLDERS
from gateway.core.consent import Question, high_water_mark
from gateway.core.consent.resource import labels_of
from gateway.core.event import reference_of
from gateway.core.routing import Route
from models.manifest import Input, Manifest
from workers.cases import Case, Json, Labels
from workers.documents import kind_of
from workers.features import Refusal
from workers.readings import LocalCodes, Reading, find_readings
from workers.reasons import REASONS

MASKED = Refusal("masked", (), (), f"{REASONS['masked'].capitalize()}.")


def without_masked(case: Case) -> Case:
    """Put aside what consent does not permit, of what was received."""
    if not case.question.is_limited:
        return case
    record, hidden = parted(case.question, case.record)
    shown, apart = attached_parted(case.question, case.attached)
    return replace(case, record=record, attached=shown, masked=(*hidden, *apart))


def with_chart(case: Case, found: Sequence[Json]) -> Case:
    """Add what the EHR knows, without what consent does not permit."""
    shown, hidden = parted(case.question, found)
    return replace(case, chart=(*case.chart, *shown), masked=(*case.masked, *hidden))


def may_read(question: Question, resource: Json) -> bool:
    """Say whether the patient's consents permit a resource."""
    try:
        is_bytes = resource["resourceType"] == "Binary"
        is_labelled = bool((resource.get("meta") or {}).get("security"))
        return (is_bytes and not is_labelled) or question.permits(resource)
    except (AttributeError, KeyError, TypeError, ValueError):
        # An EHR may answer with anything; of what can't be read it is not known what it is.
        return False


def parted(question: Question, found: Iterable[Json]) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """Part what consent permits from what it hides."""
    shown: list[Json] = []
    hidden: list[Json] = []
    for each in found:
        (shown if may_read(question, each) else hidden).append(each)
    return tuple(shown), tuple(hidden)


def attached_parted(
    question: Question, attached: Mapping[str, Json]
) -> tuple[dict[str, Json], tuple[Json, ...]]:
    """Part what a resource points at, by reference, from what of it consent hides."""
    shown = {literal: each for literal, each in attached.items() if may_read(question, each)}
    return shown, tuple(each for literal, each in attached.items() if literal not in shown)


def refusal_for(case: Case, local_codes: LocalCodes) -> Refusal | None:
    """Refuse where a model would have read what is hidden; None where it would not."""
    return refusal_of_hidden(case.model.manifest, case.masked, case.at, local_codes)


def refusal_of_hidden(
    manifest: Manifest, hidden: Sequence[Json], at: datetime, local_codes: LocalCodes
) -> Refusal | None:
    """Refuse where a model would have read what is hidden; None where it would not.

    Args:
        manifest: Of the model.
        hidden: What the patient's consents do not permit.
        at: The clinical time of what set the model going.
        local_codes: What the site's own codes mean.
    """
    if not hidden:
        return None
    try:
        return MASKED if _would_read(manifest, hidden, at, local_codes) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        # What an EHR answered is no valid R4: it can't be ruled out that it is an input.
        return MASKED


def _would_read(
    manifest: Manifest, hidden: Sequence[Json], at: datetime, local_codes: LocalCodes
) -> bool:
    kinds = {each.get("resourceType") for each in hidden}
    if "Patient" in kinds and any(each.source != "observation" for each in manifest.inputs):
        return True
    if kind_of(manifest) is not None and not HOLDERS.isdisjoint(kinds):
        return True
    readings = find_readings(manifest, hidden, patient=None, local_codes=local_codes)
    return any(
        _might_count(at, each, reading)
        for each in manifest.inputs
        for reading in readings.get(each.id, ())
    )


def _might_count(at: datetime, each: Input, reading: Reading) -> bool:
    if reading.time is None:
        return True
    hours = max(each.max_age_h or 0, each.look_back_h or 0)
    oldest = at - timedelta(hours=hours)
    return reading.time.first <= at and reading.time.last >= oldest


# -- the labels of a result ------------------------------------------------------------------


def labels_for(case: Case, sources: Iterable[str]) -> Labels:
    """Give the labels of a result: the high-water mark of what it was made from.

    Args:
        case: With all that was read.
        sources: References of what was read; what has no reference is counted in.
    """
    known = (*case.resources, *case.attached.values())
    return labels_of_made(case.content, known, sources, case.route)


def labels_of_made(
    content: Json, known: Iterable[Json], sources: Iterable[str], route: Route
) -> Labels:
    """Give the high-water mark of the triggering resource and of what of `known` was read."""
    known = tuple(known)
    if not any(map(labels_of, (content, *known))):
        return ()  # as mostly: then it does not matter which of them were read
    named = frozenset((*sources, ""))
    read = [each for each in known if reference_of(each) in named]
    is_normal = route.consent_terms.unlabelled_is_normal
    return high_water_mark([content, *read], unlabelled_is_normal=is_normal)
