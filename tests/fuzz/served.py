"""The real application on a store of its own, and what every one of its answers has to be."""

import tempfile
from functools import cache
from pathlib import Path

import httpx
import orjson

from gateway.app import build
from gateway.core.fhir import parse_resource
from gateway.store.engine import migrate
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.asgi import AsgiClient
from tests.cds import cds_site
from tests.conftest import Api, credentials, settings_for
from tests.registered import register_brought

#: Stands in what is sent, and may stand in no answer.
MARK = "ZZCANARY"
_TRACES = ("Traceback", 'File "', "sqlalchemy", "pydantic", "site-packages")


@cache
def served() -> Api:
    """Start the application once for this process; it ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="nadi-fuzz-")
    url = f"sqlite:///{folder.name}/nadi.db"
    migrate(url)
    settings = settings_for(Path(folder.name) / "data", url)
    app = build(settings)
    keys = load_or_create(settings.data_dir, master_key_file=None, audit_key_file=None)
    store = Store(url, Sealer(keys.master), consents=keys.consents)
    with store.write() as uow:
        uow.sites.apply(cds_site(within_ms=50), "test")
    register_brought(store)
    client = AsgiClient(app)
    _kept.extend((folder, client.__enter__()))
    return Api(client, store, credentials(store))


def insist_on_explained(answer: httpx.Response, *, may_repeat: bool = False) -> None:
    """Insist that an answer is no failure, explains a refusal, and repeats nothing.

    Args:
        answer: Of the application.
        may_repeat: Whether it may tell what was asked: the `self` link of a search does.

    Raises:
        AssertionError: It is not; what was sent is not named.
    """
    status = answer.status_code
    assert status < 500, f"{status}: {answer.text}"
    assert may_repeat or MARK not in answer.text, f"{status}: a value came back"
    assert MARK not in str(answer.headers), f"{status}: a value came back in a header"
    assert not [word for word in _TRACES if word in answer.text], f"{status}: {answer.text}"
    if status >= 400 and answer.request.method != "HEAD":
        assert answer.headers["content-type"].startswith("application/fhir+json"), status
        parse_resource(answer.content, expected_type="OperationOutcome")
        assert all(each["diagnostics"] for each in orjson.loads(answer.content)["issue"])


_kept: list[object] = []
