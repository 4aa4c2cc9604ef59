import { KeychainError } from '../base/errors.js';

/**
 * The version of what our processes say to each other. A minor one adds what older programs leave alone; a program
 * speaks one major version, and exchanges nothing with another.
 */
export interface ProtocolVersion {
  readonly major: number;
  readonly minor: number;
}

export const protocolVersion: ProtocolVersion = { major: 1, minor: 1 };

/** Of a process that says none: 0.1.0 did not. */
const unsaid = '1.0';

/** A process, and the version that it says it speaks. */
export interface Speaker {
  /** Role and id, e.g. `node n1`; host:port where it doesn't say. */
  readonly process: string;
  /** MAJOR.MINOR; undefined: it says none. */
  readonly version: string | undefined;
}

export function versionText({ major, minor }: ProtocolVersion): string {
  return `${major}.${minor}`;
}

/** NaN where the text is no version. */
function majorOf(text: string): number {
  return Number(/^(\d{1,9})\.\d{1,9}$/.exec(text)?.[1] ?? 'NaN');
}

/** Why nothing is exchanged with `peer`; undefined where both speak the same major version. */
export function whyRefused(
  own: { readonly process: string; readonly version: ProtocolVersion },
  peer: Speaker,
): KeychainError | undefined {
  const version = peer.version ?? unsaid;
  const major = majorOf(version);
  if (major === own.version.major) return undefined;
  const ownVersion = versionText(own.version);
  const isPeerOlder = major < own.version.major;
  const [older, newer] = isPeerOlder ? [peer.process, own.process] : [own.process, peer.process];
  const what = `${peer.process} speaks protocol ${version}, ${own.process} speaks ${ownVersion}: they exchange nothing`;
  const remedy = `upgrade ${older}, or start ${newer} with the program that it had before`;
  return new KeychainError('VERSION_UNKNOWN', `${what}; ${remedy}`, {
    process: own.process,
    version: ownVersion,
    peer: peer.process,
    peerVersion: version,
    what,
    remedy,
  });
}
