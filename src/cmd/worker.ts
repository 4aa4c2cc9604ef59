/*
 * A worker of a proxy, as the primary of workers.ts starts it.
 */
import { exitCodes } from './exit-codes.js';
import { failed } from './process.js';
import { runProxy } from './proxy.js';
import { WorkerLink } from './worker-link.js';

try {
  const { link, flags } = await WorkerLink.begin();
  await runProxy(flags, link);
  process.exit(exitCodes.ok);
} catch (error) {
  // It has timers and connections open: nothing is waited for.
  process.exit(failed(error));
}
