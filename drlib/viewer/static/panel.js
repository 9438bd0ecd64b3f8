// What the widgets share. It is put before each widget's own script: a module that is imported from a blob has no neighbours to import.

const DPR = () => Math.min(window.devicePixelRatio || 1, 2);
const STILL = window.matchMedia?.("(prefers-reduced-motion: reduce)");
let made = 0;
const PREFIX = `drlib-${Math.random().toString(36).slice(2, 8)}`; // several widgets share a page: their ids must differ

/** Make an element. Attributes that start with "on" are listeners; false and null ones are left out. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Make an element of a drawing (SVG). */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function control(name, input, ...after) {
  input.id = `${PREFIX}-${++made}`;
  return make("div", { class: "drlib-control" }, make("label", { for: input.id }, name), input, ...after);
}

/** A labelled slider; `words` turns its value into the words that are shown and spoken. `set` and `range` change it from outside. */
function slider(name, { min, max, step = 1, value, words = String }, moved) {
  const input = make("input", { type: "range", min, max, step, oninput: () => (say(), moved(Number(input.value))) });
  const shown = make("output", {});
  const say = () => {
    shown.textContent = words(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  const set = (next) => ((input.value = next), say());
  const range = (least, most) => ((input.min = least), (input.max = most), say());
  set(value);
  const box = control(name, input, shown);
  shown.htmlFor = input.id;
  return { box, input, set, range, get value() { return Number(input.value); } };
}

/** A labelled list of [value, words] to choose from. */
function chooser(name, options, chosen) {
  const input = make("select", { onchange: () => chosen(input.value) });
  const fill = (list) => input.replaceChildren(...list.map(([value, words]) => make("option", { value }, words)));
  fill(options);
  return { box: control(name, input), input, fill, get value() { return input.value; } };
}

function button(name, pressed, attributes = {}) {
  return make("button", { type: "button", onclick: pressed, ...attributes }, name);
}

/** Ask the kernel; `heard` gets every answer. Where no kernel runs nothing is ever heard, and `alive` stays hidden. */
function kernel(model, heard, alive = []) {
  let number = Math.floor(Math.random() * 1e9); // an answer kept in a saved notebook is none to a question of today
  const first = number + 1;
  const ask = (asked) => {
    model.set("asked", { ...asked, number: ++number });
    model.save_changes(); // the widget manager sends the newest only while the kernel is at work
  };
  model.on("change:answered", () => {
    const answer = model.get("answered");
    if (!(answer.number >= first && answer.number <= number)) return;
    alive.forEach((element) => (element.hidden = false));
    heard(answer);
  });
  ask({});
  return ask;
}

/** Pictures of one size in one file, row after row. */
class Sheet {
  static async open({ picture, type, columns, width, height }) {
    const sheet = new Sheet();
    Object.assign(sheet, { columns, width, height });
    const address = URL.createObjectURL(new Blob([picture], { type }));
    sheet.image = new Image();
    sheet.image.src = address;
    await sheet.image.decode();
    URL.revokeObjectURL(address);
    return sheet;
  }

  draw(context, number, x, y, width, height = (width * this.height) / this.width) {
    const { columns, width: w, height: h } = this;
    context.drawImage(this.image, (number % columns) * w, Math.floor(number / columns) * h, w, h, x, y, width, height);
  }
}

/** Name a picture and mark the patient's right and left, as radiologists see them. */
function nameTile(context, name, x, y, width, height) {
  context.font = "12px sans-serif";
  context.fillStyle = "#fff";
  context.strokeStyle = "rgba(0,0,0,.75)";
  context.lineWidth = 3;
  const write = (text, left, base) => (context.strokeText(text, left, base), context.fillText(text, left, base));
  context.textAlign = "left";
  write(name, x + 5, y + 15);
  write("R", x + 4, y + height / 2);
  context.textAlign = "right";
  write("L", x + width - 4, y + height / 2);
}

/** Give a canvas its pixels and return its context in units of the page. */
function fit(canvas, ratio) {
  const width = canvas.clientWidth || 320;
  canvas.width = Math.round(width * DPR());
  canvas.height = Math.round(width * ratio * DPR());
  const context = canvas.getContext("2d");
  context.scale(canvas.width / width, canvas.width / width);
  return { context, width, height: width * ratio };
}

const isDark = () => document.documentElement.dataset.theme === "dark" || document.body.dataset.jpThemeLight === "false";

/** Draw again when the size of `element` or the theme of the page changes; returns what ends it. */
function redrawn(element, redraw) {
  const sizes = new ResizeObserver(redraw);
  sizes.observe(element);
  const themes = new MutationObserver(redraw);
  themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => (sizes.disconnect(), themes.disconnect());
}

/** How wide a drawing may be, so that its words stay legible on a phone. */
const roomFor = (element) => Math.max(280, Math.min(640, element.clientWidth || 640));

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const percent = (share) => (Number.isFinite(share) ? `${Math.round(100 * share)} %` : "–");
const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits).replace(/^-/, "\u2212") : "–");

/** The colour of each region in words, for under a picture. */
const regionWords = (legend) => legend.map(([name, colour]) =>
  make("span", { class: "drlib-region" }, make("span", { class: "drlib-swatch", style: `background:${colour}` }), name));
