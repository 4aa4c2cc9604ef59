import { toHex } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { contextOf, isSampled, parentIdOf, traceIdOf } from './trace-context.js';

/*
 * Ids are computed, not carried: every node knows those of its own spans and of the span that
 * caused them from the entry and the view.
 */

/** 16 hexadecimal digits from what names the span within its trace. */
export function spanIdOf(traceId: string, ...names: readonly (string | number)[]): string {
  return hash(`${traceId}/${names.join('/')}`, 0);
}

/** The context of a span that a traced operation causes, named within it. */
export function childContext(
  context: Uint8Array,
  ...names: readonly (string | number)[]
): Uint8Array {
  const traceId = traceIdOf(context);
  return contextOf(traceId, spanIdOf(traceId, parentIdOf(context), ...names), isSampled(context));
}

/** 32 hexadecimal digits from what names the trace. */
export function traceIdNamed(...names: readonly (string | number)[]): string {
  const text = names.join('/');
  return hash(text, 1) + hash(text, 2);
}

/** 64 bits, never zero. Two lanes of 32 with the finaliser of MurmurHash3 (Appleby, public domain). */
function hash(text: string, seed: number): string {
  let a = 0xdeadbeef ^ seed;
  let b = 0x41c6ce57 ^ seed;
  for (let index = 0; index < text.length; index += 1) {
    const char = text.charCodeAt(index);
    a = Math.imul(a ^ char, 0x85ebca6b);
    b = Math.imul(b ^ char, 0xc2b2ae35);
  }
  a = mixed(a) ^ mixed(b + 0x9e3779b9);
  b = mixed(b) ^ mixed(a + 0x7f4a7c15);
  return digits(a) + digits(b === 0 ? 1 : b);
}

function mixed(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** The digits of 16 bits. */
const digits16: readonly string[] = Array.from({ length: 1 << 16 }, (_, word) =>
  word.toString(16).padStart(4, '0'),
);

function digits(word: number): string {
  return (digits16[word >>> 16] ?? '') + (digits16[word & 0xffff] ?? '');
}

/** Ids of a process that is the first to name something: from random bytes once and a count since. */
export class FreshIds {
  readonly #seed: string;
  #count = 0;

  /** @param seed 16 random bytes, new for every process start */
  constructor(seed: Uint8Array) {
    this.#seed = toHex(seed);
  }

  traceId(): string {
    this.#count += 1;
    return traceIdNamed(this.#seed, this.#count);
  }

  spanId(): string {
    this.#count += 1;
    return spanIdOf(this.#seed, this.#count);
  }
}

/** A write that came without a trace: where it stands in which chain of which cluster. */
export interface WriteName {
  readonly chainId: number;
  readonly id: EntryId;
}

const rounds = 4;
const half = (1n << 64n) - 1n;

/**
 * The trace id of a write that came without one: 32 hexadecimal digits, from which `writeNamed` finds the
 * write again. A Feistel network over (chain id, epoch | revision), keyed with the cluster's id, so that two
 * clusters don't share traces and the digits look as random as samplers downstream expect.
 */
export function writeTraceId(clusterId: Uint8Array, { chainId, id }: WriteName): string {
  let left = (BigInt(chainId & 0xffff) << 48n) | (BigInt(id.generation) & ((1n << 48n) - 1n));
  let right = BigInt(id.index);
  for (let round = 0; round < rounds; round += 1) {
    [left, right] = [right, left ^ scrambled(right, clusterId, round)];
  }
  return left.toString(16).padStart(16, '0') + right.toString(16).padStart(16, '0');
}

/** What `writeTraceId` was made of; of any other id something that names no write. */
export function writeNamed(clusterId: Uint8Array, traceId: string): WriteName {
  let left = BigInt(`0x${traceId.slice(0, 16)}`);
  let right = BigInt(`0x${traceId.slice(16)}`);
  for (let round = rounds - 1; round >= 0; round -= 1) {
    [left, right] = [right ^ scrambled(left, clusterId, round), left];
  }
  const generation = Number(left & ((1n << 48n) - 1n));
  return { chainId: Number(left >> 48n), id: { generation, index: Number(right) } };
}

/** The mixer of SplitMix64 (Steele, Lea, Flood 2014), with a part of the key added. */
function scrambled(value: bigint, key: Uint8Array, round: number): bigint {
  let x = value + BigInt(round + 1) * 0x9e3779b97f4a7c15n;
  for (let index = 0; index < 8; index += 1) {
    x += BigInt(key[(index + 4 * round) % Math.max(1, key.byteLength)] ?? 0) << BigInt(8 * index);
  }
  x &= half;
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & half;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & half;
  return x ^ (x >> 31n);
}
