"""The translators between Nadi and the systems of a hospital."""
