// Comma-separated values that spreadsheet programs read as they were written.

/**
 * A table as CSV (RFC 4180). A byte order mark marks it as UTF-8. A text that a spreadsheet program would run as a
 * formula gets an apostrophe in front. Null is an empty cell.
 * @param {string[]} columns
 * @param {(string | number | null)[][]} rows
 */
export function csv(columns, rows) {
  return `\ufeff${[columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** @param {string | number | null} value */
function cell(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}
