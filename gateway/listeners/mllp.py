"""The listener of HL7 v2: `python -m gateway.listeners.mllp`."""
