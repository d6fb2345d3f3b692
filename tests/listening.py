"""What tests of listeners share: a way from a listener's door into an API in this process."""

import httpx

from tests.conftest import Api
from tests.factories import SITE

#: The site of `tests.factories` with a laboratory that sends HL7 v2 about the EHR's patients.
FED_SITE = SITE.replace(
    "routes:",
    """\
  lab:
    kind: hl7v2
    patients: {of: ehr, identifier: "https://hospital.example/mrn", find: id}
    receive:
      - mllp: {port: 2575, timezone: Asia/Kolkata}
routes:""",
)


class IntoApi(httpx.BaseTransport):
    """Brings the requests of a blocking client to the application of `Api`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._api.client.request(
            request.method, request.url.path, content=request.read(), headers=request.headers
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
