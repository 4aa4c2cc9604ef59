import { Command } from 'commander';
import { duration, flag, hostPorts } from './options.js';
import type { ClientFlags } from './verbs.js';

/** A verb of the client: where to ask, for how long, and how to print. */
export function client(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .addOption(
      flag('--endpoints <host:port,…>', 'gRPC of proxies')
        .argParser(hostPorts)
        .default(['127.0.0.1:7400'], '127.0.0.1:7400'),
    )
    .addOption(
      flag('--timeout <time>', 'how long it may take: 2s, 500ms')
        .argParser(duration)
        .default(5_000, '5s'),
    )
    .addOption(
      flag('-o, --output <format>', 'table or json').choices(['table', 'json']).default('table'),
    );
}

/** Runs a verb of the client; what it returns is the exit code. */
export function verb<Args extends readonly unknown[], Flags = ClientFlags>(
  action: (...args: [...Args, Flags]) => Promise<number>,
): (...args: [...Args, Flags]) => Promise<void> {
  return async (...args) => {
    process.exitCode = await action(...args);
  };
}
