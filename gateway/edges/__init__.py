"""Prints configurations of edge proxies: what waitroom.toml says in, the text of another program's configuration out."""
