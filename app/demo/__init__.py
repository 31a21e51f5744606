"""The demo: a year of New York's departures, sent over HTTP, billed to its airlines, and checked to the cent."""
