import { join } from 'node:path';
import { Lab, type LabProcess, main } from './cluster.js';
import type { Network } from './network.js';

const grpcPort = 7100;
const httpPort = 7101;

export interface Counts {
  readonly coordinators: number;
  readonly nodes: number;
  readonly proxies: number;
}

export function idsOf({ coordinators, nodes, proxies }: Counts): readonly string[] {
  return [
    ...numbered('coordinator', coordinators),
    ...numbered('node', nodes),
    ...numbered('proxy', proxies),
  ];
}

/** A lab whose processes run in the namespaces of a network, each at its own address; none is started. */
export function namespacedLab(network: Network, counts: Counts, dir: string): Lab {
  const at = (id: string, port: number): string => `${network.address(id)}:${port}`;
  const group = numbered('coordinator', counts.coordinators);
  const initialCluster = group.map((id) => `${id}=${at(id, grpcPort)}`).join(',');
  const addresses = group.map((id) => at(id, grpcPort)).join(',');
  const processes = idsOf(counts).map((id): LabProcess => {
    const role = roleOf(id);
    const grpc = at(id, grpcPort);
    const http = at(id, httpPort);
    const dataDir = role === 'proxy' ? '' : join(dir, id);
    const argv = [process.execPath, main, role, '--id', id, '--listen', grpc, '--http', http];
    if (dataDir !== '') argv.push('--data-dir', dataDir);
    if (role === 'coordinator') argv.push('--initial-cluster', initialCluster);
    else argv.push('--coordinators', addresses);
    if (role === 'node') argv.push('--join');
    return { role, id, grpc, http, dataDir, argv: network.inside(id, argv), pid: 0 };
  });
  return Lab.around(processes, dir);
}

function numbered(role: LabProcess['role'], count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${role}-${index + 1}`);
}

function roleOf(id: string): LabProcess['role'] {
  if (id.startsWith('coordinator-')) return 'coordinator';
  return id.startsWith('node-') ? 'node' : 'proxy';
}
