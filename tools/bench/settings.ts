/** What a run is told. */
export interface Settings {
  /** Times that each contender runs; medians are printed. */
  readonly rounds: number;
  /** Rounds before them that count for nothing: code is compiled then. */
  readonly warmUps: number;
  /** Of each run. */
  readonly seconds: number;
  /** In all, over all addresses of a door. */
  readonly connections: number;
  /** Calls in flight on each connection. */
  readonly streams: number;
  readonly valueBytes: number;
  readonly keys: number;
  /** Of our proxy. */
  readonly workers: number;
  /** The Node that runs our processes, the floor and our generator. */
  readonly node: string;
  /** Of one CPU, that each node of a growing chain gets. */
  readonly share: number;
  readonly soakMinutes: number;
  readonly syncKeys: number;
  readonly restartKeys: number;
  /** Where the part `profile` leaves V8's profiles; undefined: they are removed. */
  readonly profiles: string | undefined;
  readonly say: (text: string) => void;
}
