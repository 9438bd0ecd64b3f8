// The codeword explorer: the tokens of one codeword in a patient's slices, its patches and its numbers.

const ORDERS = {
  number: ["number", (a, b) => a.codeword - b.codeword],
  HGG: ["AUC, more in HGG first", (a, b) => (b.auc ?? 0.5) - (a.auc ?? 0.5)],
  LGG: ["AUC, more in LGG first", (a, b) => (a.auc ?? 0.5) - (b.auc ?? 0.5)],
  tissue: ["tissue", (a, b) => a.tissue.localeCompare(b.tissue) || a.codeword - b.codeword],
};

/** How many tokens of a codeword lie in each slice; `codes` holds `size` tokens per slice. */
export function tokensPerSlice(codes, size, codeword) {
  return Array.from({ length: codes.length / size }, (_, n) => codes.subarray(n * size, (n + 1) * size).reduce((sum, k) => sum + (k === codeword), 0));
}

const openShown = async (shown) => {
  const { codes } = shown;
  return {
    ...shown,
    codes: new Uint16Array(codes.buffer.slice(codes.byteOffset, codes.byteOffset + codes.byteLength)),
    grey: await Sheet.open(shown.grey),
    regions: shown.regions && (await Sheet.open(shown.regions)),
  };
};

function render({ model, el }) {
  const { codewords, numbers: measures, first, patches, patients, carried, all, modalities, legend, stride, label } = model.get("content");
  const names = Object.fromEntries(all), opened = new Map(), pictured = new Map();
  let patient = carried[0], shown = null, ask = () => {}, alive = false;

  const canvas = make("canvas", { role: "img" }), patch = make("canvas", { role: "img", class: "drlib-patches", hidden: true });
  const said = make("p", { role: "status", class: "drlib-said" }), numbers = make("div", {});
  const options = (order) => [...codewords].sort(ORDERS[order][1]).map(({ codeword, tissue, auc, responsible }) =>
    [codeword, `${codeword}: ${tissue}, AUC ${fixed(auc ?? NaN)}${responsible ? ", responsible" : ""}`]);
  const order = chooser("order", Object.entries(ORDERS).map(([key, [words]]) => [key, words]), (key) => {
    const kept = which.value;
    which.fill(options(key));
    which.input.value = key === "number" ? kept : options(key)[0][0]; // the first of the new order
    choose();
  });
  const which = chooser("codeword", options("number"), choose);
  const who = chooser("patient", carried.map((id) => [id, names[id]]), (id) => ((patient = id), open()));
  const slice = slider("slice", { min: 0, max: 0, value: 0, words: (n) => (shown ? `${shown.slices[n] + 1} of ${shown.of}` : "") }, paint);
  const opacity = slider("regions", { min: 0, max: 1, step: 0.05, value: 0.35, words: percent }, paint);
  which.input.value = first;
  el.append(make("div", { class: "drlib-panel drlib-codewords" },
    make("div", { class: "drlib-controls" }, order.box, which.box, who.box, slice.box, opacity.box),
    canvas, said, patch, numbers, make("p", { class: "drlib-note" }, "White squares: cells of the codeword's tokens. ", ...regionWords(legend), label)));

  ask = kernel(model, (answer) => {
    if (!alive) { // the first answer: there is a kernel, which knows every patient and every codeword
      alive = true;
      who.fill(all);
      who.input.value = patient;
      return request();
    }
    if (answer.shown) opened.set(answer.patient, Object.assign(openShown(answer.shown), { whole: true }));
    if (answer.patches) pictured.set(String(answer.codeword), answer.patches);
    if (answer.shown && answer.patient === patient) open();
    else picture();
  });
  const codeword = () => Number(which.value);
  function request() { // one question for what is missing
    if (!alive) return;
    const asked = {};
    if (!opened.get(patient)?.whole) asked.patient = patient;
    if (!pictured.has(which.value) && !patches[which.value]) asked.codeword = codeword();
    if (Object.keys(asked).length) ask(asked);
  }
  async function open() {
    request();
    if (!opened.has(patient) && !patients[patient]) return; // the kernel will bring it
    if (!opened.has(patient)) opened.set(patient, openShown(patients[patient]));
    const wanted = patient, found = await opened.get(patient);
    if (wanted !== patient) return;
    shown = found;
    slice.range(0, shown.slices.length - 1);
    choose();
  }
  const counts = () => tokensPerSlice(shown.codes, shown.latent[0] * shown.latent[1], codeword());
  function choose() { // go to the slice with most of its tokens
    request();
    if (!shown) return;
    const held = counts(), most = Math.max(...held);
    slice.set(most ? held.indexOf(most) : shown.start);
    const { numbers: rows } = codewords.find((each) => each.codeword === codeword());
    numbers.replaceChildren(make("table", {}, make("caption", {}, `Codeword ${codeword()}`), make("tbody", {}, ...rows.map((value, n) =>
      make("tr", {}, make("th", { scope: "row" }, measures[n]), make("td", {}, value))))));
    picture();
    paint();
  }
  async function picture() {
    const found = pictured.get(which.value) || patches[which.value], wanted = which.value;
    patch.hidden = !found;
    if (!found) return;
    const sheet = await Sheet.open(found);
    if (wanted !== which.value) return;
    const { context, width } = fit(patch, sheet.height / sheet.width);
    sheet.draw(context, 0, 0, 0, width);
    patch.setAttribute("aria-label", `Patches of codeword ${wanted}: some patients side by side, T1ce above, FLAIR below, the cell outlined`);
  }
  function paint() {
    if (!shown) return;
    const { grey, latent: [rows, columns], corner: [top, left] } = shown, n = slice.value, size = rows * columns;
    const { context, width } = fit(canvas, grey.height / grey.width / modalities.length), w = width / modalities.length, scale = w / grey.width;
    modalities.forEach((name, image) => {
      grey.draw(context, n * modalities.length + image, image * w, 0, w);
      context.globalAlpha = opacity.value;
      shown.regions?.draw(context, n, image * w, 0, w);
      context.globalAlpha = 1;
      [context.strokeStyle, context.lineWidth] = ["#fff", 2];
      shown.codes.subarray(n * size, (n + 1) * size).forEach((k, cell) => {
        if (k !== codeword()) return;
        const x = ((cell % columns) * stride - left) * scale, y = (Math.floor(cell / columns) * stride - top) * scale;
        context.strokeRect(image * w + x + 1, y + 1, stride * scale - 2, stride * scale - 2);
      });
      nameTile(context, name, image * w, 0, w, w * (grey.height / grey.width));
    });
    const held = counts(), inAll = held.reduce((a, b) => a + b, 0);
    const partly = shown.slices.length < shown.of && !opened.get(patient)?.whole ? " among the slices shown here" : "";
    said.textContent = `Codeword ${codeword()} in ${names[patient]}: ${plural(held[n], "token")} in this slice, ${inAll} in the patient${partly}.`;
    canvas.setAttribute("aria-label", `${said.textContent} ${modalities.join(", ")}, slice ${shown.slices[n] + 1} of ${shown.of}.`);
  }
  open();
  return redrawn(canvas, () => (paint(), picture()));
}

export default { render };
