// Codewords taken away from one patient: the segmentation before and after, the change of the logits, and its sum per region.

function render({ model, el }) {
  const { patients, carried, all, sets, prepared, offered, legend, label } = model.get("content");
  const called = Object.fromEntries(all), codewordsOf = Object.fromEntries(sets), names = sets.map(([name]) => name);
  if (!carried.length || !names.length) {
    el.append(make("div", { class: "drlib-panel" }, make("p", {}, "No patient with tumour, or no codeword to take away.")));
    return;
  }
  const bases = new Map(); // patient -> its slices, once they are open
  let patient = carried[0], base = null, shown = null, alive = false, newest = 0, jump = true;

  const canvas = make("canvas", { role: "img" }), said = make("p", { role: "status", class: "drlib-said" }), sums = make("div", {});
  const who = chooser("patient", carried.map((id) => [id, called[id]]), (id) => ((patient = id), (jump = true), refresh()));
  const which = chooser("codewords", names.map((name) => [name, name]), (name) => {
    if (name) tick(codewordsOf[name]);
    jump = true;
    refresh();
  });
  const slice = slider("slice", { min: 0, max: 0, value: 0, words: (n) => (base ? `${base.slices[n] + 1} of ${base.of}` : "") }, paint);
  const opacity = slider("opacity", { min: 0, max: 1, step: 0.05, value: 0.75, words: percent }, paint);
  const boxes = offered.map(({ codeword, name }) => {
    const input = make("input", { type: "checkbox", value: codeword, onchange: () => ((which.input.value = ""), refresh()) });
    return make("label", { class: "drlib-check" }, input, name);
  });
  const live = make("fieldset", { class: "drlib-live", hidden: true },
    make("legend", {}, "codewords taken away (no grade: the most frequent in tumour)"),
    make("div", { class: "drlib-row" }, ...boxes));
  el.append(make("div", { class: "drlib-panel drlib-ablation" },
    make("div", { class: "drlib-controls" }, who.box, which.box, slice.box, opacity.box), live, canvas, said, sums,
    make("p", { class: "drlib-note" }, ...regionWords(legend), label)));
  which.input.value = names.find((name) => prepared[patient][name].tokens) ?? names[0]; // one that this patient has
  tick(codewordsOf[which.value]);

  const ask = kernel(model, heard, [live]);
  function heard(answer) {
    if (!alive) { // the first answer: there is a kernel, which knows every patient
      alive = true;
      who.fill(all);
      who.input.value = patient;
      const kept = which.value;
      which.fill([...names.map((name) => [name, name]), ["", "as ticked below"]]);
      which.input.value = kept;
      return refresh();
    }
    if (answer.base) bases.set(answer.patient, openBase(answer.base, true));
    if (answer.patient === patient) show(answer);
  }
  const chosen = () => boxes.map((box) => box.firstChild).filter((input) => input.checked).map((input) => Number(input.value));
  function tick(codewords) {
    boxes.forEach((box) => (box.firstChild.checked = codewords.includes(Number(box.firstChild.value))));
  }
  function refresh() {
    if (alive) return ask({ patient, codewords: chosen(), base: !bases.get(patient)?.whole });
    if (!bases.has(patient)) bases.set(patient, openBase(patients[patient], false));
    show(prepared[patient][which.value]);
  }
  function openBase(sheets, whole) {
    const opening = Promise.all([Sheet.open(sheets.grey), Sheet.open(sheets.before)]).then(([grey, before]) => ({ ...sheets, grey, before }));
    return Object.assign(opening, { whole });
  }
  async function show(answer) {
    const turn = ++newest;
    const [found, after, map] = await Promise.all([bases.get(patient), Sheet.open(answer.after), Sheet.open(answer.map)]);
    if (turn !== newest) return;
    const at = jump ? (answer.tokens ? answer.strongest : found.slices[found.start]) : base.slices[slice.value];
    [base, jump] = [found, false]; // another patient or set: where most changes; else the slice stays
    slice.range(0, base.slices.length - 1);
    slice.set(base.slices.reduce((best, n, i) => (Math.abs(n - at) < Math.abs(base.slices[best] - at) ? i : best), 0));
    shown = { ...answer, after, map };
    sums.replaceChildren(regionTable(answer.regions, base.labels));
    paint();
  }
  function paint() {
    if (!shown) return;
    const n = slice.value, ratio = base.grey.height / base.grey.width, columns = canvas.clientWidth > 520 ? 4 : 2;
    const tiles = [["T1ce", 0, null], ["before", 1, base.before], ["after", 1, shown.after], ["change", 1, shown.map]];
    const { context, width } = fit(canvas, (ratio * tiles.length) / columns / columns), w = width / columns, h = w * ratio;
    tiles.forEach(([name, image, over], tile) => {
      const x = (tile % columns) * w, y = Math.floor(tile / columns) * h;
      base.grey.draw(context, 2 * n + image, x, y, w);
      context.globalAlpha = opacity.value;
      over?.draw(context, n, x, y, w);
      context.globalAlpha = 1;
      nameTile(context, name, x, y, w, h);
    });
    said.textContent = (shown.tokens
      ? `${plural(shown.tokens, "token")} replaced in the slices with tumour; the largest change of a pixel is ${fixed(shown.top, 1)} (brightest).`
      : "None of these codewords occurs in this patient's slices with tumour: nothing changes.");
    canvas.setAttribute("aria-label", `${called[patient]}, slice ${base.slices[n] + 1}: T1ce; segmentation before; after; change of the logits.`);
  }
  refresh();
  return redrawn(canvas, paint);
}

function regionTable(regions, labels) {
  const cells = (row) => [fixed(row.sum ?? NaN, 0), fixed(row.mean ?? NaN)];
  return make("table", {},
    make("caption", {}, `Change in the tumour's regions (${labels}), all slices with tumour`),
    make("thead", {}, make("tr", {}, ...["region", "sum", "per voxel"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...regions.map((row) => make("tr", {}, make("th", { scope: "row" }, row.region), ...cells(row).map((cell) => make("td", {}, cell))))));
}

export default { render };
