"""HL7 v2: framing, acknowledgements, and the way from a message to a FHIR R4 message Bundle.

* `framing`: bytes of a connection to messages (MLLP);
* `charsets`, `escapes`, `message`: bytes of a message to its segments, fields and components;
* `tables/*.csv` say what of a message becomes what in FHIR; `mapping`, `datatypes` and `conversion`
  do it;
* `acknowledgement`: what the sender is told;
* `server`: the port, `sender`: the other side of it.

Nothing here knows the database or the API: a server is given what answers a message.

Source: HL7 v2.9 chapters 2, 2A; MLLP release 1; HL7 v2-to-FHIR.
"""
