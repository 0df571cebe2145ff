/**
 * CRC-32 (as in zip and PNG) of strings and bytes, one after another. Against damage: every change of up to 32 bits in a row is found,
 * and of others all but one in 2³². Not against forgers, who can compute it, too.
 */
export function crc32(parts: Iterable<string | Uint8Array>): number {
  const encoder = new TextEncoder();
  let crc = -1;
  for (const part of parts) {
    const bytes = typeof part === 'string' ? encoder.encode(part) : part;
    for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

/** The remainder of each byte by the reversed polynomial. */
const table = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});
