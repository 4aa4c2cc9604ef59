/** Every metric that docs/names.md lists, with its prefix and without its labels. */
export function metricNames(names: string): ReadonlySet<string> {
  const section = names.slice(names.indexOf('## Metrics'), names.indexOf('Logs: one JSON'));
  const found = new Set<string>();
  for (const line of section.split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    if (cells.length < 4 || !/^[a-z]/.test(cells[1] ?? '') || cells[1] === 'of') continue;
    const parts = [...(cells[2] ?? '').matchAll(/`([^`]+)`/g)].map(([, part]) => part ?? '');
    // A first word that ends in an underscore is a prefix of the rest.
    const prefix = parts[0]?.endsWith('_') ? parts[0] : '';
    for (const part of prefix === '' ? parts : parts.slice(1)) {
      for (const word of part.split(/\s+/)) {
        found.add(`keychaindb_${prefix}${word.replace(/\{.*$/, '')}`);
      }
    }
  }
  return found;
}
