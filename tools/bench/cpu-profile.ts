/* V8's CPU profiles (node --cpu-prof), summed up by what the time went into. */

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  /** The node that each sample saw, and the microseconds before it. */
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: {
    readonly functionName: string;
    readonly url: string;
    readonly lineNumber: number;
  };
}

export interface Share {
  readonly name: string;
  /** Part of the time that was not idle, 0 to 1. */
  readonly part: number;
}

/** Self times by owner: a package, a room of ours, Node, the collector of garbage. */
export function byOwner(profiles: readonly CpuProfile[]): readonly Share[] {
  return shares(profiles, ({ functionName, url }) => ownerOf(functionName, url));
}

/** Self times by function. */
export function byFunction(profiles: readonly CpuProfile[]): readonly Share[] {
  return shares(profiles, ({ functionName, url, lineNumber }) => {
    const file = url.replace(/^.*\/(node_modules|dist)\//, '');
    const name = functionName === '' ? 'anonymous' : functionName;
    return url === '' ? name : `${name} ${file}:${lineNumber + 1}`;
  });
}

function ownerOf(functionName: string, url: string): string {
  if (functionName === '(garbage collector)') return 'garbage collection';
  if (functionName === '(program)') return 'native code of V8 and Node';
  const package_ = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*\/node_modules\/)/.exec(url)?.[1];
  if (package_ !== undefined) return package_;
  const room = /\/dist\/src\/([^/]+)\//.exec(url)?.[1];
  if (room !== undefined) return `src/${room}`;
  if (
    /^node:internal\/(http2|streams|stream_base|js_stream)|^node:(net|stream|_?http|internal\/http)/.test(
      url,
    )
  ) {
    return 'node: http2, http, net, streams';
  }
  return url.startsWith('node:') ? 'node: others' : 'native calls';
}

function shares(
  profiles: readonly CpuProfile[],
  nameOf: (frame: ProfileNode['callFrame']) => string,
): readonly Share[] {
  const sums = new Map<string, number>();
  let all = 0;
  for (const { nodes, samples, timeDeltas } of profiles) {
    const names = new Map(
      nodes.map(({ id, callFrame }) => [
        id,
        callFrame.functionName === '(idle)' ? undefined : nameOf(callFrame),
      ]),
    );
    for (const [i, sample] of samples.entries()) {
      const name = names.get(sample);
      if (name === undefined) continue;
      const micros = timeDeltas[i] ?? 0;
      sums.set(name, (sums.get(name) ?? 0) + micros);
      all += micros;
    }
  }
  return [...sums]
    .map(([name, micros]) => ({ name, part: micros / all }))
    .sort((a, b) => b.part - a.part);
}
