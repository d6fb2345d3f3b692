"""HealthChain answering a hook: read the prefetch, run the model, give a card.

Written from HealthChain's own documentation: a `CDSHooksService` with a function of `patient-view`.
The features are read with Nadi's code, and one session of the model is kept, as in
`benchmarks.healthchain_app`.

What it has no part for, and so does not do here: nothing is kept, no consent is asked, nothing is
audited, nobody is asked who calls, and no result is written into the chart.
"""

from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from healthchain.gateway import (  # type: ignore[import-not-found]  # another environment
    CDSHooksService,
    HealthChainAPI,
)
from healthchain.models.requests.cdsrequest import (  # type: ignore[import-not-found]
    CDSRequest,
)
from healthchain.models.responses.cdsresponse import (  # type: ignore[import-not-found]
    Card,
    CDSResponse,
)

from adapters.sandbox.ward_labs import LOCAL_CODES
from models.registry import InstalledModel, load_installed
from workers.features import Refusal, extract

service = CDSHooksService()
app = HealthChainAPI(title="HealthChain")


@service.hook("patient-view", id="ckd-risk")
def view(request: CDSRequest) -> CDSResponse:
    """Answer one hook."""
    prefetch: dict[str, Any] = request.prefetch or {}
    found = [
        entry["resource"]
        for each in prefetch.values()
        if each.get("resourceType") == "Bundle"
        for entry in each.get("entry", [])
    ]
    features = extract(
        _model().manifest,
        found,
        patient=prefetch.get("patient"),
        at=max(datetime.fromisoformat(each["effectiveDateTime"]) for each in found),
        local_codes=LOCAL_CODES,
    )
    if isinstance(features, Refusal):
        return CDSResponse(cards=[])
    session = _session()
    batch = {session.get_inputs()[0].name: features.vector.reshape(1, -1)}
    probability = float(np.asarray(session.run(None, batch)[0])[0, 0])
    card = Card(
        summary=f"Estimated risk of chronic kidney disease (AI): {100 * probability:.0f} %",
        indicator="info",
        source={"label": "ckd-risk"},
        detail="Demonstration only.",
    )
    return CDSResponse(cards=[card])


app.register_service(service)


@cache
def _model() -> InstalledModel:
    return load_installed()["ckd-risk"]


@cache
def _session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(_model().weights())
