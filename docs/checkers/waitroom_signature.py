"""Checks Waitroom-Signature: that a request was let in by a gateway that knows the key. Standard library only.

    is_valid(key, request.headers["Waitroom-Signature"], "point-cashout", request.headers["Waitroom-Subject"], time.time())

The room is the one that the route belongs to, written in your code, not what the request says.
"""

import hashlib
import hmac
import json
import re
import sys

TOLERANCE_S = 300
# [0-9] and \Z: \d takes digits of every script, and $ allows a final line break.
SIGNATURE = re.compile(r"t=([0-9]{1,15}),v1=([0-9a-f]{64})\Z")
# A subject is a UUID. Without this, room "a" and subject "b.c" would be signed alike with room "a.b" and subject "c".
SUBJECT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def is_valid(key: bytes, signature: str, room: str, subject: str, now_s: float) -> bool:
    """Whether the signature is of this room and subject and not older, or newer, than five minutes."""
    found = SIGNATURE.match(signature)
    if found is None or SUBJECT.match(subject) is None or abs(now_s - int(found[1])) > TOLERANCE_S:
        return False
    expected = hmac.new(key, f"{found[1]}.{room}.{subject}".encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, found[2])


if __name__ == "__main__":  # python waitroom_signature.py vectors.json: what this checker says of each case
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    for case in vectors["cases"]:
        verdict = is_valid(
            bytes.fromhex(vectors["key_hex"]), case["signature"], case["room"], case["subject"], case["now_s"]
        )
        print(case["name"], str(verdict).lower(), sep="\t")
