/** On one line, and without what would steer a terminal: keys, names and errors come from elsewhere. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]+/gu, ' ');
}

const wide =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u;
const zeroWidth = /[\p{Mn}\p{Me}\p{Cf}]/u;

/** Columns that a terminal gives a character: East Asian ones have two, marks none. */
function columnsOfChar(char: string): number {
  if (char <= '\u{7e}') return 1;
  if (zeroWidth.test(char)) return 0;
  return wide.test(char) ? 2 : 1;
}

/** Columns that a terminal gives a text. */
export function columnsIn(text: string): number {
  let columns = 0;
  for (const char of text) columns += columnsOfChar(char);
  return columns;
}

/** Cut or filled up to so many columns. */
export function padded(text: string, width: number): string {
  const fits = cut(text, width);
  return fits + ' '.repeat(width - columnsIn(fits));
}

/** At most so many columns; `…` stands for what is left out. */
export function cut(text: string, width: number): string {
  if (columnsIn(text) <= width) return text;
  let kept = '';
  let columns = 0;
  for (const char of text) {
    columns += columnsOfChar(char);
    if (columns > width - 1) break;
    kept += char;
  }
  return `${kept}…`;
}
