"""What may stand where is read off the models: all of it is offered where it is misspelt."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from joserfc.jwk import ECKey
from pydantic import BaseModel

from adapters.site import SiteInvalid, load_site, site_schema
from adapters.site_model import SiteFile
from adapters.site_receive import kind_of
from adapters.site_shape import values
from adapters.site_yaml import dotted, read_yaml
from gateway.core.consent.vocabulary import PURPOSES

SIGNER = "ed25519:2myfPiD0tKKubV0fLy9XtxfgK8ruMjGAJPQWNLJ1gxY="
KEY = json.dumps(ECKey.generate_key("P-384", private=False).as_dict(private=False))
TLS = "tls: {certificate: /etc/nadi/port.pem, key: /etc/nadi/port.key}"
#: Every part that a site file may have.
EVERYTHING = f"""
site: all-of-it
systems:
  ehr:
    kind: fhir-rest
    base_url: https://ehr.example/fhir
    auth: {{kind: bearer, token: "file:/run/secrets/ehr"}}
    dicomweb_url: https://pacs.example/dicom-web
    dicomweb_auth: {{kind: basic, user: nadi, password: "env:NADI_PACS_PASSWORD"}}
    profile: bahmni
    search_parameters: ["Observation:ward"]
    rate: {{per_second: 5}}
    write_back:
      never: [task]
      codes: [{{of_code: ckd, code: uuid-1}}]
      panel: {{code: uuid-2, model: uuid-3}}
    receive:
      - push
      - poll: {{types: ["Observation?ward=3"], consents_wait_s: 120}}
      - subscription: {{types: [Observation], endpoint: "https://nadi.example/fhir"}}
      - atom: {{base_url: "https://ehr.example/atomfeed", feeds: [patient]}}
  smart:
    kind: fhir-rest
    base_url: https://smart.example/fhir
    auth: {{kind: smart-backend, client_id: nadi, key: "file:/run/secrets/smart"}}
    tls: {{authority: /etc/nadi/smart.pem}}
    receive: [{{push: {{signature_secret: "file:/run/secrets/hook"}}}}]
  oauth:
    kind: fhir-rest
    base_url: https://oauth.example/fhir
    auth: {{kind: client-credentials, client_id: nadi, secret: "file:/run/secrets/oauth",
      token_url: "https://oauth.example/token"}}
  open:
    kind: fhir-rest
    base_url: http://127.0.0.1:9/fhir
    auth: {{kind: none}}
  lab:
    kind: hl7v2
    patients: {{of: ehr, identifier: "urn:oid:1.2.3"}}
    oru: {{host: lis, port: 2576, application: A, facility: B,
      tls: {{authority: /etc/nadi/ca.pem}}}}
    receive: [{{mllp: {{port: 2575, timezone: Asia/Kolkata, {TLS}}}}}]
  pacs:
    kind: dicom
    patients: {{of: ehr, identifier: "urn:oid:1.2.3"}}
    receive: [{{dicom: {{port: 104, callers: [PACS]}}}}]
  documents:
    kind: folder
    receive: [{{drop: {{folder: /srv/drop}}}}]
routes:
  ckd:
    source: ehr
    match: Observation.exists()
    consent: {{purpose: TREAT}}
    model: ckd-risk@1
    sink: {{system: ehr, write_back: {{only: [observation, worklist]}}}}
    run: {{between: ["20:00", "06:00"]}}
    cds_hooks: {{hooks: [patient-view]}}
codes: {{map: [{{code: A, loinc: 2160-0}}]}}
models: {{signers: [{{name: university, key: "{SIGNER}"}}], limits: {{max_loss: 0.01}}}}
witnesses:
  mount: {{kind: file, path: /mnt/log/checkpoints}}
  other: {{kind: http, url: "https://other.example/witness/checkpoints"}}
  logs: {{kind: syslog, host: logs.example}}
  mail: {{kind: email, to: a@example.org, sender: b@example.org, smtp: "mail.example:25"}}
  paper: {{kind: qr, folder: /srv/qr}}
notices: {{"1": {{languages: [en, hi]}}}}
consent_signers: {{university: "{SIGNER}"}}
abdm:
  consent_manager: abdm
  facilities: [IN123]
  purposes: {{CAREMGT: {{stands_for: [TREAT], inference: allow}}}}
break_glass: {{clinicians: [a], alert: {{url: "https://pager.example/x"}}}}
consent:
  actor: {{identifiers: [{{system: "urn:a", value: b}}]}}
  implicit: {{ETREAT: {{decision: deny}}}}
revocation: {{delivered: keep}}
cds_hooks:
  base_url: https://nadi.example
  clients: {{emr: {{system: ehr, issuer: "https://ehr.example", keys: [{KEY}]}}}}
hours: {{timezone: Asia/Kolkata}}
privacy: {{fiduciary: H, address: Road, officer: {{name: A, email: a@example.org}},
  outside_india: {{ehr: "Rule 15"}}}}
retention: {{payloads: {{days: 3650}}}}
"""


def parts(part: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, BaseModel]]:
    """Give every part of a read file with where it stands."""
    if isinstance(part, BaseModel):
        yield path, part
        inner = [(name, getattr(part, name)) for name in type(part).model_fields]
    elif isinstance(part, dict):
        inner = list(part.items())
    else:
        inner = list(enumerate(part)) if isinstance(part, list) else []
    for step, value in inner:
        yield from parts(value, (*path, step))


def written_parts(document: Any) -> list[tuple[Any, BaseModel]]:
    """The parts that stand in the file itself, and are no item of `receive`, which has one key."""
    found = parts(SiteFile.model_validate(document.value))
    there = [(at, part) for at, part in found if isinstance(document.at(at), dict)]
    return [(at, part) for at, part in there if not type(part).__name__.endswith("Way")]


def problems(text: str) -> dict[str, str]:
    with pytest.raises(SiteInvalid) as caught:
        load_site(text, source="s.yaml")
    return {each.path: each.message for each in caught.value.problems}


def test_the_file_that_has_everything_is_valid_and_has_every_part_that_there_is():
    document = read_yaml(EVERYTHING, "s.yaml")
    shown = {type(part).__name__ for _, part in parts(SiteFile.model_validate(document.value))}
    known = {name for name, each in site_schema()["$defs"].items() if "properties" in each}

    assert load_site(EVERYTHING).name == "all-of-it"
    assert known - shown == set(), "put what is new into EVERYTHING: its keys are tried then"


def test_every_key_that_there_is_is_offered_where_it_is_misspelt():
    document = read_yaml(EVERYTHING, "s.yaml")
    wanted = {}
    for at, part in written_parts(document):
        mapping = document.at(at)
        for name in type(part).model_fields:
            mapping[f"{name}q"] = 1
            wanted[dotted((*at, f"{name}q"))] = f"unknown key; did you mean '{name}'?"

    found = problems(json.dumps(document.value))

    assert {at: found.get(at) for at in wanted} == wanted


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "kind: bearer",
            "kind: bearar",
            "known: basic, bearer, client-credentials, none, smart-backend; did you mean 'bearer'?",
        ),
        (
            "kind: hl7v2",
            "kind: hl7",
            "known: dicom, fhir-rest, folder, hl7v2; did you mean 'hl7v2'?",
        ),
        ("kind: qr", "kind: qrr", "known: email, file, http, qr, syslog; did you mean 'qr'?"),
        ("profile: bahmni", "profile: Bahmi", "unknown profile 'Bahmi'; did you mean 'bahmni'?"),
        ("profile: bahmni", "profile: openmrs", "; did you mean 'openmrs-fhir2'?"),
        ("types: [Observation]", "types: [Obs]", "type 'Obs'; did you mean 'Observation'?"),
        ("//pager.example/x", "//10.1.2.300/x", "must have the name or the address of a host"),
        ("//other.example/w", "//other.example:0/w", "and a port that there is"),
        ("mail.example:25", "mail.example:99999", "must have a port from 1 to 65535"),
        ("mail.example:25", "10.1.2.300:25", "must be the name or the address of a host"),
        ("logs.example", "logs..example", "must be the name or the address of a host"),
        ("never: [task]", "never: [taks]", "'worklist'; did you mean 'task'?"),
        ("only: [observation,", "only: [observaton,", "; did you mean 'observation'?"),
        (
            "purpose: TREAT",
            "purpose: treat",
            "unknown purpose of use 'treat'; did you mean 'TREAT'?",
        ),
        (
            "purpose: TREAT",
            "purpose: X",
            "purpose of use 'X'; " + f"{len(PURPOSES)} are known: see `nadi site schema`",
        ),
        ("stands_for: [TREAT]", "stands_for: [TREET]", "; did you mean 'TREAT'?"),
        ("{ETREAT: {", "{ETREET: {", "unknown purpose of use 'ETREET'; did you mean 'ETREAT'?"),
        ("hooks: [patient-view]", "hooks: [patient_view]", "; did you mean 'patient-view'?"),
        ("feeds: [patient]", "feeds: [patients]", "or 'encounter'; did you mean 'patient'?"),
        ("delivered: keep", "delivered: kept", "or 'entered-in-error'; did you mean 'keep'?"),
        ("{payloads", "{after_erasure: refused, payloads", "'afresh'; did you mean 'refuse'?"),
        ('{ehr: "Rule', '{her: "Rule', "unknown system 'her'; did you mean 'ehr'?"),
        ("- push", "- pusch", "must be push, or one of dicom"),
        ("- push", "- pusch", "; did you mean 'push'?"),
        ("- poll:", "- pol:", "; did you mean 'poll'?"),
        ("Asia/Kolkata}", "Asia/Kolkatta}", "'Asia/Kolkatta'"),
        ("Asia/Kolkata}", "Asia/Kolkatta}", "; did you mean 'Asia/Kolkata'?"),
    ],
)
def test_a_word_that_is_none_of_those_known_is_told_which_was_meant(before, after, said):
    assert before in EVERYTHING

    assert any(said in each for each in problems(EVERYTHING.replace(before, after)).values())


@pytest.mark.parametrize(
    ("before", "after", "at", "said"),
    [
        (
            "kind: hl7v2",
            "kind: mllp",
            "systems.lab.kind",
            "unknown kind; known: dicom, fhir-rest, folder, hl7v2; did you mean 'hl7v2'?",
        ),
        (
            "kind: hl7v2",
            "kind: fhir",
            "systems.lab.kind",
            "unknown kind; known: dicom, fhir-rest, folder, hl7v2; did you mean 'fhir-rest'?",
        ),
        (
            "kind: hl7v2",
            "kind: Bahmni",
            "systems.lab.kind",
            (
                "unknown kind; known: dicom, fhir-rest, folder, hl7v2; did you mean 'fhir-rest', "
                "with `profile: bahmni` beside it?"
            ),
        ),
        (
            "{kind: none}",
            "{kind: oauth2}",
            "systems.open.auth.kind",
            (
                "unknown kind; known: basic, bearer, client-credentials, none, smart-backend; "
                "did you mean 'client-credentials'?"
            ),
        ),
        (
            "{purpose: TREAT}",
            "{purpose: TREAT, default: allow}",
            "routes.ckd.consent.default",
            "must be 'deny' or 'permit'; did you mean 'permit'?",
        ),
        (
            "{purpose: TREAT}",
            "{purpose: TREAT, default: refuse}",
            "routes.ckd.consent.default",
            "must be 'deny' or 'permit'; did you mean 'deny'?",
        ),
        (
            "source: ehr",
            "source: ehr\n    explain: yes",
            "routes.ckd.explain",
            "must be true or false; did you mean true, without quotes?",
        ),
        (
            "source: ehr",
            'source: ehr\n    explain: "False"',
            "routes.ckd.explain",
            "must be true or false; did you mean false, without quotes?",
        ),
        (
            "source: ehr",
            "source: ehr\n    explain: ture",
            "routes.ckd.explain",
            "must be true or false; did you mean true?",
        ),
        (
            "source: ehr",
            "source: ehr\n    explain: 7",
            "routes.ckd.explain",
            "must be true or false",
        ),
        (
            "inference: allow",
            "inference: permit",
            "abdm.purposes.CAREMGT.inference",
            "must be 'allow' or 'deny'; did you mean 'allow'?",
        ),
        (
            "port: 2575",
            'port: "2575"',
            "systems.lab.receive[0].mllp.port",
            "must be a whole number, without quotes",
        ),
    ],
)
def test_what_others_call_the_same_is_told_by_our_word_where_it_stands(before, after, at, said):
    assert before in EVERYTHING

    found = problems(EVERYTHING.replace(before, after, 1))

    assert found.get(at) == said, found


def test_where_a_kind_is_missing_none_is_guessed():
    found = problems(EVERYTHING.replace("auth: {kind: none}", "auth: {}"))

    assert (
        found["systems.open.auth"]
        == "needs `kind`; known: basic, bearer, client-credentials, none, smart-backend"
    )


def test_a_key_of_another_kind_is_not_offered():
    found = problems(EVERYTHING.replace("kind: none}", "kind: none, tokn: a}"))

    assert found["systems.open.auth.tokn"] == "unknown key; known: kind"


def test_every_text_that_is_no_free_one_is_known_by_its_format():
    document = read_yaml(EVERYTHING, "s.yaml")

    found = {str(text): place.schema.get("format") for place, text in values(document.value)}

    assert {text: form for text, form in found.items() if form} == {
        "file:/run/secrets/ehr": "secret-reference",
        "env:NADI_PACS_PASSWORD": "secret-reference",
        "file:/run/secrets/smart": "secret-reference",
        "file:/run/secrets/hook": "secret-reference",
        "file:/run/secrets/oauth": "secret-reference",
        "/etc/nadi/smart.pem": "file-path",
        "/etc/nadi/port.pem": "file-path",
        "/etc/nadi/port.key": "file-path",
        "/etc/nadi/ca.pem": "file-path",
        "/srv/drop": "directory-path",
        "/srv/qr": "directory-path",
        "/mnt/log/checkpoints": "path",
    }


def test_the_items_of_receive_are_those_that_the_models_name():
    document = read_yaml(EVERYTHING, "s.yaml")
    items = document.at(("systems", "ehr", "receive"))

    assert [kind_of(each) for each in items] == ["push", "poll", "subscription", "atom"]
