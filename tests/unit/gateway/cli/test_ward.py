"""A ward is played against the real stand-in EHR and a small fake of Nadi."""

import asyncio
import io

import httpx
import orjson
import pytest
from rich.console import Console
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox.server import create_app
from adapters.sandbox.ward import ward
from gateway.cli.ward_run import RESULT_SYSTEM, ApiJobs, JobView, WardPlay, unmet
from gateway.cli.ward_view import line, live, summary

PATIENTS, SEED, RATE = 12, 3, 5000.0


class FakeNadi:
    """Takes events, writes a result for whom one is expected, and refuses the others."""

    def __init__(self, made, ehr):
        self.made = made
        self.ehr = ehr
        self.jobs = []
        self.busy = 2
        self.copies = 1
        self.wrong_reason = None
        self.app = Starlette(
            routes=[
                Route("/fhir/{type}/{id}", self.put, methods=["PUT"]),
                Route("/fhir/Task/{id}", self.task, methods=["GET"]),
            ]
        )

    async def put(self, request):
        if self.busy:
            self.busy -= 1
            return Response(status_code=503)
        resource = orjson.loads(await request.body())
        event_id = f"event-{len(self.jobs)}-{resource['id']}"
        codes = {each["code"] for each in resource.get("code", {}).get("coding", ())}
        if codes & {"2160-0", "14682-9"}:
            await self._run(event_id, resource)
        return _json({"resourceType": "Task", "id": event_id, "status": "completed"}, 202)

    async def task(self, request):
        [job] = [each for each in self.jobs if each.event_id == request.path_params["id"]]
        coding = [{"code": job.business_status}]
        return _json(
            {
                "resourceType": "Task",
                "status": job.state,
                "businessStatus": {"coding": coding},
                "output": [{}],
            }
        )

    async def read(self, event_ids):
        return [job for job in self.jobs if job.event_id in event_ids]

    async def _run(self, event_id, resource):
        patient = resource["subject"]["reference"].removeprefix("Patient/")
        expected = self.made.expectations[patient]
        if expected != "result":
            reason = self.wrong_reason or expected.removeprefix("refused:")
            self.jobs.append(JobView(event_id, "rejected", reason))
            return
        self.jobs.append(JobView(event_id, "completed", "delivered"))
        for _ in range(self.copies):
            result = {
                "resourceType": "Observation",
                "identifier": [{"system": RESULT_SYSTEM, "value": resource["id"]}],
                "subject": resource["subject"],
                "derivedFrom": [{"reference": f"Observation/{resource['id']}/_history/1"}],
            }
            await self.ehr.post("Observation", content=orjson.dumps(result))


def _json(value, status=200):
    return Response(orjson.dumps(value), status, media_type="application/fhir+json")


def _client(app):
    headers = {"Content-Type": "application/fhir+json"}
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://x/fhir", headers=headers)


def played(change=lambda _: None, *, by_api=False):
    """Play a ward to its end; give the play."""

    async def run():
        made = ward(PATIENTS, SEED)
        async with _client(create_app()) as ehr:
            nadi = FakeNadi(made, ehr)
            change(nadi)
            async with _client(nadi.app) as client:
                play = WardPlay(made, client, ehr, ApiJobs(client) if by_api else nadi)
                await play.prepare()
                await play.push(RATE)
                await play.look()
                return play

    return asyncio.run(run())


def text_of(*renderables):
    console = Console(width=120, file=io.StringIO())
    for each in renderables:
        console.print(each)
    return console.file.getvalue()


@pytest.mark.parametrize("by_api", [False, True], ids=["jobs from the database", "from the API"])
def test_a_ward_that_goes_well_is_done_and_met(by_api):
    play = played(by_api=by_api)

    assert play.is_done
    assert unmet(play) == {}
    assert play.tally.accepted == play.tally.planned
    assert play.tally.repeated == 2
    assert play.tally.duplicates == 0
    assert len(play.tally.latencies_s) == len(play.tally.results) > 0


def test_results_that_are_in_the_ehr_twice_are_counted_as_duplicates():
    play = played(lambda nadi: setattr(nadi, "copies", 2))

    assert play.tally.duplicates > 0
    assert unmet(play)


def test_another_refusal_than_expected_is_named():
    play = played(lambda nadi: setattr(nadi, "wrong_reason", "model-unavailable"))

    assert set(unmet(play).values()) == {"model-unavailable instead of consent-denied"}


def test_the_summary_says_where_to_look_next():
    play = played()

    text = text_of(
        live(play),
        line(play),
        summary(play, docs_url="http://d/docs", nadi=("nadi", " --data-dir d")),
    )

    assert "All as expected" in text
    assert "http://d/docs" in text
    assert "nadi audit list --patient Patient/ward3-" in text
    assert "nadi audit verify --data-dir d" in text
    assert "consent-denied" in text


def test_the_summary_says_what_went_wrong():
    play = played(lambda nadi: setattr(nadi, "copies", 2))

    text = text_of(summary(play, docs_url="", nadi=("nadi", "")))

    assert "Not as expected" in text
    assert "in the EHR twice" in text
    assert "2 results instead of 1" in text
