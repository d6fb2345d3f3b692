"""Who may ask by CDS Hooks is checked when the site file is read; a private key is refused."""

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, OctKey

from adapters.site import SiteInvalid, load_site
from adapters.site_cds_hooks import public_key_of
from tests.cds import cds_site, key
from tests.factories import SITE


def problems(text: str) -> list[str]:
    with pytest.raises(SiteInvalid) as found:
        load_site(text)
    return [f"{each.path}: {each.message}" for each in found.value.problems]


def written(text: str, made: object) -> str:
    public = orjson.dumps(key().as_dict(private=False)).decode()
    return text.replace(public, orjson.dumps(made).decode())


def test_each_hook_of_a_route_is_a_service():
    found = load_site(cds_site()).cds

    assert list(found.services) == ["ckd-risk-patient-view", "ckd-risk-order-sign"]
    assert found.base_url == "https://nadi.test"
    assert found.origins == {"https://ehr.test"}


def test_a_site_without_the_key_has_no_services():
    assert load_site(SITE).cds.services == {}


@pytest.mark.parametrize(
    "made",
    [
        ECKey.generate_key("P-256").as_dict(private=False),
        OctKey.generate_key().as_dict(),
        "nonsense",
        7,
        {"kty": "EC"},
    ],
    ids=["P-256", "a secret", "no PEM", "a number", "half a key"],
)
def test_a_key_that_tokens_may_not_be_signed_with_is_refused(made: object):
    (said,) = problems(written(cds_site(), made))

    assert "must be a public key" in said


def test_a_private_key_is_refused_without_being_repeated():
    private = key().as_dict(private=True)

    (said,) = problems(written(cds_site(), private))

    assert "is a private key" in said
    assert str(private["d"]) not in said


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_an_rsa_key_has_to_be_long():
    short = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - it is refused
    pem = short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    with pytest.raises(ValueError, match="at least 2048 bits"):
        public_key_of(pem)


def test_names_that_lead_nowhere_are_said():
    assert any(
        "unknown system 'hr'; did you mean 'ehr'?" in said
        for said in problems(cds_site().replace("{system: ehr, issuer", "{system: hr, issuer"))
    )


def test_a_route_needs_to_be_told_who_may_ask():
    text = cds_site()

    (said,) = problems(text[: text.index("cds_hooks:\n")])

    assert "needs the key `cds_hooks` of the site" in said


def test_two_clients_of_one_issuer_could_not_be_told_apart():
    text = cds_site()
    line = text[text.index("    ehr: {system: ehr, issuer") :]

    (said,) = problems(text + line.replace("    ehr:", "    other:"))

    assert "two clients have the same issuer" in said


@pytest.mark.parametrize("origin", ["https://ehr.test/app", "*", "null", "ehr.test"])
def test_an_origin_is_scheme_host_and_port(origin: str):
    (said,) = problems(cds_site().replace('["https://ehr.test"]', f'["{origin}"]'))

    assert "must be an origin without path" in said


def test_an_unknown_key_is_told_what_was_meant():
    (said,) = problems(cds_site().replace("within_ms", "witin_ms"))

    assert "unknown key; did you mean 'within_ms'?" in said
