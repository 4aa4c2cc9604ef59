import { systemClock } from '../base/clock.js';
import { CollectorExporter } from '../telemetry/exporter.js';
import { type Logger, startLog } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import type { Instance } from '../telemetry/span.js';
import { Traces } from '../telemetry/traces.js';
import { WallTime } from '../telemetry/wall-time.js';
import type { TelemetryFlags } from './telemetry-flags.js';
import { version } from './version.js';

/** What a process reports to. */
export interface ProcessTelemetry {
  readonly own: Instance;
  readonly log: Logger;
  readonly traces: Traces;
  readonly metrics: Metrics;
  readonly wall: WallTime;
  /** Part of the operations that is traced where the caller hasn't decided. */
  readonly ratio: number;
  readonly slowMs: number;
  readonly contentBytes: number;
  /** To be called when the process listens: what exports are made with is loaded now. */
  begin(): void;
  close(): Promise<void>;
}

/** @param worker which of several processes with this id it is */
export function startTelemetry(
  role: 'coordinator' | 'node' | 'proxy',
  id: string,
  flags: TelemetryFlags,
  worker?: number,
): ProcessTelemetry {
  const service = `keychaindb-${role}`;
  const own = { service, instance: worker === undefined ? id : `${id}/${worker}` };
  const log = startLog(own, flags.logLevel);
  const { otlp, otlpProtocol, traceRatio, traceContent, slow } = flags;
  const exporter =
    otlp === undefined
      ? undefined
      : new CollectorExporter({
          url: otlp,
          protocol: otlpProtocol,
          own,
          version: version(),
          clock: systemClock,
          losing: (isLosing, why) => {
            if (isLosing) log.warn({ otlp, why }, 'spans are lost: the data path does not wait');
            else log.info({ otlp }, 'the collector takes spans again');
          },
        });
  const traces = new Traces(own, exporter);
  return {
    own,
    log,
    traces,
    metrics: new Metrics({ service, instance: id }, version(), traces),
    wall: new WallTime(systemClock, performance.timeOrigin),
    ratio: traceRatio ?? (otlp === undefined ? 0 : 1),
    slowMs: slow,
    contentBytes: traceContent,
    begin: () => {
      exporter
        ?.begin()
        .catch((error: unknown) => log.error({ otlp }, `no spans go out: ${String(error)}`));
    },
    close: () => traces.close(),
  };
}
