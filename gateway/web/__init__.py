"""The HTTP faces of a gateway: the port, the gate, the lobby, the way to the upstreams and the operator's port."""
