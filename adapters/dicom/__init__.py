"""DICOM as a way in: images come by C-STORE, are spooled sealed, and become an ImagingStudy.

`header` reads what an image says of itself, `server` takes it from the network, `spool` keeps it,
`study` makes FHIR of what belongs together.
"""
