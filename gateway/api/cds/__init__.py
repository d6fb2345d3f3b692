"""CDS Hooks 2.0 over HTTP: discovery, services, feedback.

Source: HL7 CDS Hooks 2.0 (https://cds-hooks.hl7.org/2.0/).
"""
