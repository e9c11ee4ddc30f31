// Makes land.path, the outline of the land on the audit's map: one SVG path, equirectangular, two units for a degree,
// with 180 west and 90 north at the origin.
//
// Source: Natural Earth 1:110m land (public domain), version 4.1.0, as TopoJSON in the npm package world-atlas 2.0.2
// (ISC). To make it again, in any folder:
//
//   npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
//   node land.mjs package/land-110m.json > land.path
import { readFileSync } from "node:fs";

// Antarctica is left out: it is no place for a region, and takes a fifth of the map.
const SOUTH = -60;
// In units: how far a line may be from where it was, and the smallest island.
const TOLERANCE = 0.6;
const SMALLEST = 2;

const { arcs, objects, transform } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { scale, translate } = transform;

const decoded = arcs.map((arc) => {
  let [x, y] = [0, 0];
  return arc.map(([dx, dy]) => {
    [x, y] = [x + dx, y + dy];
    return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
  });
});

const ring = (numbers) =>
  numbers.flatMap((number, place) => {
    const points = number < 0 ? [...decoded[~number]].reverse() : decoded[number];
    return place === 0 ? points : points.slice(1);
  });

// Goes on beyond 180 east or west instead of jumping to the other side of the map.
const unwrap = (points) => {
  let turn = 0;
  return points.map(([east, north], place) => {
    const step = place === 0 ? 0 : east - points[place - 1][0];
    turn -= Math.abs(step) > 180 ? Math.sign(step) * 360 : 0;
    return [east + turn, north];
  });
};

// What passes the edge is drawn on both sides: the map cuts it off.
const bothSides = (points) =>
  [0, -720, 720]
    .map((shift) => points.map(([x, y]) => [x + shift, y]))
    .filter((points) => points.some(([x]) => x > 0 && x < 720));

// Ramer, Douglas and Peucker.
const simplify = (points) => {
  if (points.length < 3) return points;
  const [[ax, ay], [bx, by]] = [points[0], points.at(-1)];
  const length = Math.hypot(bx - ax, by - ay);
  const distance = ([x, y]) =>
    length === 0 ? Math.hypot(x - ax, y - ay) : Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / length;
  let [farthest, most] = [0, 0];
  points.forEach((point, place) => {
    if (distance(point) > most) [farthest, most] = [place, distance(point)];
  });
  if (most <= TOLERANCE) return [points[0], points.at(-1)];
  return [...simplify(points.slice(0, farthest + 1)).slice(0, -1), ...simplify(points.slice(farthest))];
};

const area = (points) =>
  Math.abs(points.reduce((sum, [x, y], place) => {
    const [nextX, nextY] = points[(place + 1) % points.length];
    return sum + x * nextY - nextX * y;
  }, 0)) / 2;

const polygons = objects.land.geometries.flatMap((geometry) =>
  geometry.type === "Polygon" ? [geometry.arcs] : geometry.arcs);
const path = polygons
  .flat()
  .map(ring)
  .filter((points) => points.some(([, latitude]) => latitude > SOUTH))
  .map(unwrap)
  .map((points) => points.map(([east, north]) => [(east + 180) * 2, (90 - north) * 2]))
  .filter((points) => area(points) >= SMALLEST)
  .map((points) => simplify(points).map(([x, y]) => [Math.round(x), Math.round(y)]).slice(0, -1))
  .filter((points) => points.length >= 3)
  .flatMap(bothSides)
  .map((points) => {
    let [x, y] = points[0];
    const steps = points.slice(1).map(([nextX, nextY]) => {
      const step = `${nextX - x} ${nextY - y}`;
      [x, y] = [nextX, nextY];
      return step;
    });
    return `M${points[0].join(" ")}l${steps.join(" ")}z`.replaceAll(" -", "-");
  })
  .join("");
console.log(path);
