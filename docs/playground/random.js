// Random numbers that a seed repeats: Math.random has none.

export class Generator {
  /** seed: an integer in 0..2^32 - 1. */
  constructor(seed) {
    this.state = seed >>> 0;
  }

  /** Uniform in [0, 1): mulberry32, by Tommy Ettinger. */
  random() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let bits = this.state;
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }

  /** n standard normal numbers, by Box and Muller. */
  standard_normal(n) {
    return new Float64Array(n).map(() => {
      const radius = Math.sqrt(-2 * Math.log(1 - this.random()));
      return radius * Math.cos(2 * Math.PI * this.random());
    });
  }
}
