"""FHIR over REST: reading from and writing to an EHR."""
