// njs check_vectors.mjs vectors.json: what the checker says of each case.

import fs from 'fs';
import waitroom from './waitroom_signature.mjs';

const vectors = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const key = Buffer.from(vectors.key_hex, 'hex');
vectors.cases.forEach((one) => {
  console.log(`${one.name}\t${waitroom.isValid(key, one.signature, one.room, one.subject, one.now_s)}`);
});
