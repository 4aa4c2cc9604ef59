import { ChannelCredentials, Client, Metadata } from '@grpc/grpc-js';
import { type Protocol, type ProtocolName, protocols } from '../protocols.js';

export interface ServerProcess {
  readonly id: string;
  readonly role: string;
  readonly pid: number;
}

/** Answers so far by code, by the server's own count. */
export type Counts = Readonly<Record<string, number>>;

/** Where a system is asked: at a proxy, at its nodes, at its leader. */
export interface Door {
  readonly name: string;
  readonly protocol: ProtocolName;
  /** host:port; connections are spread over them. */
  readonly grpc: readonly string[];
  readonly http: readonly string[];
  /** Every process of the system, whether it is asked or not. */
  readonly processes: readonly ServerProcess[];
  counts(): Promise<Counts>;
}

export interface System {
  readonly name: string;
  readonly processes: readonly ServerProcess[];
  /** Ends its processes and removes its folders. */
  stop(): Promise<void>;
}

export function protocolOf(door: Door): Protocol {
  return protocols[door.protocol];
}

/** One read at a door; undefined where the key is absent. */
export async function readBack(door: Door, key: string): Promise<Uint8Array | undefined> {
  const protocol = protocolOf(door);
  const [address = ''] = door.grpc;
  const answer = await unary(address, protocol.getPath, protocol.get(key));
  return protocol.found(answer).value;
}

/** One call on a connection of its own. */
export function unary(address: string, path: string, message: Uint8Array): Promise<Uint8Array> {
  const client = new Client(address, ChannelCredentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': -1,
  });
  return new Promise<Uint8Array>((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
      Buffer.from(message),
      new Metadata(),
      { deadline: Date.now() + 10_000 },
      (error, response) => {
        if (error !== null || response === undefined) reject(error ?? new Error('no answer'));
        else resolve(response);
      },
    );
  }).finally(() => client.close());
}

/** Sums of a counter by one of its labels, over the texts of /metrics. `only`: lines with this in them. */
export function countsOf(
  texts: readonly string[],
  counter: string,
  label: string,
  only: RegExp,
): Counts {
  const sums: Record<string, number> = {};
  const labelled = new RegExp(`[{,]${label}="([^"]*)"`);
  for (const text of texts) {
    for (const line of text.split('\n')) {
      if (!line.startsWith(`${counter}{`) || !only.test(line)) continue;
      const code = labelled.exec(line)?.[1] ?? '';
      sums[code] = (sums[code] ?? 0) + Number(line.slice(line.lastIndexOf(' ') + 1));
    }
  }
  return sums;
}

/** On a machine that is busy for seconds a connection may not come about at once: it is tried three times. */
export async function metricsText(address: string, attempts = 3): Promise<string> {
  try {
    return await (await fetch(`http://${address}/metrics`)).text();
  } catch (error) {
    if (attempts <= 1) throw error;
    return metricsText(address, attempts - 1);
  }
}
