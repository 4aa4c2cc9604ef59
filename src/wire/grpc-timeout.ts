/** Milliseconds of each unit of `grpc-timeout`. */
const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/** The longest that a timer of Node takes. */
const longestMs = 2 ** 31 - 1;

/**
 * Whole milliseconds of a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, section
 * requests). Undefined where it is anything else.
 */
export function parseGrpcTimeout(header: string): number | undefined {
  const digits = header.length - 1;
  if (digits < 1 || digits > 8) return undefined;
  let value = 0;
  for (let index = 0; index < digits; index += 1) {
    const digit = header.charCodeAt(index) - 48;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  const unit = unitMs[header.charAt(digits)];
  return unit === undefined ? undefined : Math.min(Math.trunc(value * unit), longestMs);
}
