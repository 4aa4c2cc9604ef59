import { Histogram, sizeBounds } from '../telemetry/histogram.js';
import { RequestMeter } from '../telemetry/request-meter.js';

/** What a node counts over all its incarnations; read by /metrics. */
export class NodeMeter {
  readonly requests = new RequestMeter();
  /** Seconds from the begin of a batch's write to its sync. */
  readonly syncs = new Histogram();
  /** Seconds from sending a block to its sync at the successor, as this node hears of it. */
  readonly forwards = new Histogram();
  /** Seconds from the arrival of a block to its commit here. */
  readonly commits = new Histogram();
  /** Entries in a group commit. */
  readonly batches = new Histogram(sizeBounds);
  incarnations = 0;

  /** A block is over here; milliseconds, NaN where a stage was not passed. */
  passed(times: {
    readonly sync: number;
    readonly forward: number;
    readonly commit: number;
    readonly entries: number;
  }): void {
    this.syncs.observe(times.sync / 1_000);
    this.forwards.observe(times.forward / 1_000);
    this.commits.observe(times.commit / 1_000);
    this.batches.observe(times.entries);
  }
}
