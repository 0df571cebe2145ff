import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  cacheFolder,
  gunzipIfNeeded,
  obtainFile,
  verify,
  type WantedFile,
} from '../experiments/data/files.js';
import { rejectsWith } from './data-helpers.js';

const test = suite('data download');

const content = Uint8Array.from({ length: 300_000 }, (_, i) => (i * i + (i >> 7)) % 256);
const packed = gzipSync(content);
const sha256 = createHash('sha256').update(content).digest('hex');
const silent = { log: () => {} };

let folder: string;
/** What the server does with a request; each test sets its own. */
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let ranges: (string | undefined)[];
let base: string;
const server = createServer((request, response) => {
  ranges.push(request.headers.range);
  answer(request, response);
});

test.before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  delete process.env.GRADSHAPE_DATA;
});
test.after(() => {
  server.closeAllConnections();
  server.close();
});
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'gradshape-download-'));
  process.env.XDG_CACHE_HOME = folder;
  ranges = [];
});
test.after.each(() => rmSync(folder, { recursive: true }));

function wanted(urls = [`${base}/thing.gz`]): WantedFile<Uint8Array> {
  return {
    set: 'Things',
    folder: 'things',
    names: ['thing.gz', 'thing'],
    urls,
    hint: 'Ask a friend.',
    read: (bytes, path) => {
      const unzipped = gunzipIfNeeded(bytes, path, content.length);
      verify(unzipped, { bytes: content.length, algorithm: 'sha256', digest: sha256 }, path);
      return unzipped;
    },
  };
}
const cached = () => join(cacheFolder(), 'things', 'thing.gz');
const part = () => `${cached()}.part`;

/** Serves bytes, heeding ranges as servers do. */
function serve(bytes: Uint8Array): typeof answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (from >= bytes.length) return void response.writeHead(416).end();
    const headers = {
      'content-length': bytes.length - from,
      'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
    };
    response.writeHead(from > 0 ? 206 : 200, headers).end(bytes.subarray(from));
  };
}

/** Serves like `serve`, but cuts the connection after so many bytes. */
function cutAfter(bytes: Uint8Array, most: number): typeof answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const headers = {
      'content-length': bytes.length - from,
      'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
    };
    response.writeHead(from > 0 ? 206 : 200, headers);
    const piece = bytes.subarray(from, from + most);
    if (from + most >= bytes.length) return void response.end(piece);
    response.write(piece, () => setTimeout(() => response.destroy(), 60));
  };
}

test('downloaded once, verified, then read from the cache', async () => {
  answer = serve(packed);
  assert.ok(Buffer.from(content).equals(await obtainFile(wanted(), silent)));
  assert.ok(readFileSync(cached()).equals(packed));
  assert.not(existsSync(part()));
  await obtainFile(wanted(), silent);
  assert.equal(ranges, [undefined]);
});

test('not downloaded when that is not allowed', async () => {
  answer = serve(packed);
  await rejectsWith('DATA_NOT_FOUND', obtainFile(wanted(), { download: false }), /not allowed.*Ask a friend/);
  assert.equal(ranges, []);
});

test('a cut connection is taken up where it was cut', async () => {
  const half = Math.ceil(packed.length / 2);
  answer = cutAfter(packed, half);
  assert.ok(Buffer.from(content).equals(await obtainFile(wanted(), silent)));
  assert.is(ranges[0], undefined);
  assert.match(ranges[1]!, /^bytes=[1-9]\d*-$/);
});

test('what an earlier run left is continued', async () => {
  mkdirSync(join(cacheFolder(), 'things'), { recursive: true });
  writeFileSync(part(), packed.subarray(0, 1000));
  answer = serve(packed);
  const lines: string[] = [];
  await obtainFile(wanted(), { log: (line) => lines.push(line) });
  assert.equal(ranges, ['bytes=1000-']);
  assert.match(lines[0]!, /from byte 1000/);
  assert.ok(readFileSync(cached()).equals(packed));
});

test('a left-over that is whole already, and a server without ranges', async () => {
  mkdirSync(join(cacheFolder(), 'things'), { recursive: true });
  writeFileSync(part(), packed);
  answer = serve(packed);
  await obtainFile(wanted(), silent);
  assert.equal(ranges, [`bytes=${packed.length}-`]);

  rmSync(cached());
  writeFileSync(part(), packed.subarray(0, 1000));
  answer = (_, response) => void response.end(packed);
  await obtainFile(wanted(), silent);
  assert.ok(readFileSync(cached()).equals(packed));
});

test('a left-over from another file is thrown away', async () => {
  mkdirSync(join(cacheFolder(), 'things'), { recursive: true });
  writeFileSync(part(), new Uint8Array(1000));
  answer = serve(packed);
  await obtainFile(wanted(), silent);
  assert.equal(ranges, ['bytes=1000-', undefined]);
  assert.ok(readFileSync(cached()).equals(packed));
});

test('a wrong file is not kept, and the next address is tried', async () => {
  const wrong = gzipSync(content.map((byte) => 255 - byte));
  answer = (request, response) =>
    serve(request.url!.startsWith('/wrong') ? wrong : packed)(request, response);
  const error = await rejectsWith(
    'DATA_NOT_FOUND',
    obtainFile(wanted([`${base}/wrong.gz`]), silent),
    /wrong sha256/,
  );
  assert.match(error.message, new RegExp(`${base}/wrong\\.gz.*expected ${sha256}, got [0-9a-f]{64}`));
  assert.not(existsSync(cached()));
  assert.not(existsSync(part()));
  await obtainFile(wanted([`${base}/wrong.gz`, `${base}/right.gz`]), silent);
  assert.ok(readFileSync(cached()).equals(packed));
});

test('every address that failed is listed', async () => {
  answer = (_, response) => void response.writeHead(404).end('<html>');
  const closed = 'http://127.0.0.1:1/thing.gz';
  const error = await rejectsWith('DATA_NOT_FOUND', obtainFile(wanted([closed, `${base}/a.gz`]), silent));
  assert.match(error.message, /127\.0\.0\.1:1\/thing\.gz: fetch failed \(.+\)/);
  assert.match(error.message, /a\.gz: HTTP status 404/);
  assert.match(error.message, /Ask a friend/);
});

test('a mirror of the user comes first', async () => {
  const asked: string[] = [];
  answer = (request, response) => {
    asked.push(request.url!);
    serve(packed)(request, response);
  };
  await obtainFile(wanted(), { ...silent, mirrors: [`${base}/mirror/`] });
  assert.equal(asked, ['/mirror/thing.gz']);
});

test('two at the same time do not disturb each other', async () => {
  answer = cutAfter(packed, Math.ceil(packed.length / 3));
  const both = await Promise.all([obtainFile(wanted(), silent), obtainFile(wanted(), silent)]);
  for (const bytes of both) assert.ok(Buffer.from(content).equals(bytes));
  assert.ok(readFileSync(cached()).equals(packed));
});

test('a cache that cannot be written says so', async () => {
  answer = serve(packed);
  process.env.XDG_CACHE_HOME = join(folder, 'file');
  writeFileSync(join(folder, 'file'), '');
  await rejectsWith('DATA_CACHE', obtainFile(wanted(), silent), /thing\.gz\.part.*XDG_CACHE_HOME.*--data/);
});

test('a full disk says so', async () => {
  if (!existsSync('/dev/full')) return console.log('(no /dev/full: left out)');
  answer = serve(packed);
  mkdirSync(join(cacheFolder(), 'things'), { recursive: true });
  symlinkSync('/dev/full', part());
  await rejectsWith('DATA_CACHE', obtainFile(wanted(), silent), /ENOSPC/);
});

test.run();
