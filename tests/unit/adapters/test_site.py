"""A site file is read whole: what is right becomes routes and systems, what is wrong is named."""

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from adapters.site import (
    Secret,
    SiteInvalid,
    SiteWatch,
    load_site,
    self_contained,
    site_schema,
)
from adapters.site_trigger import Trigger, check
from gateway.core.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "adapters" / "sites").glob("*.example.yaml"))
CREATININE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
    "valueQuantity": {"value": 1.50, "unit": "mg/dL"},
}
SITE = """\
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:9/fhir
routes:
  ckd-risk:
    source: ehr
    match: "Observation.where(code.coding.exists(system='http://loinc.org' and code='2160-0'))"
    consent: {purpose: TREAT}
    model: ckd-risk@1
    sink: {system: ehr}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SiteInvalid) as caught:
        load_site(text, source="s.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid_and_fits_the_schema(path):
    text = path.read_text("utf-8")

    site = load_site(text, source=path.name, folder=path.parent)

    assert site.routes
    jsonschema.validate(YAML(typ="safe").load(text), site_schema())


def test_the_published_schema_is_fresh():
    published = json.loads((ROOT / "docs" / "site.schema.json").read_text("utf-8"))

    assert published == site_schema(), "run: nadi site schema > docs/site.schema.json"


def test_a_route_explains_its_results_only_where_the_file_says_so():
    explaining = load_site(SITE + "    explain: true\n").route("ckd-risk")

    assert explaining is not None
    assert explaining.explain
    assert any("explain" in each for each in problems(SITE + '    explain: "yes"\n'))


def test_a_route_has_what_the_file_says_and_what_it_leaves_out():
    site = load_site(SITE)

    route = site.route("ckd-risk")
    assert route is not None
    assert (route.source, route.sink, route.model) == ("ehr", "ehr", "ckd-risk@1")
    assert (route.purpose, route.consent_default) == ("TREAT", "deny")
    assert not route.with_provenance
    assert not route.report_refusals
    assert not route.explain
    assert route.resource_type == "Observation"
    assert route.trigger(CREATININE)
    assert site.system("ehr").base_url == "http://127.0.0.1:9/fhir"
    assert site.system("nobody") is None


def test_all_problems_are_named_at_once_with_line_and_key():
    text = SITE.replace("source: ehr", "source: ehrr").replace("TREAT", "TREET")
    text = text.replace("model: ckd-risk@1", "model: ckd-risk").replace("sink:", "zink:")

    found = problems(text)

    assert found == [
        "s.yaml:7:3: routes.ckd-risk.sink: is missing",
        "s.yaml:8:5: routes.ckd-risk.source: unknown system 'ehrr'; did you mean 'ehr'?",
        (
            "s.yaml:10:15: routes.ckd-risk.consent.purpose: unknown purpose of use 'TREET'; "
            "did you mean 'TREAT'?"
        ),
        "s.yaml:11:5: routes.ckd-risk.model: must be name@version, such as ckd-risk@1",
        "s.yaml:12:5: routes.ckd-risk.zink: unknown key; did you mean 'sink'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1:1: must be a mapping"),
        ("- 1", "s.yaml:1:1: must be a mapping"),
        ("[", "is not YAML"),
        ("a: &x 1\nb: 2", "s.yaml:1:4: a: anchors and aliases are not allowed"),
        ("a: !!python/object:os.system x", "is not YAML"),
        ("site: a\nsite: b", "s.yaml:2:1: site: stands twice in this mapping (first on line 1)"),
        ("? [a]\n: b", "a key must be a plain word"),
        ("a: " + "[" * 30 + "]" * 30, "is nested too deeply"),
        ("a: " + "x" * 2**20, "is larger than 1 MiB"),
    ],
)
def test_what_is_no_site_file_is_refused(text, message):
    assert any(message in problem for problem in problems(text))


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("Observation.where(code = )", "FHIRPath syntax at line 1, column 26: unexpected ')'"),
        (
            "Observation.code trailing",
            "FHIRPath syntax at line 1, column 18: unexpected 'trailing'",
        ),
        ("Observation.where(", "unexpected end of the expression"),
        ("Observation.status = 'final", "FHIRPath syntax"),
        ("Observatoin.code", "unknown resource type 'Observatoin'; did you mean 'Observation'?"),
        ("Observation.code.exist()", "unknown function exist(); did you mean 'exists'?"),
        ("Observation.code.where()", "where() takes 1 arguments, not 0"),
        ("Observation.status.matches('(a+)+$')", "matches() is not allowed in a trigger"),
        (
            "Observation.code.codings.code = '1'",
            "no element of FHIR R4 is called 'codings'; did you mean 'coding'?",
        ),
        ("Observation.code.coding.where(codee = '1').exists()", "is called 'codee'; did you mean"),
        ("Observation.repeat(contained)", "repeat() is not allowed in a trigger"),
        ("Observation.trace('x')", "trace() is not allowed in a trigger"),
        ("Observation.status = %status", "variables (%…) are not available"),
        ("Observation.code or Patient.active", "names 2 resource types"),
        ("x" * 4001, "is longer than 4000 characters"),
    ],
)
def test_a_wrong_trigger_is_explained(match, message):
    assert any(message in problem for problem in check(match))


@pytest.mark.parametrize(
    ("match", "is_match"),
    [
        ("Observation", True),
        ("Patient", False),
        ("status = 'final'", True),
        ("Observation.status = 'amended'", False),
        ("Observation.value.ofType(Quantity).value > 1.4", True),
        ("Observation.code.coding.code", True),
        ("Observation.component", False),
        ("Observation.component.value.exists()", False),
        ("Observation.subject.reference.exists()", False),
        ("resourceType = 'Observation'", True),
    ],
)
def test_a_trigger_matches_unless_it_gives_nothing_or_false(match, is_match):
    assert check(match) == []
    assert Trigger(match)(CREATININE) is is_match


def test_a_trigger_that_fails_does_not_match_and_is_counted():
    trigger = Trigger("Observation.status.single() + 1 = 2")
    resource = {**CREATININE, "code": {"text": "unlike any other"}}

    is_match = trigger(resource)

    assert not is_match
    assert trigger.failures == 1


def test_a_trigger_leaves_the_resource_as_it_is():
    before = json.dumps(CREATININE)

    Trigger("Observation.code.coding.where(code='2160-0')")(CREATININE)

    assert json.dumps(CREATININE) == before


def test_a_literal_secret_is_refused_and_not_repeated():
    text = SITE.replace(
        "base_url: http://127.0.0.1:9/fhir",
        "base_url: http://127.0.0.1:9/fhir\n    auth: {kind: bearer, token: hunter2}",
    )

    [found] = problems(text)

    assert "a secret never stands in the site file" in found
    assert "hunter2" not in found


def test_a_secret_is_read_when_it_is_needed(tmp_path, monkeypatch):
    file = tmp_path / "token"
    secret = Secret(f"file:{file}")
    with pytest.raises(ConfigurationError):
        secret.resolve()
    file.write_text("abc\n")
    monkeypatch.setenv("NADI_TEST_TOKEN", " xyz ")

    assert secret.resolve() == "abc"
    assert Secret("env:NADI_TEST_TOKEN").resolve() == "xyz"


def test_an_address_takes_its_variables_from_the_environment(monkeypatch):
    text = SITE.replace("http://127.0.0.1:9/fhir", "http://${NADI_T_HOST}:${NADI_T_PORT:-80}/fhir/")
    system = load_site(text).systems["ehr"]
    monkeypatch.delenv("NADI_T_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="NADI_T_HOST"):
        _ = system.base_url
    monkeypatch.setenv("NADI_T_HOST", "ehr")

    assert system.base_url == "http://ehr:80/fhir"


@pytest.mark.parametrize(
    "address",
    [
        "ftp://x/fhir",
        "http://user@x/fhir",
        "http://x/fhir?a=b",
        "x/fhir",
        "http://",
        "http://10.1.2.300/fhir",
        "http://ehr:99999/fhir",
        "http://-/fhir",
        "http://${A:-a..b}/x",
    ],
)
def test_an_odd_address_is_refused(address):
    [found] = problems(SITE.replace("http://127.0.0.1:9/fhir", address))

    assert "systems.ehr.base_url: must be http:// or https://" in found


def test_codes_of_a_csv_file_are_embedded_in_what_is_applied(tmp_path):
    (tmp_path / "codes.csv").write_text("system,code,loinc\nurn:lab,CREAT,2160-0\n,NO,718-7\n")
    text = f"# keep me\n{SITE}codes:\n  csv: codes.csv\n"

    whole = self_contained(text, folder=tmp_path)

    site = load_site(whole)
    assert site.local_codes == {
        ("urn:lab", "CREAT"): ("http://loinc.org", "2160-0"),
        ("", "NO"): ("http://loinc.org", "718-7"),
    }
    assert "# keep me" in whole
    assert "csv" not in whole


def test_a_wrong_row_of_a_csv_file_is_named(tmp_path):
    (tmp_path / "codes.csv").write_text("code,loinc\nCREAT,2160-0\nUREA,urea\n")

    with pytest.raises(SiteInvalid) as caught:
        load_site(f"{SITE}codes: {{csv: codes.csv}}\n", folder=tmp_path)

    assert [str(each)[:20] for each in caught.value.problems] == ["codes.csv:3:1: loinc"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("urn:lab,UREA,urea", "loinc: must be a LOINC code, such as 2160-0"),
        ("urn:lab,UREA,", "loinc: is empty"),
        ("urn:lab,,2160-0", "code: is empty"),
        ("urn:lab,NA,,2951-2", "has more columns than the first line: is a comma too many?"),
    ],
    ids=["no code", "no loinc", "no local code", "comma"],
)
def test_a_wrong_row_of_a_csv_file_is_told_in_plain_words(tmp_path, row, says):
    (tmp_path / "codes.csv").write_text(f"system,code,loinc\n{row}\nurn:lab,K,2823-3,,\n")

    with pytest.raises(SiteInvalid) as caught:
        load_site(f"{SITE}codes: {{csv: codes.csv}}\n", folder=tmp_path)

    assert [str(each).partition(":2:1: ")[2] for each in caught.value.problems] == [says]


@pytest.mark.parametrize(
    ("rows", "mapped"),
    [("A,718-7\nA,2160-0\n", ""), ("A,718-7\n", 'map: [{code: A, loinc: "718-7"}]')],
    ids=["twice in the file", "in the file and in the map"],
)
def test_a_code_of_a_csv_file_that_is_mapped_already_is_named(tmp_path, rows, mapped):
    (tmp_path / "codes.csv").write_text(f"code,loinc\n{rows}")

    with pytest.raises(SiteInvalid, match="is mapped already"):
        load_site(f"{SITE}codes:\n  csv: codes.csv\n  {mapped}\n", folder=tmp_path)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n"], ids=["absent", "other columns"])
def test_a_csv_file_that_can_not_be_used_is_named(tmp_path, content):
    if content:
        (tmp_path / "codes.csv").write_text(content)

    with pytest.raises(SiteInvalid, match=r"codes\.csv"):
        load_site(f"{SITE}codes: {{csv: codes.csv}}\n", folder=tmp_path)


def test_a_code_mapped_twice_is_refused():
    row = '{code: A, loinc: "718-7"}'

    [found] = problems(f"{SITE}codes:\n  map:\n    - {row}\n    - {row}\n")

    assert "codes.map[1]: is mapped already in row 0" in found


code_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=100
)


@settings(deadline=None, max_examples=20)
@given(st.sets(code_texts.map(str.strip).filter(bool), max_size=5))
@example({"?0", "- x", "#1", "'", '"'})
def test_embedded_codes_come_back_as_they_were(codes):
    with _csv_folder(codes) as folder:
        whole = self_contained(f"{SITE}codes: {{csv: codes.csv}}\n", folder=folder)

        embedded = load_site(whole, folder=folder).local_codes
        assert {code for _, code in embedded} == codes


@contextmanager
def _csv_folder(codes):
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        with (Path(name) / "codes.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["code", "loinc"])
            writer.writerows([code, "718-7"] for code in codes)
        yield Path(name)


@dataclass
class Row:
    version: int
    yaml: str


class FakeStore:
    """A store that holds one site, and counts how often it was asked."""

    def __init__(self) -> None:
        self.row: Row | None = None
        self.looks = 0
        self.sites = self

    @contextmanager
    def read(self):
        self.looks += 1
        yield self

    def version(self):
        return self.row.version if self.row else 0

    def current(self):
        return self.row


def test_a_watch_looks_once_a_second_and_takes_up_a_new_version():
    store, now = FakeStore(), [0.0]
    watch = SiteWatch(store, monotonic=lambda: now[0])
    assert watch.current().routes == ()
    store.row = Row(1, SITE)
    assert watch.current().version == 0
    now[0] = 1.1

    site = watch.current()

    assert (site.version, site.name, store.looks) == (1, "test", 2)
    assert watch.current() is site


def test_a_watch_keeps_the_last_usable_version():
    store, now = FakeStore(), [0.0]
    store.row = Row(1, SITE)
    watch = SiteWatch(store, monotonic=lambda: now[0])
    assert watch.current().version == 1
    store.row, now[0] = Row(2, "site: [of, a, newer, nadi]"), 2.0

    assert watch.current().version == 1


def test_a_watch_that_has_nothing_usable_says_so():
    store = FakeStore()
    store.row = Row(1, "no: site")

    with pytest.raises(SiteInvalid):
        SiteWatch(store).current()


def test_an_image_archive_has_an_address_of_its_own(monkeypatch):
    text = SITE.replace(
        "base_url: http://127.0.0.1:9/fhir",
        "base_url: http://127.0.0.1:9/fhir\n    dicomweb_url: http://${NADI_TEST_PACS}/dicom-web/",
    )
    system = load_site(text).system("ehr")
    assert system is not None

    with pytest.raises(ConfigurationError, match="NADI_TEST_PACS"):
        _ = system.dicomweb_url
    monkeypatch.setenv("NADI_TEST_PACS", "pacs:80")

    assert system.dicomweb_url == "http://pacs:80/dicom-web"
    assert load_site(SITE).systems["ehr"].dicomweb_url is None
    assert "dicomweb_url" in problems(text.replace("http://${", "ftp://${"))[0]


SIGNER = '{name: university, key: "ed25519:2myfPiD0tKKubV0fLy9XtxfgK8ruMjGAJPQWNLJ1gxY="}'


def test_a_site_names_whose_model_packages_it_takes():
    rules = f"models:\n  signers: [{SIGNER}]\n  allow_operator_domains: [org.example]\n"

    trust = load_site(SITE + rules).trust

    assert list(trust.signers.values()) == ["university"]
    assert trust.operator_domains == {"org.example"}
    assert load_site(SITE).trust.signers == {}


def test_a_site_may_set_lower_limits_for_the_gates_of_models():
    ceilings = load_site(SITE + "models:\n  limits: {max_loss: 0.004}\n").trust.ceilings

    assert (ceilings.max_loss, ceilings.max_flips, ceilings.whose) == (0.004, 0.05, "the site's")
    assert load_site(SITE).trust.ceilings.max_loss == 0.02


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("signers: [{name: a, key: abc}]", "models.signers[0].key: not a public key"),
        ("signers: [{name: a}]", "models.signers[0].key: is missing"),
        (f"signers: [{SIGNER}, {SIGNER}]", "models.signers: a key stands there twice"),
        (
            f"signers: [{SIGNER.replace('university', 'built-in')}]",
            "'built-in' is the name of what comes with Nadi",
        ),
        ("limits: {max_loss: 0.5}", "models.limits.max_loss: "),
        ("singers: []", "models.singers: unknown key; did you mean 'signers'?"),
        (f"signers: [{SIGNER.replace('key', 'keys')}]", "unknown key; did you mean 'key'?"),
    ],
)
def test_wrong_rules_for_models_are_named_with_their_place(rules, message):
    assert any(message in problem for problem in problems(f"{SITE}models: {{{rules}}}\n"))
