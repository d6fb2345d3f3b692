"""What tests need to record and import consents."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONSENT_KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
"""Signs consents in tests that make no installation of their own."""
