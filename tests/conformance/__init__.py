"""The corpus of RFC 9110 and 9112 cases: what the gateway makes of each, and what nginx and HAProxy make of the same bytes."""
