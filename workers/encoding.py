"""(4.3) What each model is given: numbers from the record, then the image or text of the event.

What was received is used first. Only what is missing is asked of the EHR: numbers in one search
for several patients, an image or note by its reference. The numbers come first, since they may
guard: what a child's model must not be given is not fetched for it.

The EHR is asked outside of any transaction. When it is away the cases that need it are put back;
its image archive has a circuit of its own, so that results still reach the EHR when that is away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Any

from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import AgentKind
from gateway.core.errors import ProcessingError, TransientError
from models.manifest import Manifest
from workers.cases import MOST_ATTEMPTS, Case, Ending, failed, postponed, step_of
from workers.chart import Gap, described, search_chart
from workers.documents import DocumentRefused, kind_of, read_document, refusal_of
from workers.features import Features, Record, Refusal, read_record
from workers.fetching import CircuitOpen, Fetcher, Masked
from workers.masking import MASKED, refusal_for, with_chart
from workers.opening import Batch
from workers.ports import system_agent
from workers.shelf import Shelf

log = telemetry.get_logger()

#: How long something that is pointed at may be on its way here, for each attempt, in seconds.
_ON_ITS_WAY_S = 10.0
#: So long it is believed that an EHR which said what it has has nothing more, in seconds.
_TOLD_FOR_S = 60.0

Read = Features | Refusal
Json = Mapping[str, Any]


def encode(batch: Batch, cases: Sequence[Case]) -> list[tuple[Case, Read]]:
    """Turn each patient's record into the model's inputs, or into a reasoned refusal.

    Returns:
        Those that the model or a refusal answers; others have ended, or are put back.
    """
    numbers = _numbers(batch, cases)
    whole = batch.each(numbers, lambda pair: pair[0].job, lambda pair: _with_document(batch, *pair))
    return [pair for pair in whole if pair is not None]


# --- numbers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asking:
    """A case whose EHR has to be asked, and what can be said if it adds nothing."""

    case: Case
    gap: Gap
    read: Read


def _numbers(batch: Batch, cases: Sequence[Case]) -> list[tuple[Case, Read]]:
    first = batch.each(cases, lambda case: case.job, lambda case: (case, _first(batch, case)))
    encoded = [(case, read) for case, read in first if not isinstance(read, _Asking)]
    gaps = [read for _, read in first if isinstance(read, _Asking)]
    known = {asking.case.job.id: asking.read for asking in gaps}
    for system, group in groupby(sorted(gaps, key=_system), key=_system):
        asked = _ask_chart(batch, system, list(group))
        encoded += batch.each(
            asked,
            lambda case: case.job,
            lambda case: (case, _again(batch, case, known[case.job.id])),
        )
    return encoded


def _system(asking: _Asking) -> str:
    return asking.case.event.system


def _first(batch: Batch, case: Case) -> Read | _Asking:
    """Read what was received; where something is missing, say what the EHR has to be asked for."""
    if hidden := refusal_for(case, batch.round.site.local_codes):
        return hidden
    record = _record(batch, case)
    read = record.features(case.at)
    if isinstance(read, Features) and _is_complete(case.model.manifest, read):
        return read
    gap = None if _was_told(batch, case) else _gap(case, record)
    return _Asking(case, gap, read) if gap else read


def _again(batch: Batch, case: Case, known: Read) -> Read:
    """Read once more, if the EHR had anything to add."""
    if hidden := refusal_for(case, batch.round.site.local_codes):
        return hidden
    return _record(batch, case).features(case.at) if case.chart else known


def _is_complete(manifest: Manifest, read: Features) -> bool:
    """Say whether the EHR can't add anything: all is here, and only the latest values count."""
    is_latest = all(each.aggregation == "latest" for each in manifest.inputs)
    return is_latest and all(each.status == "present" for each in read.inputs)


def _was_told(batch: Batch, case: Case) -> bool:
    """Say whether the EHR said a moment ago all that it has of what the model reads."""
    told_ms = case.job.told_ms
    return told_ms is not None and batch.round.now_ms - told_ms < _TOLD_FOR_S * 1000


def _gap(case: Case, record: Record) -> Gap | None:
    """Say what the EHR has to be asked for; None when everything is here."""
    manifest = record.manifest
    codes = record.still_missing(case.at)
    reads_patient = any(each.source != "observation" for each in manifest.inputs)
    needs_patient = reads_patient and record.patient is None
    if not codes and not needs_patient:
        return None
    return Gap(case.patient, codes, case.at - timedelta(hours=manifest.look_back_h), needs_patient)


def _ask_chart(batch: Batch, system: str, asking: Sequence[_Asking]) -> list[Case]:
    """Add what the EHR knows; cases of an EHR that is away are put back."""
    known = batch.round.site.system(system)
    if known is not None and known.address is None:
        # It has no chart to be asked for: what was received has to do.
        return [each.case for each in asking]
    if not batch.round.lets_through(system):
        batch.endings += [_wait(batch, each.case, system) for each in asking]
        return []
    try:
        client = batch.ports.ehrs.connection(system).client
        found = _without_ours(batch, system, search_chart(client, [e.gap for e in asking]))
    except TransientError as error:
        batch.away[system] = error
        for each in asking:
            ending = failed(each.case.job, batch.round, error, batch.ports)
            record = _fetched(batch, each, f"The EHR did not answer: {type(error).__name__}.")
            batch.endings.append(replace(ending, records=(record, *ending.records)))
        return []
    except ProcessingError as error:
        # An EHR that refuses such a search will go on doing so: what was received has to do.
        log.warning("chart-refused", system=system, error=type(error).__name__)
        return [each.case for each in asking]
    except Exception as error:  # noqa: BLE001 - an answer that nobody expected
        for each in asking:
            batch.fail(each.case.job, error)
        return []
    batch.answered.add(system)
    return [
        with_chart(each.case, found[each.gap.patient]).after(_fetched(batch, each, ""))
        for each in asking
    ]


def _without_ours(
    batch: Batch, system: str, found: Mapping[str, Sequence[Json]]
) -> dict[str, list[Json]]:
    """Leave out the results that Nadi wrote: an EHR may have dropped what says so."""
    with batch.ports.store.read() as uow:
        keyed = {
            patient: [(uow.written.key(system, _plain(each)), each) for each in resources]
            for patient, resources in found.items()
        }
        keys = {key for resources in keyed.values() for key, _ in resources if key}
        ours = uow.written.among(keys)
    return {
        patient: [each for key, each in resources if key not in ours]
        for patient, resources in keyed.items()
    }


def _plain(resource: Json) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id', '')}"


def _wait(batch: Batch, case: Case, circuit: str) -> Ending:
    open_until_ms = batch.round.circuits[circuit].open_until_ms
    delay_s = (open_until_ms - batch.round.now_ms) / 1000 + batch.ports.random()
    return postponed(case.job, batch.round, delay_s, "The EHR is away; the chart is asked later.")


def _fetched(batch: Batch, asking: _Asking, reason: str) -> audit.AuditRecord:
    case = asking.case
    return audit.fetched(
        step_of(case.job, batch.round, reason),
        ehr=system_agent(case.event.system, AgentKind.SERVER),
        query=described(asking.gap, case.job.patient_key or ""),
    )


def _record(batch: Batch, case: Case) -> Record:
    return read_record(
        case.model.manifest,
        case.resources,
        patient=case.patient_resource,
        local_codes=batch.round.site.local_codes,
        trigger=case.content,
    )


# --- images and text ------------------------------------------------------------------------


def _with_document(batch: Batch, case: Case, read: Read) -> tuple[Case, Read] | None:
    """Add the event's image or text, where the model reads one and the numbers allow it."""
    if isinstance(read, Refusal) or kind_of(case.model.manifest) is None:
        return case, read
    if batch.is_late:
        reason = "What was before it in its batch took long."
        batch.endings.append(postponed(case.job, batch.round, 0, reason))
        return None
    fetcher = Fetcher(batch, case)
    try:
        found = _read_document(batch, case, read, fetcher)
    except CircuitOpen as closed:
        batch.endings.append(_wait(batch, case, closed.circuit))
        return None
    except TransientError as error:
        ending = failed(case.job, batch.round, error, batch.ports)
        records = (*case.fetches, *fetcher.records, *ending.records)
        batch.endings.append(replace(ending, records=records))
        return None
    if found is None:
        return None
    whole = replace(case, chart=(*case.chart, *fetcher.given))
    return replace(whole, fetches=(*case.fetches, *fetcher.records)), found


def _read_document(batch: Batch, case: Case, read: Features, fetcher: Fetcher) -> Read | None:
    manifest = case.model.manifest
    shelf = Shelf(case.patient, fetcher.base_url, case.attached, fetcher)
    try:
        document = read_document(manifest, case.model.encoder, case.content, shelf)
    except Masked:
        return MASKED
    except DocumentRefused as refused:
        if not refused.is_there and case.job.attempt < MOST_ATTEMPTS:
            # What is pointed at is often pushed or stored a moment after what points at it.
            reason = "What the resource points at is not there yet."
            batch.endings.append(postponed(case.job, batch.round, _ON_ITS_WAY_S, reason))
            return None
        return refusal_of(manifest, refused, case.content)
    tensors = {**read.tensors, **document.tensors}
    return replace(read, tensors=tensors, documents=(document.input,))
