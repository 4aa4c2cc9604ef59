import { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import type { KeychainError } from '../base/errors.js';
import { plain } from '../base/terminal-text.js';
import {
  type ProtocolVersion,
  protocolVersion,
  type Speaker,
  versionText,
  whyRefused,
} from './protocol-version.js';

const versionHeader = 'x-keychaindb-protocol';
const processHeader = 'x-keychaindb-process';

/** Milliseconds for which one that was refused is told of: it tries again within a second while it runs. */
const refusedMs = 30_000;
/** Refused processes that are remembered. */
const refusedMax = 64;
/** Characters of what a peer calls itself. */
const nameMax = 140;

/** A process with which nothing is exchanged. */
export interface RefusedPeer {
  readonly process: string;
  /** MAJOR.MINOR of what it speaks. */
  readonly version: string;
  /** Which versions both have. */
  readonly message: string;
  readonly remedy: string;
}

export interface HandshakeOptions {
  /** Role and id, e.g. `node n1`. */
  readonly process: string;
  readonly clock: Clock;
  /** Called once for each peer that is refused, or refuses this process; not for each try. */
  readonly refused: (peer: RefusedPeer) => void;
  readonly version?: ProtocolVersion;
}

/**
 * Who a process is and what it speaks: said with every stream and call between our own processes, by who dials in its
 * metadata, by who accepts in its initial metadata; and what of it each thinks of the other.
 */
export class Handshake {
  /** What both ends send. Nothing is added to it. */
  readonly metadata = new Metadata();
  readonly #own: { readonly process: string; readonly version: ProtocolVersion };
  readonly #options: HandshakeOptions;
  readonly #refused = new Map<string, { readonly peer: RefusedPeer; at: number }>();

  constructor(options: HandshakeOptions) {
    const { process, version = protocolVersion } = options;
    this.#options = options;
    this.#own = { process, version };
    this.metadata.set(versionHeader, versionText(version));
    this.metadata.set(processHeader, encodeURIComponent(process));
  }

  /** Those that are refused now, or refuse this process. */
  get refused(): readonly RefusedPeer[] {
    const since = this.#options.clock.monotonic() - refusedMs;
    return [...this.#refused.values()].filter(({ at }) => at >= since).map(({ peer }) => peer);
  }

  /** @param where host:port of the peer, for one that doesn't say who it is */
  meet(metadata: Metadata, where: string): KeychainError | undefined {
    const peer = speakerOf(metadata, where);
    const why = whyRefused(this.#own, peer);
    if (why === undefined) this.#refused.delete(peer.process);
    else this.#note(peer.process, why.metadata['peerVersion'], why);
    return why;
  }

  /** What a peer refused this process with. */
  refusedBy(error: KeychainError, where: string): void {
    if (error.reason !== 'VERSION_UNKNOWN') return;
    const { process, version } = error.metadata;
    this.#note(named(process ?? where), version, error);
  }

  #note(process: string, said: string | undefined, why: KeychainError): void {
    const version = named(said ?? '');
    const at = this.#options.clock.monotonic();
    const before = this.#refused.get(process);
    if (before?.peer.version === version && at - before.at < refusedMs) {
      before.at = at;
      return;
    }
    const { what = why.message, remedy = '' } = why.metadata;
    const peer = { process, version, message: plain(what), remedy: plain(remedy) };
    this.#refused.delete(process);
    this.#refused.set(process, { peer, at });
    const [oldest] = this.#refused.keys();
    if (oldest !== undefined && this.#refused.size > refusedMax) this.#refused.delete(oldest);
    this.#options.refused(peer);
  }
}

/** Whether a process says what it speaks; a client doesn't. */
export function saysVersion(metadata: Metadata): boolean {
  return metadata.get(versionHeader).length > 0;
}

function speakerOf(metadata: Metadata, where: string): Speaker {
  const [version] = metadata.get(versionHeader);
  const [process] = metadata.get(processHeader);
  return {
    process: named(typeof process === 'string' ? decoded(process) : where),
    version: version === undefined ? undefined : named(String(version)),
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function named(text: string): string {
  return plain(text).slice(0, nameMax).toWellFormed();
}
