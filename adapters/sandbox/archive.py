"""The stand-in EHR's image archive: gives DICOM files by their UIDs (WADO-RS), from memory.

`PUT` under the same address puts a file there; a real archive is filled by its scanners.

Source: DICOM PS3.18 section 10.4 (Retrieve Transaction), 8.7.3.1 (multipart/related).
"""

from secrets import token_hex

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BASE_PATH = "/dicomweb"
_PLACE = f"{BASE_PATH}/studies/{{study}}/series/{{series}}/instances/{{instance}}"
_DICOM = "application/dicom"


class Archive:
    """Keeps DICOM files by study, series and instance."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str, str], bytes] = {}

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route(_PLACE, self.give, methods=["GET"]),
            Route(_PLACE, self.keep, methods=["PUT"]),
        ]

    async def keep(self, request: Request) -> Response:
        """Keep a file."""
        self._files[_place(request)] = await request.body()
        return Response(status_code=201)

    async def give(self, request: Request) -> Response:
        """Give a file, as one part of a multipart answer."""
        found = self._files.get(_place(request))
        if found is None:
            return Response(status_code=404)
        if "multipart/related" not in request.headers.get("accept", ""):
            return Response(status_code=406)
        boundary = token_hex(16)
        head = f"--{boundary}\r\nContent-Type: {_DICOM}\r\n\r\n".encode()
        body = head + found + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="{_DICOM}"; boundary={boundary}'
        return Response(body, 200, media_type=kind)


def _place(request: Request) -> tuple[str, str, str]:
    at = request.path_params
    return at["study"], at["series"], at["instance"]
