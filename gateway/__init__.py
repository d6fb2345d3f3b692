"""The gateway: the door, the rules, the record."""
