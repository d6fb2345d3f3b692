"""What a site says of how results go into an EHR."""

import pytest

from adapters.site import SiteInvalid, load_site
from gateway.core.ladder import IfLabelLost, Rung, Terms

SITE = """\
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:9/openmrs/ws/fhir2/R4
    auth: {kind: basic, user: nadi, password: "env:NADI_EHR_PASSWORD"}
    profile: openmrs-fhir2
    write_back:
      never: [task]
      if_label_lost: stop
      codes:
        - {of_system: "urn:nadi", of_code: ckd, code: uuid-1, display: "AI: CKD risk"}
routes:
  ckd-risk:
    source: ehr
    match: "Observation.code.coding.where(code='2160-0')"
    consent: {purpose: TREAT}
    model: ckd-risk@1
    sink: {system: ehr, write_back: {only: [observation, worklist]}}
"""


def problems(text: str) -> str:
    with pytest.raises(SiteInvalid) as caught:
        load_site(text, source="s.yaml")
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_profile_login_and_terms_are_read() -> None:
    site = load_site(SITE)

    ehr = site.systems["ehr"]
    assert (ehr.profile, ehr.user) == ("openmrs-fhir2", "nadi")
    assert ehr.terms == Terms(
        never=frozenset({Rung.TASK}),
        if_label_lost=IfLabelLost.STOP,
        codes={("urn:nadi", "ckd"): ("", "uuid-1", "AI: CKD risk")},
    )
    assert site.routes[0].terms.only == {Rung.OBSERVATION, Rung.WORKLIST}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("openmrs-fhir2\n    write", "epic\n    write", "unknown profile 'epic'; known: bahmni"),
        ("never: [task]", "never: [fax]", "must be 'observation'"),
        ("only: [observation, worklist]", "only: []", "names no rung"),
        ("if_label_lost: stop", "if_lost: stop", "unknown key; did you mean 'if_label_lost'?"),
        ("of_code: ckd", "of_cod: ckd", "did you mean 'of_code'?"),
        ("env:NADI_EHR_PASSWORD", "secret", "a secret never stands in the site file"),
        ("user: nadi", 'user: "a:b"', "without a colon"),
    ],
)
def test_what_is_wrong_is_named(before: str, after: str, message: str) -> None:
    assert message in problems(SITE.replace(before, after))
