// The data: a mixture of round clouds in the plane, {x, y, std, weight} each.

export const REACH = 3; // where clouds may lie: -REACH..REACH
export const MOST = 60; // clouds

const around = (n, place) =>
  Array.from({ length: n }, (_, i) => ({ weight: 1, ...place(i / n) }));

const SHAPES = {
  ring: around(16, (u) => ({
    x: 1.3 * Math.cos(2 * Math.PI * u),
    y: 1.3 * Math.sin(2 * Math.PI * u),
    std: 0.1,
  })),
  cloud: around(1, () => ({ x: 0.5, y: 0, std: 0.8 })),
  two: around(2, (u) => ({ x: 4 * u - 1, y: 0, std: 0.25 })),
  grid: around(9, (u) => ({
    x: 1.2 * ((9 * u) % 3) - 1.2,
    y: 1.2 * Math.floor(3 * u + 1e-9) - 1.2,
    std: 0.1,
  })),
  spiral: around(24, (u) => ({
    x: (0.3 + 1.5 * u) * Math.cos(9 * u),
    y: (0.3 + 1.5 * u) * Math.sin(9 * u),
    std: 0.08,
  })),
};

/** The clouds that a text stands for: a shape's name, x,y,std,weight;..., or nothing. */
export function parse(text) {
  if (Object.hasOwn(SHAPES, text)) return SHAPES[text].map((cloud) => ({ ...cloud }));
  if (text === "") return [];
  const clouds = text.split(";").map((part) => {
    const [x, y, std, weight, ...more] = part.split(",").map(Number);
    const inside = Math.abs(x) <= REACH && Math.abs(y) <= REACH;
    const positive = std >= 0.02 && std <= 2 && weight >= 0.1 && weight <= 10;
    if (!inside || !positive || more.length) {
      throw new RangeError(
        `mixture has "${part}", expected x,y,std,weight: x and y in -3..3, ` +
          `std in 0.02..2, weight in 0.1..10`,
      );
    }
    return { x, y, std, weight };
  });
  if (clouds.length > MOST) {
    throw new RangeError(`mixture has ${clouds.length} clouds, expected at most ${MOST}`);
  }
  return clouds;
}

/** The text that stands for clouds. */
export function text(clouds) {
  const round = (value) => Math.round(value * 100) / 100;
  return clouds.map((c) => [c.x, c.y, c.std, c.weight].map(round).join(",")).join(";");
}

/** n points drawn from the mixture, x and y in turn. */
export function draw(clouds, rng, n) {
  const total = clouds.reduce((sum, cloud) => sum + cloud.weight, 0);
  const points = rng.standard_normal(2 * n);
  for (let i = 0; i < 2 * n; i += 2) {
    const cloud = chosen(clouds, total * rng.random());
    points[i] = cloud.x + cloud.std * points[i];
    points[i + 1] = cloud.y + cloud.std * points[i + 1];
  }
  return points;
}

/** The cloud in which `left` ends, if each is as long as its weight. */
function chosen(clouds, left) {
  let passed = 0;
  for (const cloud of clouds) {
    passed += cloud.weight;
    if (left < passed) return cloud;
  }
  return clouds.at(-1); // by rounding
}

/** Standard deviation of the points, and the share within 3 std of a cloud. */
export function measured(points, clouds) {
  const n = points.length / 2;
  let [x, y, squares, near] = [0, 0, 0, 0];
  for (let i = 0; i < 2 * n; i += 2) {
    const [px, py] = [points[i], points[i + 1]];
    x += px / n;
    y += py / n;
    squares += (px ** 2 + py ** 2) / n;
    near += clouds.some((c) => Math.hypot(px - c.x, py - c.y) <= 3 * c.std) / n;
  }
  return { spread: Math.sqrt((squares - x ** 2 - y ** 2) / 2), near };
}
