"""The room in Redis: the only speaker of it."""
