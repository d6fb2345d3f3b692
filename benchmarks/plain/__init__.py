"""The plain reference build: the same job as a decent developer would build it in a week.

FastAPI, `fhir.resources`, SQLAlchemy's ORM, one default Celery task per event, one default ONNX
Runtime session per worker process, one POST per result. `benchmarks/README.md` says what it leaves
out, and where it was given an advantage.
"""
