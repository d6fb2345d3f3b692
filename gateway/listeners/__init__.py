"""The listeners: one process per kind takes what does not come as FHIR pushed to the API.

There is one door in. A listener converts and hands a FHIR Bundle to the gateway's own HTTP API,
with an identity of its own (`gateway.store.listener_credentials`); so authentication, consent and
audit are the same for everything that arrives, and an AuditEvent names the listener as its agent.

* `python -m gateway.listeners.<kind>` serves every feed of a kind that the site in force has, and
  follows the site while it runs; `nadi up` runs those kinds that a site wants.
* A new kind is a module of that name, with `serve(KIND, make)` as its `main`.
"""
