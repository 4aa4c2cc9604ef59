import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** `promtool` of PROMTOOL or the PATH (Debian: prometheus). */
export function findPromtool(): string | undefined {
  const dirs = (process.env['PATH'] ?? '').split(delimiter);
  const places = [process.env['PROMTOOL'] ?? '', ...dirs.map((dir) => join(dir, 'promtool'))];
  return places.find((place) => {
    try {
      if (place !== '') accessSync(place, constants.X_OK);
      return place !== '';
    } catch {
      return false;
    }
  });
}
