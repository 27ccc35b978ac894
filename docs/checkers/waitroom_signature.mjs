// Checks Waitroom-Signature: that a request was let in by a gateway that knows the key. For njs, the script of nginx.
//
// The room is the one that the route belongs to, written in your configuration, not what the request says. In nginx:
//   js_import waitroom from waitroom_signature.mjs;   and call waitroom.isValid(key, ...) from your own function.

import crypto from 'crypto';

const TOLERANCE_S = 300;
const SIGNATURE = /^t=([0-9]{1,15}),v1=([0-9a-f]{64})$/;
// A subject is a UUID. Without this, room "a" and subject "b.c" would be signed alike with room "a.b" and subject "c".
const SUBJECT = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

// Whether the signature is of this room and subject and not older, or newer, than five minutes. The key is a Buffer.
function isValid(key, signature, room, subject, nowS) {
  const found = SIGNATURE.exec(signature || '');
  if (!found || !SUBJECT.test(subject || '') || Math.abs(nowS - Number(found[1])) > TOLERANCE_S) {
    return false;
  }
  const signed = `${found[1]}.${room}.${subject}`;
  return isSame(crypto.createHmac('sha256', key).update(signed).digest('hex'), found[2]);
}

// In constant time, by hand: njs of nginx 1.22 has no timingSafeEqual. Both are 64 characters here.
function isSame(one, other) {
  let difference = one.length ^ other.length;
  for (let i = 0; i < one.length; i++) {
    difference |= one.charCodeAt(i) ^ other.charCodeAt(i);
  }
  return difference === 0;
}

export default { isValid };
