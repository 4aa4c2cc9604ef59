import { NodeMeter } from '../../src/chain/meter.js';
import type { NodeTelemetry } from '../../src/chain/tracing.js';
import type { Span, SpanSink } from '../../src/telemetry/span.js';
import { traceIdNamed } from '../../src/telemetry/span-ids.js';
import { contextOf } from '../../src/telemetry/trace-context.js';
import { CheckFailure } from './check.js';
import type { Coverage } from './coverage.js';

/**
 * What nodes tell of sampled writes under every fault: each span by itself makes sense, whatever happened. Only
 * some runs are traced: hop records are stored too, which is one more thing that a disk may lose.
 */
export class Spans implements SpanSink {
  /** The first span that made no sense. */
  failure: CheckFailure | undefined;
  readonly #isOn: boolean;
  readonly #coverage: Coverage;
  #made = 0;

  constructor(isOn: boolean, coverage: Coverage) {
    this.#isOn = isOn;
    this.#coverage = coverage;
  }

  /** For a node; its own clock began at any time. */
  telemetry(): NodeTelemetry {
    const meter = new NodeMeter();
    return this.#isOn ? { meter, sink: this, originMs: () => 1e12 } : { meter };
  }

  /** The context of a client's next operation. */
  context(): Uint8Array {
    if (!this.#isOn) return new Uint8Array(0);
    this.#made += 1;
    return contextOf(traceIdNamed('sim', this.#made), '', true);
  }

  record(span: Span): void {
    const { name, startUs, endUs, traceId, spanId, parentId, attributes } = span;
    const isHop = name === 'chain.write' || name === 'chain.apply';
    const isRight =
      /^[0-9a-f]{32}$/.test(traceId) &&
      /^[0-9a-f]{16}$/.test(spanId) &&
      spanId !== parentId &&
      startUs >= 1e15 &&
      endUs >= startUs &&
      (name !== 'chain.apply' || parentId !== '') &&
      (!isHop || Number(attributes?.['keychaindb.position']) >= 1);
    if (!isRight) {
      this.failure ??= new CheckFailure('spans', `a span makes no sense: ${JSON.stringify(span)}`);
    }
    if (isHop) this.#coverage.count('traced write');
  }
}
