"""Tokens of a real server that checks all that SMART Backend Services wants."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, OctKey, RSAKey

from adapters import token_login
from adapters.authorization import Secret
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import EhrLoginFailed
from adapters.site import load_site
from adapters.token_login import (
    KEPT_AT_MOST_S,
    REPLACED_EVERY_S,
    TokenLogin,
    TokenServerAway,
)
from gateway.core.errors import ConfigurationError
from tests.authorizing import Authorizing, authorizing
from tests.sandbox import TOKEN, SandboxEhr

EC = ECKey.generate_key("P-384")
RSA = RSAKey.generate_key(2048)
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refused
SCOPES = ("system/*.rs", "system/*.cu")


def signing(server: Authorizing, folder: Path, key: ECKey | RSAKey = EC) -> TokenLogin:
    file = folder / "key.pem"
    file.write_bytes(key.as_pem(private=True))
    return TokenLogin(
        whose="System 'ehr'",
        address=f"{server.base}/fhir",
        client_id="nadi",
        secret=Secret(f"file:{file}"),
        is_asymmetric=True,
        scopes=SCOPES,
    )


@pytest.fixture(params=[EC, RSA], ids=["ES384", "RS384"])
def key(request: pytest.FixtureRequest) -> ECKey | RSAKey:
    return request.param


def test_a_signed_assertion_gets_a_token_where_the_ehr_says(key: ECKey | RSAKey, tmp_path: Path):
    with authorizing(key=key) as server:
        assert signing(server, tmp_path, key).header() == "Bearer given-out"


def test_a_client_with_a_secret_gets_one_whatever_letters_are_in_it(tmp_path: Path):
    secret = "it's: 100 % + ü"  # noqa: S105 - made up
    (tmp_path / "secret").write_text(secret, "utf-8")

    with authorizing(secret=secret, client_id="na:di") as server:
        login = TokenLogin(
            whose="System 'ehr'",
            address="http://unused.test",
            client_id="na:di",
            secret=Secret(f"file:{tmp_path / 'secret'}"),
            is_asymmetric=False,
            token_url=server.token_url,
        )
        assert login.header() == "Bearer given-out"

    assert "scope" not in server.asked[0]


def test_a_token_is_asked_for_once_by_however_many_threads(tmp_path: Path):
    with authorizing(key=EC) as server, ThreadPoolExecutor(8) as pool:
        login = signing(server, tmp_path)
        headers = set(pool.map(lambda _: replace(login).header(), range(40)))

    assert headers == {"Bearer given-out"}
    assert len(server.asked) == 1


def test_a_token_that_has_ended_is_asked_for_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(token_login.time, "monotonic", lambda: now[0])
    with authorizing(key=EC, expires_in=60) as server:
        login = signing(server, tmp_path)
        seen = []
        for passed_s in (0.0, 30.0, 15.0, 30.0):
            now[0] += passed_s
            server.token = f"token-{len(server.asked)}"
            seen.append(login.header())

    assert seen == ["Bearer token-0", "Bearer token-0", "Bearer token-1", "Bearer token-1"]


@pytest.mark.parametrize("expires_in", [None, 86_400])
def test_no_token_is_kept_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expires_in: int | None
):
    now = [1000.0]
    monkeypatch.setattr(token_login.time, "monotonic", lambda: now[0])
    with authorizing(key=EC, expires_in=expires_in) as server:
        login = signing(server, tmp_path)
        login.header()
        now[0] += KEPT_AT_MOST_S
        login.header()

    assert len(server.asked) == 2


def test_it_opens_an_ehr(tmp_path: Path):
    ehr = SandboxEhr()
    ehr.start()
    try:
        with authorizing(key=EC, token=TOKEN) as server:
            client = FhirClient(
                f"{ehr.origin}/fhir",
                login=signing(server, tmp_path),
                timeout_s=5,
                max_response_bytes=2**20,
            )
            assert client.read("Patient/nobody") is None
            client.close()
    finally:
        ehr.stop()


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({"key": ECKey.generate_key("P-384")}, "invalid_client.*registered there"),
        ({"key": EC, "client_id": "other"}, "invalid_client"),
        ({"key": EC, "granted": frozenset({"system/Patient.rs"})}, "invalid_scope.*`scopes`"),
        ({"key": EC, "answers": (400, b'{"error": "unauthorized_client"}')}, "client_credentials"),
        ({"key": EC, "answers": (403, b"<html>Meera</html>")}, r"\(HTTP 403\)"),
        ({"key": EC, "answers": (400, b'{"error": "Meera"}')}, r"\(HTTP 400\)"),
    ],
    ids=["other key", "other client", "scope", "grant", "page", "unknown reason"],
)
def test_a_refusal_is_told_with_its_remedy_and_tried_again_later(
    tmp_path: Path, known: dict[str, object], says: str
):
    with authorizing(**known) as server:
        login = signing(server, tmp_path)
        with pytest.raises(EhrLoginFailed, match=says) as refused:
            login.header()
        assert "Meera" not in str(refused.value)
        server.key, server.client_id, server.answers = EC, "nadi", None
        server.granted = frozenset(SCOPES)
        assert login.header() == "Bearer given-out"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, b""), "fails in itself"),
        ((200, b"<html>"), "no bearer token"),
        ((200, b"[]"), "no bearer token"),
        ((200, b"{}"), "no bearer token"),
        ((200, b'{"access_token": "a\\r\\nX: y"}'), "no bearer token"),
        ((200, b'{"access_token": "mac", "token_type": "mac"}'), "no bearer token"),
        ((200, b" " * 2**17), "no bearer token"),
    ],
)
def test_what_is_no_token_is_not_used(tmp_path: Path, answer: tuple[int, bytes], says: str):
    with authorizing(key=EC, answers=answer) as server, pytest.raises(TokenServerAway, match=says):
        signing(server, tmp_path).header()


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        (None, "HTTP 404.*`token_url`"),
        ({}, "no token_endpoint.*`token_url`"),
        ({"token_endpoint": "ftp://ehr.test/token"}, "no token_endpoint"),
    ],
)
def test_an_ehr_that_does_not_say_where_its_tokens_are_is_told_of(
    tmp_path: Path, configuration: dict[str, object] | None, says: str
):
    with authorizing(key=EC) as server:
        server.configuration = configuration
        with pytest.raises(EhrLoginFailed, match=says):
            signing(server, tmp_path).header()


def test_a_server_that_is_away_is_told_apart_from_an_ehr_that_is(tmp_path: Path):
    with authorizing(key=EC) as server:
        login = signing(server, tmp_path)

    with pytest.raises(TokenServerAway, match=r"`token_url`.*can't be reached"):
        login.header()


@pytest.mark.parametrize(
    "text",
    [
        "no key",
        "{}",
        "[1]",
        json.dumps(EC.as_dict(private=False)),
        EC.as_pem(private=False).decode(),
        json.dumps(ECKey.generate_key("P-256").as_dict(private=True)),
        WEAK.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        json.dumps(OctKey.generate_key().as_dict(private=True)),
    ],
    ids=["text", "empty", "list", "public JWK", "public PEM", "P-256", "RSA 1024", "secret"],
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_what_is_no_strong_private_key_is_refused_without_showing_it(tmp_path: Path, text: str):
    with authorizing(key=EC) as server:
        login = replace(signing(server, tmp_path), secret=Secret(f"file:{tmp_path / 'bad'}"))
        (tmp_path / "bad").write_text(text)
        with pytest.raises(ConfigurationError, match="login-key") as refused:
            login.header()

    assert text not in str(refused.value)


def test_a_site_file_says_all_of_it(tmp_path: Path):
    text = f"""
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: http://ehr.test/fhir
    auth: {{kind: smart-backend, client_id: nadi, key: "file:{tmp_path}/key.json", key_id: k1}}
    dicomweb_auth:
      kind: client-credentials
      client_id: nadi
      secret: env:NADI_TEST_SECRET
      token_url: https://idp.test/token
      scopes: [images]
"""
    system = load_site(text).systems["ehr"]

    assert system.login == TokenLogin(
        whose="System 'ehr'",
        address="http://ehr.test/fhir",
        client_id="nadi",
        secret=Secret(f"file:{tmp_path}/key.json"),
        is_asymmetric=True,
        scopes=SCOPES,
        key_id="k1",
    )
    assert system.dicomweb_login == TokenLogin(
        whose="System 'ehr'",
        address="http://ehr.test/fhir",
        client_id="nadi",
        secret=Secret("env:NADI_TEST_SECRET"),
        is_asymmetric=False,
        token_url="https://idp.test/token",  # noqa: S106 - an address
        scopes=("images",),
    )


def test_a_token_that_is_refused_is_replaced_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [1000.0]
    monkeypatch.setattr(token_login.time, "monotonic", lambda: now[0])
    with authorizing(key=EC) as server:
        login = signing(server, tmp_path)
        seen = [login.header()]
        for passed_s in (0.0, 1.0, REPLACED_EVERY_S):
            now[0] += passed_s
            server.token = f"token-{len(server.asked)}"
            seen.append(login.renewed(login.header()))

    assert seen == ["Bearer given-out", "Bearer token-1", None, "Bearer token-2"]


def test_one_that_was_replaced_meanwhile_gives_the_new_one(tmp_path: Path):
    with authorizing(key=EC) as server:
        login = signing(server, tmp_path)
        refused = login.header()
        server.token = "another"  # noqa: S105 - made up
        seen = {login.renewed(refused), login.renewed(refused), login.header()}

    assert seen == {"Bearer another"}
    assert len(server.asked) == 2
