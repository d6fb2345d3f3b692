"""How what a listener made of a message is named: it is in no EHR and at no address."""

#: Begins the address of a feed; nothing is to be found there.
FEEDS = "https://nadi.health/fhir/feed/"
