// The vector quantizer in two dimensions (Eq. 1-3): latents, cells, and codewords that are dragged and trained.
// The step is that of drlib.segmentation.quantizer.VectorQuantizer with a moving average; a test holds the two against each other.

/** Eq. 1: the index of the nearest codeword of each latent; of equals the first. */
export function nearest(latents, codebook) {
  return latents.map(([x, y]) => {
    let best = 0, least = Infinity;
    codebook.forEach(([a, b], k) => {
      const distance = (x - a) ** 2 + (y - b) ** 2;
      if (distance < least) [best, least] = [k, distance];
    });
    return best;
  });
}

/** A codebook that has not learned yet. The published code starts the sums at the codewords, and the counts at zero. */
export function begin(codebook, { corrected, constants }) {
  const copy = codebook.map((codeword) => [...codeword]);
  return {
    codebook: copy,
    size: copy.map(() => 0), // moving average of the counts
    sum: copy.map((codeword) => (corrected ? [0, 0] : [...codeword])), // moving average of the sums
    idle: copy.map(() => constants.dead_after),
    weight: 0,
    steps: 0,
  };
}

/** Show the latents to the codebook once. `drawn(errors, n)` says which latents restart n dead codewords. */
export function step(state, latents, { corrected, constants }, drawn = drawByError) {
  const { decay, smoothing, dead_after, revived_share } = constants;
  const codes = nearest(latents, state.codebook);
  const counts = state.size.map(() => 0), sums = state.size.map(() => [0, 0]);
  codes.forEach((k, n) => {
    counts[k] += 1;
    sums[k][0] += latents[n][0];
    sums[k][1] += latents[n][1];
  });
  state.idle = state.idle.map((batches, k) => (counts[k] ? 0 : batches + 1));
  state.steps += 1;
  state.weight = decay * state.weight + 1 - decay;
  state.size = state.size.map((size, k) => decay * size + (1 - decay) * counts[k]);
  state.sum = state.sum.map((sum, k) => sum.map((value, d) => decay * value + (1 - decay) * sums[k][d]));
  const total = state.size.reduce((a, b) => a + b), mean = total / state.size.length;
  state.codebook = state.codebook.map((codeword, k) => {
    if (!corrected) return state.sum[k].map((value) => value / published(state.size[k], total, state.size.length, smoothing));
    return state.size[k] > smoothing * mean ? state.sum[k].map((value) => value / state.size[k]) : codeword;
  });
  if (corrected && state.weight >= 0.5) revive(state, latents, codes, revived_share * mean, dead_after, drawn);
  return state;
}

const published = (size, total, k, smoothing) => (total * (size + smoothing)) / (total + k * smoothing);

function revive(state, latents, codes, size, dead_after, drawn) {
  const errors = latents.map((latent, n) => distance2(latent, state.codebook[codes[n]]));
  const dead = state.idle.flatMap((batches, k) => (batches >= dead_after ? [k] : []));
  dead.length = Math.min(dead.length, errors.filter((error) => error > 0).length);
  drawn(errors, dead.length).forEach((n, i) => {
    const k = dead[i];
    state.codebook[k] = [...latents[n]];
    state.sum[k] = latents[n].map((value) => value * size);
    state.size[k] = size;
    state.idle[k] = 0;
  });
}

const distance2 = ([x, y], [a, b]) => (x - a) ** 2 + (y - b) ** 2;

/** Draw n latents without putting back, each in proportion to its squared error. */
function drawByError(errors, n) {
  const left = [...errors];
  return Array.from({ length: n }, () => {
    let rest = Math.random() * left.reduce((a, b) => a + b, 0);
    const found = left.findIndex((error) => (rest -= error) < 0 && error > 0);
    const index = found < 0 ? left.findLastIndex((error) => error > 0) : found;
    left[index] = 0;
    return index;
  });
}

/** Put codeword k elsewhere, with its averages, so that it learns on from there. */
export function place(state, k, point, { corrected, constants }) {
  const total = state.size.reduce((a, b) => a + b, 0);
  const size = corrected ? state.size[k] : published(state.size[k], total, state.size.length, constants.smoothing) || 1;
  state.codebook[k] = [...point];
  state.sum[k] = point.map((value) => value * size);
}

/** exp of the entropy of the shares of `counts`. */
export function perplexity(counts) {
  const total = counts.reduce((a, b) => a + b, 0);
  return Math.exp(-counts.reduce((sum, n) => sum + (n ? (n / total) * Math.log(n / total) : 0), 0));
}

const LIGHT = ["#DCE9F5", "#F9E4D0", "#DDF0E6", "#F6DDEA", "#FBF3CC", "#E6DFF3", "#E4E7EB", "#D3EEF2"];
const DARK = ["#1D3A55", "#55381D", "#1E4A33", "#52203B", "#4C4313", "#37285A", "#3A4049", "#134A52"];
const REACH = 22; // pixels from a codeword within which a pointer takes it

function render({ model, el }) {
  const { extent, centres, normals, first, constants, sizes, spread: usual } = model.get("content");
  const settings = { corrected: true, constants };
  let latents, state, before = null, held = 0, training = null, dragging = false;

  const canvas = make("canvas", {
    class: "drlib-plane", tabindex: 0, role: "application",
    "aria-label": "Plane of latents and codewords. Page up and page down choose a codeword, the arrow keys move it.",
  });
  const said = make("p", { role: "status", class: "drlib-said" });
  const size = slider("codewords", { min: 0, max: sizes.length - 1, value: sizes.indexOf(12), words: (n) => sizes[n] }, restart);
  const spread = slider("spread", { min: 0.05, max: 1.2, step: 0.05, value: usual, words: (x) => x.toFixed(2) }, restart);
  const published = make("input", { type: "checkbox", onchange: () => ((settings.corrected = !published.checked), restart()) });
  const train = button("Train", () => (training ? stop() : go()));
  el.append(make("div", { class: "drlib-panel drlib-quantizer" },
    make("div", { class: "drlib-controls" }, size.box, spread.box),
    make("div", { class: "drlib-row" }, button("Step", () => (stop(), advance(), show())), train, button("Restart", restart),
      make("label", { class: "drlib-check" }, published, "as the authors' code")),
    canvas, said,
    make("p", { class: "drlib-note" },
      "Dots: latents. Discs: codewords, larger the more latents they have; crosses: dead ones; arrows: the last step. " +
      "Drag a codeword, or click the plane and use page up or down to choose one and the arrow keys to move it. Then train.")));

  function restart() {
    stop();
    latents = centres.map(([x, y], n) => [x + spread.value * normals[n][0], y + spread.value * normals[n][1]]);
    state = begin(first[size.value], settings);
    [before, held] = [null, 0];
    show();
  }
  function advance() {
    before = state.codebook.map((codeword) => [...codeword]);
    step(state, latents, settings);
  }
  function go() {
    if (STILL?.matches) { // no motion: the end of the training at once
      for (let n = 0; n < 50; n++) advance();
      return show();
    }
    train.textContent = "Stop";
    let left = 50;
    training = setInterval(() => {
      advance();
      paint();
      if (--left === 0) stop(), show();
    }, 80);
  }
  function stop() {
    clearInterval(training);
    training = null;
    train.textContent = "Train";
  }
  function show() {
    paint();
    const counts = count(), used = counts.filter(Boolean).length;
    const codes = nearest(latents, state.codebook);
    const error = latents.reduce((sum, latent, n) => sum + distance2(latent, state.codebook[codes[n]]), 0) / latents.length;
    const outside = state.codebook.filter((codeword) => Math.max(...codeword.map(Math.abs)) > extent).length;
    said.textContent = `Step ${state.steps}: ${used} of ${counts.length} codewords in use, perplexity ${perplexity(counts).toFixed(1)}, ` +
      `mean squared distance to the codeword ${error.toFixed(2)}.` + (outside ? ` ${outside} lie outside the picture.` : "");
  }
  function count() {
    const counts = state.codebook.map(() => 0);
    nearest(latents, state.codebook).forEach((k) => (counts[k] += 1));
    return counts;
  }
  function paint() {
    const { context, width } = fit(canvas, 1), dark = isDark(), counts = count();
    const at = ([x, y]) => [((x / extent + 1) / 2) * width, ((1 - y / extent) / 2) * width];
    paintCells(context, state.codebook, extent, width, dark);
    context.fillStyle = dark ? "rgba(255,255,255,.7)" : "rgba(31,41,51,.55)";
    for (const latent of latents) {
      const [x, y] = at(latent);
      context.fillRect(x - 1.3, y - 1.3, 2.6, 2.6);
    }
    const red = dark ? "#FF8A80" : "#B3261E", quiet = dark ? "#C9CED6" : "#5B636E", rim = dark ? "#111" : "#fff";
    if (before) state.codebook.forEach((codeword, k) => arrow(context, at(before[k]), at(codeword), red));
    const most = Math.max(...counts, 1);
    state.codebook.forEach((codeword, k) => {
      const [x, y] = at(codeword);
      if (counts[k]) disc(context, x, y, Math.sqrt(16 + (70 * counts[k]) / most), red, rim);
      else cross(context, x, y, quiet);
      if (k === held && document.activeElement === canvas) disc(context, x, y, 14, null, dark ? "#fff" : "#000");
    });
    axes(context, extent, width, dark);
  }

  const toPoint = (event) => {
    const box = canvas.getBoundingClientRect();
    const bound = (value) => Math.max(-extent, Math.min(extent, value));
    return [bound(((event.clientX - box.left) / box.width) * 2 * extent - extent), bound(extent - ((event.clientY - box.top) / box.height) * 2 * extent)];
  };
  const move = (point) => {
    place(state, held, point, settings);
    before = null;
  };
  const touched = (event) => {
    const point = toPoint(event), [k] = nearest([point], state.codebook);
    return distance2(point, state.codebook[k]) <= ((REACH / canvas.clientWidth) * 2 * extent) ** 2 ? k : null;
  };
  // A finger on a codeword drags it; anywhere else it scrolls the page.
  canvas.addEventListener("touchstart", (event) => touched(event.touches[0]) !== null && event.preventDefault(), { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    const k = touched(event);
    if (k === null) return;
    stop();
    [held, dragging] = [k, true];
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    event.preventDefault();
    paint();
  });
  canvas.addEventListener("pointermove", (event) => dragging && (move(toPoint(event)), paint()));
  for (const ended of ["pointerup", "pointercancel"]) canvas.addEventListener(ended, () => dragging && ((dragging = false), show()));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const turn = { PageUp: -1, PageDown: 1 }[event.key], k = state.codebook.length;
    if (!way && !turn) return;
    event.preventDefault();
    stop();
    if (turn) held = (held + turn + k) % k;
    else move(state.codebook[held].map((value, d) => Math.max(-extent, Math.min(extent, value + way[d] * (event.shiftKey ? 0.5 : 0.1)))));
    show();
    const where = state.codebook[held].map((value) => fixed(value, 1)).join(", ");
    said.textContent = `Codeword ${held + 1} of ${k} at (${where}), ${count()[held]} latents. ` + said.textContent;
  });
  canvas.addEventListener("focus", paint);
  canvas.addEventListener("blur", paint);
  restart();
  const end = redrawn(canvas, paint);
  return () => (stop(), end());
}

function paintCells(context, codebook, extent, width, dark) {
  const side = Math.round(width / 2), cells = new ImageData(side, side);
  const colours = (dark ? DARK : LIGHT).map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const line = Array.from({ length: side }, (_, n) => ((n + 0.5) / side) * 2 * extent - extent);
  const code = line.map((y) => nearest(line.map((x) => [x, -y]), codebook));
  code.forEach((row, j) => row.forEach((k, i) => {
    const border = (i && row[i - 1] !== k) || (j && code[j - 1][i] !== k);
    cells.data.set(border ? (dark ? [17, 17, 17, 255] : [255, 255, 255, 255]) : [...colours[k % colours.length], 255], 4 * (j * side + i));
  }));
  const small = make("canvas", { width: side, height: side });
  small.getContext("2d").putImageData(cells, 0, 0);
  context.drawImage(small, 0, 0, width, width);
}

function disc(context, x, y, radius, fill, rim) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  if (fill) (context.fillStyle = fill), context.fill();
  [context.strokeStyle, context.lineWidth] = [rim, 1.5];
  context.stroke();
}

function cross(context, x, y, colour) {
  context.beginPath();
  for (const slope of [-1, 1]) context.moveTo(x - 5, y - 5 * slope), context.lineTo(x + 5, y + 5 * slope);
  [context.strokeStyle, context.lineWidth] = [colour, 2.5];
  context.stroke();
}

function arrow(context, [x, y], [a, b], colour) {
  const length = Math.hypot(a - x, b - y);
  if (length < 4) return;
  const [u, v] = [(a - x) / length, (b - y) / length], neck = Math.min(8, length);
  context.beginPath();
  context.moveTo(x, y), context.lineTo(a - u * neck, b - v * neck);
  [context.strokeStyle, context.fillStyle, context.lineWidth] = [colour, colour, 2];
  context.stroke();
  context.beginPath();
  context.moveTo(a, b), context.lineTo(a - u * neck - v * 4, b - v * neck + u * 4), context.lineTo(a - u * neck + v * 4, b - v * neck - u * 4);
  context.fill();
}

function axes(context, extent, width, dark) {
  [context.fillStyle, context.font, context.textAlign] = [dark ? "#fff" : "#1f2933", "11px sans-serif", "center"];
  for (let tick = -Math.floor(extent) + (Math.floor(extent) % 2); tick <= extent; tick += 2) {
    const place = ((tick / extent + 1) / 2) * width, words = String(tick).replace("-", "\u2212");
    context.fillText(words, place, width - 4);
    if (tick && tick > -extent + 1) context.fillText(words, 10, width - place + 4);
  }
  context.textAlign = "right";
  context.fillText("latent dimension 1", width - 6, width - 18);
  context.save();
  context.translate(30, 6);
  context.rotate(-Math.PI / 2);
  context.fillText("latent dimension 2", 0, 0);
  context.restore();
}

export default { render };
