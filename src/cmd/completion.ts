import type { Command } from 'commander';

export const shellNames = ['bash', 'zsh', 'fish'] as const;
export type ShellName = (typeof shellNames)[number];

/** What may follow a path of commands: `'chain add'` → its flags; `''` → the verbs; `'wait --for'` → what the flag takes. */
function words(root: Command): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  const visit = (command: Command, path: string): void => {
    const verbs = command.commands.map((c) => c.name());
    const flags = command.options.flatMap(({ long }) => (long === undefined ? [] : [long]));
    const choices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
    found.set(path, [...verbs, ...choices, ...flags, '--help']);
    for (const { long, short, argChoices } of command.options) {
      if (argChoices === undefined) continue;
      for (const name of [long, short]) if (name) found.set(`${path} ${name}`.trim(), argChoices);
    }
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
    ([path, list]) => `    '${path}') choices='${list.join(' ')}' ;;`,
  );
  // Not `path` and `words`: zsh has its own.
  return `_keychaindb() {
  local verbs='' flag='' word choices
  for word in "\${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
    case "$word" in
      -*) flag=$word ;;
      *) [ -n "$flag" ] && flag='' || verbs="\${verbs:+$verbs }$word" ;;
    esac
  done
  while :; do
    choices=
    case "$verbs\${flag:+ $flag}" in
${cases.join('\n')}
    esac
    [ -n "$choices" ] && break
    if [ -n "$flag" ]; then flag=''; continue; fi
    case "$verbs" in *' '*) verbs="\${verbs% *}" ;; *) verbs='' ;; esac
  done
  COMPREPLY=($(compgen -W "$choices" -- "\${COMP_WORDS[COMP_CWORD]}"))
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
    for (const { argChoices } of command.registeredArguments) {
      if (argChoices === undefined) continue;
      lines.push(`complete -c keychaindb -f -n ${quoted(when)} -a ${quoted(argChoices.join(' '))}`);
    }
    for (const { long, short, description, argChoices } of command.options) {
      if (long === undefined || long === null) continue;
      const names = `-l ${long.slice(2)}${short ? ` -s ${short.slice(1)}` : ''}`;
      const takes = argChoices === undefined ? '' : ` -x -a ${quoted(argChoices.join(' '))}`;
      lines.push(
        `complete -c keychaindb -n ${quoted(when)} ${names}${takes} -d ${quoted(description)}`,
      );
    }
    for (const c of command.commands) visit(c, [...path, c.name()]);
  };
  visit(root, []);
  return `${lines.join('\n')}\n`;
}
