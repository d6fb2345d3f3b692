"""Which listeners a site file wants, and what it may not say of them."""

import pytest

from adapters.site import SiteInvalid, load_site

SITE = """
site: district-hospital
systems:
  ehr:
    kind: fhir-rest
    base_url: https://ehr.hospital.example/fhir
    receive: [push{more}]
    {ehr}
  lab:
    kind: hl7v2
    patients: {{of: ehr, identifier: "https://hospital.example/mrn"}}
    receive:
      - mllp: {{port: 2575, timezone: Asia/Kolkata{settings}}}
routes: {routes}
"""


def site(*, settings: str = "", more: str = "", ehr: str = "title: EHR", routes: str = "{}"):
    return load_site(SITE.format(settings=settings, more=more, ehr=ehr, routes=routes))


def problems(**changed: str) -> list[str]:
    with pytest.raises(SiteInvalid) as found:
        site(**changed)
    return [f"{each.path}: {each.message}" for each in found.value.problems]


def test_a_feed_has_a_name_and_speaks_for_the_system_whose_patients_it_is_about():
    found = site()

    (feed,) = found.feeds.values()
    assert (feed.name, feed.kind, feed.system, feed.speaks_for) == (
        "lab/mllp",
        "mllp",
        "lab",
        "ehr",
    )
    assert feed.entry.port == 2575
    assert feed.patients.identifier == "https://hospital.example/mrn"
    assert found.of_patients == ("ehr",)
    assert found.systems["lab"].feeds == (feed,)


def test_a_system_that_pushes_has_no_feed():
    assert site().systems["ehr"].feeds == ()


def test_an_ehr_with_a_feed_of_its_own_speaks_for_itself():
    found = site(
        more=", {mllp: {port: 2576, timezone: UTC}}",
        ehr='patients: {identifier: "urn:oid:1.2.3"}',
    )

    assert found.feeds["ehr/mllp"].speaks_for == "ehr"


def test_the_settings_of_a_listener_say_what_is_wrong_with_them():
    assert problems(settings=", prot: 1") == [
        "systems.lab.receive[0].mllp.prot: unknown key; did you mean 'port'?"
    ]
    (network,) = problems(settings=", allow: [10.1.2.0/99]")
    assert network.startswith("systems.lab.receive[0].mllp.allow[0]: must be an address or a net")
    (uri,) = problems(settings=", authorities: {HOSP: nonsense}")
    assert uri.startswith("systems.lab.receive[0].mllp.authorities.HOSP: must be a URI, such as")


def test_a_probe_of_atom_feeds_needs_the_feed_of_patients():
    feed = (
        ', {{atom: {{base_url: "https://emr.example/atomfeed", feeds: [{}], probe_every_s: 60}}}}'
    )

    (said,) = problems(more=feed.format("encounter"))

    assert said.startswith("systems.ehr.receive[1].atom.feeds: a probe arrives by the feed patient")
    assert site(more=feed.format("encounter, patient")).feeds["ehr/atom"].entry.probe_every_s == 60


def test_a_kind_of_listener_that_does_not_exist_is_named():
    (said,) = problems(more=", {pigeon: {}}")

    assert said.startswith("systems.ehr.receive[1]: must be push, or one of dicom, drop")


def test_an_archive_says_who_may_send_and_whose_patients_it_has():
    archive = """
site: a
systems:
  pacs: {kind: dicom, receive: [{dicom: {port: 104, ae_title: 'A\\B'}}]}
"""

    with pytest.raises(SiteInvalid) as found:
        load_site(archive)

    whose, callers, title = (f"{each.path}: {each.message}" for each in found.value.problems)
    assert whose.startswith("systems.pacs.patients: needs `patients`: whose they are")
    assert callers == "systems.pacs.receive[0].dicom.callers: is missing"
    assert title.startswith("systems.pacs.receive[0].dicom.ae_title: must be an AE title")


def test_what_contradicts_itself_is_refused():
    assert problems(more=", {mllp: {port: 2575, timezone: UTC}}") == [
        "systems.ehr.patients: needs `patients`: whose they are, and the URI of their number",
        "systems.lab.receive[0].mllp.port: port 2575 is that of 'ehr' already",
    ]
    assert problems(ehr='patients: {of: lab, identifier: "urn:a:b"}')[0] == (
        "systems.ehr.patients.of: a system with a FHIR API has patients of its own"
    )
    assert problems(more=", push") == [
        "systems.ehr.receive[1]: push stands there twice; give the second one a system of its own"
    ]


def test_a_route_names_the_system_of_the_patients_as_its_source():
    route = (
        "{r: {source: lab, match: Observation, consent: {purpose: TREAT}, model: m@1, "
        "sink: {system: lab}}}"
    )

    assert problems(routes=route) == [
        "routes.r.source: 'lab' speaks of the patients of 'ehr': write source: ehr",
        "routes.r.sink.system: 'lab' takes no results: it has neither a FHIR API nor `oru`",
    ]


def test_a_system_without_a_kind_is_told_which_kinds_there_are():
    with pytest.raises(SiteInvalid) as found:
        load_site("site: a\nsystems: {lab: {kind: fax}}\n")

    assert found.value.problems[0].message == "unknown kind; known: dicom, fhir-rest, folder, hl7v2"


def test_a_misspelt_resource_type_that_would_be_followed_is_named():
    assert problems(more=", {poll: {types: [Observaton], include: ['Observaton:subject']}}") == [
        f"systems.ehr.receive[1].poll.{key}[0]: unknown resource type 'Observaton'; "
        "did you mean 'Observation'?"
        for key in ("types", "include")
    ]


def test_a_misspelt_search_parameter_is_refused_and_one_of_the_ehr_s_own_is_named():
    searched = ', {{poll: {{types: ["Observation?ward=3"], include: ["Observation:{}"]}}}}'
    own = 'search_parameters: ["Observation:ward"]'

    unknown, reference = problems(more=searched.format("subjct"))

    assert unknown.startswith(
        "systems.ehr.receive[1].poll.types[0]: Observation has no search parameter 'ward'"
    )
    assert "named in `search_parameters`" in unknown
    assert "poll.include[0]: Observation has no search parameter 'subjct'; did you" in reference
    assert site(more=searched.format("subject"), ehr=own).feeds["ehr/poll"].entry.types
    (no_type,) = problems(ehr='search_parameters: ["Observaton:ward"]')
    assert no_type.startswith(
        "systems.ehr.search_parameters[0]: unknown resource type 'Observaton'"
    )


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::", "localhost", "fe80::1", "nadi_listener", "lab.hospital.example."]
)
def test_a_port_listens_at_an_address_or_at_a_name(host):
    assert site(settings=f", host: '{host}'").feeds["lab/mllp"].entry.host


@pytest.mark.parametrize(
    "host",
    ["10.1.2.300", "lab:2575", "[::1]", "-lab", "a..b", "", "my host", "lab/x", "x" * 64],
)
def test_what_is_neither_an_address_nor_a_name_is_no_host(host):
    (said,) = problems(settings=f", host: '{host}'")

    where, _, what = said.partition(": ")
    assert where == "systems.lab.receive[0].mllp.host"
    assert what == "must be the name or the address of a host, without a port"


def test_an_unknown_character_set_is_told_with_those_that_are_known():
    (problem,) = problems(settings=", charset: latin1")

    assert problem.startswith(
        "systems.lab.receive[0].mllp.charset: unknown character set; write it"
    )
    assert site(settings=", charset: utf-8").feeds["lab/mllp"].entry.charset == "utf-8"


def test_names_in_a_remedy_keep_their_capitals():
    assert "timezone: Asia/Kolkata" in problems(more=", fax")[0]
