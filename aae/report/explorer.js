// The latent explorer shows the image that the decoder decodes from a position in the plane of codes.
"use strict";

const data = JSON.parse(document.getElementById("explorer-data").textContent);
const [HEIGHT, WIDTH, CHANNELS = 1] = data.image_size;
const LABELLED = data.class_names.length > 0;
const STEP = 0.01; // step of an arrow key as a share of the plane; ten times as long with Shift
const REACH = 0.03; // largest distance between a click and its dot

// All dots of images without labels have the first and only colour.
const labelOf = (index) => (LABELLED ? data.labels[index] : 0);
const clamp = (share) => Math.min(1, Math.max(0, share));

// Return the pixels of a sheet of images: red, green, blue and alpha, of which grey images need only one.
async function readSheet(address, columns) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return { pixels: context.getImageData(0, 0, image.width, image.height).data, width: image.width, columns };
}

// Draw a weighted mean of images of a sheet: colours as they are, grey images black on white.
function drawBlend(canvas, sheet, parts) {
  const image = new ImageData(WIDTH, HEIGHT);
  for (let row = 0; row < HEIGHT; row++) {
    for (let column = 0; column < WIDTH; column++) {
      const values = [0, 0, 0];
      for (const [index, weight] of parts) {
        const y = Math.floor(index / sheet.columns) * HEIGHT + row;
        const x = (index % sheet.columns) * WIDTH + column;
        for (let k = 0; k < 3; k++) values[k] += weight * sheet.pixels[4 * (y * sheet.width + x) + k];
      }
      const shown = CHANNELS === 1 ? values.map((value) => 255 - value) : values;
      image.data.set([...shown, 255], 4 * (row * WIDTH + column));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Return the four (or, on a line, two) points of the grid around a position, and their weights.
function neighbours([columns, rows], [x, y]) {
  const [left, low] = [x * (columns - 1), y * (rows - 1)];
  const parts = [];
  for (const j of new Set([Math.floor(low), Math.ceil(low)])) {
    for (const i of new Set([Math.floor(left), Math.ceil(left)])) {
      parts.push([j * columns + i, (1 - Math.abs(left - i)) * (1 - Math.abs(low - j))]);
    }
  }
  return parts;
}

function svg(parent, name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

class Panel {
  constructor(root, model) {
    Object.assign(this, { root, model, position: [0.5, 0.5] });
    this.plane = root.querySelector("svg");
    this.canvas = root.querySelector(".decoded");
    this.output = root.querySelector("output");
    this.choice = root.querySelector("select"); // only if the decoder takes a class or a cluster
    this.sliders = [...root.querySelectorAll("input")];
    const place = ([x, y]) => `${(100 * x).toFixed(2)} ${(100 - 100 * y).toFixed(2)}`;
    for (const curve of model.curves) svg(this.plane, "path", { class: "curve", d: `M${curve.map(place).join("L")}` });
    this.dots = model.dots.map(([x, y], index) => {
      const attributes = { class: "dot", cx: 100 * x, cy: 100 - 100 * y, r: 0.9, fill: data.colours[labelOf(index)] };
      const dot = svg(this.plane, "circle", attributes);
      if (LABELLED) svg(dot, "title", {}).textContent = data.class_names[labelOf(index)];
      return dot;
    });
    this.cross = svg(this.plane, "path", { class: "cross" });
    this.listen();
  }

  async load() {
    const [columns] = this.model.grid;
    const perRow = this.model.grid[1] === 1 ? data.columns : columns;
    this.decoded = await readSheet(this.model.decoded, perRow);
    this.reconstructions = await readSheet(this.model.reconstructions, data.columns);
    this.moveTo(this.position);
  }

  listen() {
    const pointed = (event) => {
      const box = this.plane.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    };
    for (const kind of ["pointerdown", "pointermove"]) {
      this.plane.addEventListener(kind, (event) => this.moveTo(pointed(event)));
    }
    this.plane.addEventListener("click", (event) => {
      const [index, distance] = this.nearest(pointed(event));
      if (distance < REACH) pick(index);
    });
    this.plane.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
      const step = event.shiftKey ? 10 * STEP : STEP;
      if (event.key in moves) this.moveTo(this.position.map((share, k) => share + step * moves[event.key][k]));
      else if (event.key === "Enter") pick(this.nearest(this.position)[0]);
      else return;
      event.preventDefault();
    });
    this.choice?.addEventListener("change", () => this.moveTo(this.position));
    this.sliders.forEach((slider, k) => slider.addEventListener("input", () => {
      this.moveTo(this.position.map((share, other) => (other === k ? Number(slider.value) : share)));
    }));
  }

  nearest([x, y]) {
    const distances = this.model.dots.map(([a, b], index) => (
      this.dots[index].classList.contains("faint") ? Infinity : Math.hypot(a - x, b - y)));
    const smallest = Math.min(...distances);
    return [distances.indexOf(smallest), smallest];
  }

  moveTo(position) {
    if (!this.decoded) return;
    this.position = position.map(clamp);
    const [columns, rows] = this.model.grid;
    const first = columns * rows * (this.choice?.selectedIndex ?? 0); // each choice has a grid of its own
    const parts = neighbours(this.model.grid, this.position).map(([index, weight]) => [first + index, weight]);
    drawBlend(this.canvas, this.decoded, parts);
    const { low, high } = this.model;
    const code = low.map((end, k) => (end + (high[k] - end) * this.position[k]).toFixed(2));
    this.output.textContent = `(${code.join(", ")})`;
    this.sliders.forEach((slider, k) => {
      slider.value = this.position[k];
      slider.setAttribute("aria-valuetext", code[k]);
    });
    const [x, y] = [100 * this.position[0], 100 - 100 * this.position[1]];
    this.cross.setAttribute("d", low.length === 1 ? `M${x} 0V100M${x - 1} ${y}h2` : `M${x - 3} ${y}h6M${x} ${y - 3}v6`);
  }
}

const panels = Object.entries(data.models).map(([name, model]) => new Panel(document.getElementById(`explore-${name}`), model));
let originals;

// Show a test image, its reconstruction by each model, and the positions of its codes.
function pick(index) {
  const shown = document.getElementById("picked");
  drawBlend(shown.querySelector(".original"), originals, [[index, 1]]);
  if (LABELLED) shown.querySelector(".class").textContent = data.class_names[labelOf(index)];
  for (const panel of panels) {
    drawBlend(shown.querySelector(`.${panel.root.dataset.model}`), panel.reconstructions, [[index, 1]]);
    const own = panel.model.chosen?.[index] ?? null;
    if (own !== null) panel.choice.selectedIndex = own;
    panel.moveTo(panel.model.dots[index]);
    panel.dots.forEach((dot, other) => dot.classList.toggle("picked", other === index));
    panel.plane.append(panel.dots[index], panel.cross); // in front of the others
  }
  shown.hidden = false;
}

for (const button of document.querySelectorAll("#classes button")) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    for (const other of document.querySelectorAll("#classes button")) other.setAttribute("aria-pressed", other === button && pressed);
    for (const panel of panels) {
      panel.dots.forEach((dot, index) => dot.classList.toggle("faint", pressed && labelOf(index) !== Number(button.value)));
    }
  });
}

Promise.all([readSheet(data.originals, data.columns).then((sheet) => { originals = sheet; }), ...panels.map((panel) => panel.load())])
  .then(() => document.getElementById("explorer").setAttribute("data-ready", ""));
