"""A keyring whose `glance`, which polls are answered by, is held to `read_ticket` whenever a test reads a ticket."""

from __future__ import annotations

from gateway.model import Ticket
from gateway.rules.tokens import Glance, Keyring, Refusal


class Glancing(Keyring):
    """Whatever a glance tells, reading tells, too; and of what this ring mints a glance always tells."""

    def read_ticket(self, text: str, room: str, now_s: int) -> Ticket | Refusal:
        found = super().read_ticket(text, room, now_s)
        seen = self.glance(text.encode("utf-8", "surrogatepass"), room, now_s)
        if isinstance(found, Ticket):
            whole = Glance(found.number, found.epoch, found.joined_at_s, found.expires_at_s)
            assert seen == whole or (seen is None and text != self.mint_ticket(found)), (seen, found)
        else:
            assert seen is None, (seen, found)
        return found
