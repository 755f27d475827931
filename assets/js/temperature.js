// Temperature on the page: the weights of a pool while a slider moves, and a sentence on the effect of a temperature.

const LOG_SQRT_2_PI = 0.5 * Math.log(2 * Math.PI);

/**
 * log Gamma(x) for x > 0. Stirling's series is exact to double precision from 12 on; the recurrence moves x there.
 * @param {number} x
 */
function logGamma(x) {
  let shift = 0;
  let z = x;
  for (; z < 12; z++) shift -= Math.log(z);
  const r = 1 / (z * z);
  const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / z;
  return shift + (z - 0.5) * Math.log(z) - z + LOG_SQRT_2_PI + series;
}

/**
 * The same as `calm.temper`, so that the slider needs no request; a test compares the two.
 * @param {number[]} counts how often each distinct chunk occurs in a pool
 * @param {number} temperature
 * @returns {number[]} the probability of each chunk at this temperature
 */
export function temper(counts, temperature) {
  let s = 1 / temperature;
  const highest = Math.max(...counts);
  if (Math.floor(s) > highest) s = Math.max(1, highest + s - Math.floor(s));
  const least = Math.max(1, Math.floor(s));
  const logs = counts.map((k) => (k >= least ? logGamma(k + 1) - logGamma(k + 1 - s) : Number.NEGATIVE_INFINITY));
  const peak = Math.max(...logs);
  const weights = logs.map((log) => Math.exp(log - peak));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/**
 * The distribution of the exact sampler where each of its draws is one of these samples: each share to the power 1/T,
 * renormalised (paper, section 5.1, Algorithm 1). It exists for T <= 1.
 * @param {number[]} counts how often each distinct chunk occurs in a pool
 * @param {number} temperature
 * @returns {number[]}
 */
export function exactShares(counts, temperature) {
  const highest = Math.max(...counts);
  const weights = counts.map((count) => (count / highest) ** (1 / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/**
 * The effect of a temperature, in one line.
 * @param {number | string | null} temperature
 */
export function temperatureMessage(temperature) {
  const t = Number(temperature);
  if (!(t > 0)) return "The temperature must be above 0.";
  const power = 1 / t;
  return `${t.toFixed(2)}: ${effect(power)}${power < 0.995 ? "; rare chunks become more likely" : ""}`;
}

/** @param {number} power */
function effect(power) {
  /** @param {number} exponent */
  const isNear = (exponent) => Math.abs(power - exponent) < 0.005;
  if (isNear(1)) return "chunk probabilities unchanged";
  const raised = isNear(2) ? "squared" : isNear(3) ? "cubed" : `to the power ${power.toFixed(2)}`;
  return `each chunk's probability ${raised}, then renormalised`;
}
