"""A folder into which other systems put FHIR files."""
