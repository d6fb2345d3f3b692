"""The stand-in EHR: a FHIR R4 server with synthetic patients and faults on request."""
