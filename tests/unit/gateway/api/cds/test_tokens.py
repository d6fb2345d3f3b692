"""A client of the site file is known by a signed token, made for one call of one address."""

import asyncio
import base64
import time

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from adapters.site import load_site
from gateway.api.cds.tokens import CdsTokens
from gateway.core.errors import LoginRequired
from gateway.core.principal import Role
from tests.cds import SERVICE, Ehr, cds_site, request, token
from tests.conftest import Api

PATH = f"/cds-services/{SERVICE}"
site = pytest.mark.parametrize("api", [cds_site()], indirect=True)


@pytest.fixture(scope="module")
def rsa() -> RSAKey:
    return RSAKey.generate_key(2048)


def discovered(api: Api, bearer: str) -> int:
    headers = {"Authorization": f"Bearer {bearer}"}
    return api.client.get("/cds-services", headers=headers).status_code


@site
def test_a_token_is_good_for_one_call_of_its_address(api: Api):
    mine = token("/cds-services")

    assert discovered(api, mine) == 200
    assert discovered(api, mine) == 401


NOW = int(time.time())


@site
@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"iss": "https://other.test"}, "issuer"),
        ({"aud": f"https://nadi.test{PATH}"}, "aud"),
        ({"aud": None}, "aud"),
        ({"exp": NOW - 100, "iat": NOW - 200}, "expired"),
        ({"iat": NOW + 1000, "exp": NOW + 1100}, "future"),
        ({"exp": NOW + 90_000}, "at most"),
        ({"exp": None}, "exp and iat"),
        ({"exp": "soon"}, "exp and iat"),
        ({"exp": True}, "exp and iat"),
        ({"iat": None}, "exp and iat"),
        ({"jti": None}, "jti"),
        ({"jti": "x" * 300}, "jti"),
    ],
)
def test_a_token_with_other_claims_is_refused_with_what_is_wrong(api: Api, claims: dict, says: str):
    headers = {"Authorization": f"Bearer {token('/cds-services', **claims)}"}

    answer = api.client.get("/cds-services", headers=headers)

    assert answer.status_code == 401
    assert says in answer.json()["issue"][0]["diagnostics"]
    with api.store.read() as uow:
        failed = "select count(*) from audit_events where event = 'sign-in-failure'"
        assert uow.connection.exec_driver_sql(failed).scalar_one() == 1


@site
def test_a_token_of_another_key_or_algorithm_is_refused(api: Api, rsa: RSAKey):
    other, secret = ECKey.generate_key("P-384"), OctKey.import_key("s" * 64)

    assert discovered(api, token("/cds-services", other)) == 401
    assert discovered(api, token("/cds-services", rsa, alg="RS384")) == 401
    assert discovered(api, token("/cds-services", secret, alg="HS384")) == 401
    head, claims, _ = token("/cds-services").split(".")
    assert discovered(api, f"{head}.{claims}.") == 401
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    assert discovered(api, f"{none}.{claims}.") == 401
    assert discovered(api, "a.b.c") == 401


def test_an_rsa_key_as_pem_is_taken(api: Api, rsa: RSAKey):
    lines = rsa.as_pem(private=False).decode().replace("\n", "\\n")
    before = cds_site()
    start = before.index("keys: [") + len("keys: [")
    found = load_site(f'{before[:start]}"{lines}"{before[before.index("], origins") :]}')
    tokens = CdsTokens(api.store, lambda: found)

    who = asyncio.run(tokens.principal(token(PATH, rsa, alg="RS384"), PATH))

    assert (who.name, who.role, who.system) == ("ehr/cds-hooks", Role.EHR, "ehr")
    with pytest.raises(LoginRequired):
        asyncio.run(tokens.principal(token(PATH), PATH))
    tokens.close()


@site
def test_a_token_of_nadi_s_own_may_call_too_where_it_speaks_for_the_system(api: Api):
    def asked(role: str) -> int:
        headers = {**api.headers(role), "Content-Type": "application/json"}
        return api.client.post(PATH, content=b"{}", headers=headers).status_code

    assert asked("ehr") == 400
    assert asked("clinician") == 403
    assert asked("nobody") == 403


@site
def test_what_has_expired_is_forgotten(api: Api):
    assert discovered(api, token("/cds-services")) == 200
    with api.store.write() as uow:
        uow.connection.exec_driver_sql("update token_uses set until_ms = 1")

    assert Ehr(api).ask(request(hook="other")).status_code == 400

    with api.store.read() as uow:
        kept = uow.connection.exec_driver_sql("select count(*) from token_uses").scalar_one()
    assert kept == 1
