import type { Command } from 'commander';

export const shellNames = ['bash', 'zsh', 'fish'] as const;
export type ShellName = (typeof shellNames)[number];

/** What may follow a path of commands: `'chain add'` → its flags; `''` → the verbs. */
function words(root: Command): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  const visit = (command: Command, path: string): void => {
    const verbs = command.commands.map((c) => c.name());
    const flags = command.options.flatMap(({ long }) => (long === undefined ? [] : [long]));
    found.set(path, [...verbs, ...flags, '--help']);
    for (const c of command.commands) visit(c, `${path} ${c.name()}`.trim());
  };
  visit(root, '');
  return found;
}

/** A script that teaches a shell the verbs and flags: `source <(keychaindb completion bash)`. */
export function completion(root: Command, shell: ShellName): string {
  switch (shell) {
    case 'bash':
      return bash(root);
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bash(root)}`;
    case 'fish':
      return fish(root);
  }
}

function bash(root: Command): string {
  const cases = [...words(root)].map(
    ([path, list]) => `    '${path}') words='${list.join(' ')}' ;;`,
  );
  return `_keychaindb() {
  local path='' word words
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) break ;; esac
    path="\${path:+$path }$word"
  done
  while :; do
    words=
    case "$path" in
${cases.join('\n')}
    esac
    [ -n "$words" ] && break
    case "$path" in *' '*) path="\${path% *}" ;; *) path='' ;; esac
  done
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
  [ \${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _keychaindb keychaindb
`;
}

function fish(root: Command): string {
  const lines = ['complete -c keychaindb -e'];
  const quoted = (text: string): string => `'${text.replaceAll("'", "\\'")}'`;
  const visit = (command: Command, path: readonly string[]): void => {
    const names = command.commands.map((c) => c.name());
    const seen = path.map((verb) => `__fish_seen_subcommand_from ${verb}`);
    const none = names.length === 0 ? [] : [`not __fish_seen_subcommand_from ${names.join(' ')}`];
    const when = [...seen, ...none].join('; and ') || 'true';
    for (const c of command.commands) {
      lines.push(
        `complete -c keychaindb -f -n ${quoted(when)} -a ${c.name()} -d ${quoted(c.description())}`,
      );
    }
    for (const { long, description } of command.options) {
      if (long === undefined || long === null) continue;
      lines.push(
        `complete -c keychaindb -n ${quoted(when)} -l ${long.slice(2)} -d ${quoted(description)}`,
      );
    }
    for (const c of command.commands) visit(c, [...path, c.name()]);
  };
  visit(root, []);
  return `${lines.join('\n')}\n`;
}
