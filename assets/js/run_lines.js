// Reads runs from JSON Lines that grow at their end (`app/payloads/run_lines.py`).

/**
 * A function that takes the lines again and again, and reads those that it has not read yet.
 * @returns {(value: string | null) => RunPayload | null}
 */
export function createRunReader() {
  let read = "";
  /** @type {RunPayload[]} the run and its samples, without their steps */
  let members = [];
  /** @type {StepPayload[][]} the steps of each */
  let steps = [];

  /** @param {any} line */
  const readLine = (line) => {
    if (!members.length) {
      members = line;
      steps = members.map(() => []);
    } else if (typeof line[0] === "number") {
      steps[line[0]].push(line[1]);
    } else {
      members = members.map((member, i) => ({ ...member, ...line[i] }));
    }
  };

  /** @param {number} i */
  const member = (i) => ({
    ...members[i],
    steps: [...steps[i]],
    ended: members[i].ended ?? steps[i].at(-1)?.ended ?? false,
    finished: members[i].finished ?? false,
    status: members[i].status ?? "",
  });

  return (value) => {
    if (!value) return null;
    if (!value.startsWith(read)) [read, members, steps] = ["", [], []];
    for (const line of value.slice(read.length).split("\n")) if (line) readLine(JSON.parse(line));
    read = value;
    const [first, ...samples] = members.map((_, i) => member(i));
    return { ...first, samples };
  };
}
