/*
 * Makes src/gen from proto/: ts-proto's code, with our reader and writer of messages in the place of the library's. A uint64
 * is read without a BigInt and a text between, and a message is written into one room that all of them share. npm run generate
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

execFileSync('npx', ['buf', 'generate'], { stdio: 'inherit' });

const dir = 'src/gen/keychaindb/v1/';
const library = 'import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";';
for (const name of readdirSync(dir)) {
  const made = readFileSync(dir + name, 'utf8');
  if (!made.includes(library)) throw new Error(`${name}: ts-proto's code isn't as we know it`);
  const text = made
    // What is absent is one array for all: none of its bytes can be changed.
    .replaceAll('new Uint8Array(0)', 'noBytes')
    .replaceAll(/longToNumber\(reader\.uint64\(\)\)/g, 'reader.uint64Number()')
    .replaceAll(/Buffer\.from\((\w+)\.encode\(value\)\.finish\(\)\)/g, 'encoded($1, value)')
    .replace(/\nfunction longToNumber[\s\S]*?\n}\n/, '');
  const writer = text.includes('encoded(') ? 'encoded, MessageWriter' : 'MessageWriter';
  const ours = [
    ...(text.includes('noBytes') ? ['import { noBytes } from "../../../base/bytes.js";'] : []),
    'import { MessageReader as BinaryReader } from "../../../base/message-reader.js";',
    `import { ${writer} as BinaryWriter } from "../../../base/message-writer.js";`,
  ];
  writeFileSync(dir + name, text.replace(library, ours.join('\n')));
}
