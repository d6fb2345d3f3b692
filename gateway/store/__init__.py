"""The record, kept in SQL: the only package that knows SQLAlchemy."""
