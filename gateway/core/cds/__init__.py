"""CDS Hooks 2.0: what an EHR asks while somebody looks at a chart, and the cards it is answered by.

Source: HL7 CDS Hooks 2.0 (https://cds-hooks.hl7.org/2.0/).
"""
