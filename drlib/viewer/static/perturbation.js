// One patient scaled, shifted and scanned again: images, histogram, difference ratio and P(HGG).

function render({ model, el }) {
  const { clean, prepared, first: start, kinds, modalities, label } = model.get("content");
  let shown = null, first = null;

  const canvas = make("canvas", { role: "img", "aria-label": `Four scans of one slice, as they are (above) and changed (below). ${label}` });
  const said = make("p", { role: "status", class: "drlib-said" }), plot = make("div", {});
  const named = chooser("change", prepared.map(({ name }, n) => [n, name]), (n) => show(prepared[n]));
  named.input.value = prepared.findIndex(({ name }) => name === start.name);

  const words = (letter) => (value) => `${letter} = ${value.toFixed(2)}`;
  const scale = slider("scale", { min: 0, max: 1, step: 0.05, value: start.scale ?? 0, words: words("a") }, move);
  const shift = slider("shift", { min: 0, max: 1, step: 0.05, value: start.shift ?? 0, words: words("b") }, move);
  const kind = chooser("scanner", kinds.map((each) => [each.kind, each.kind]), () => (strength.set(0), move()));
  const found = () => kinds.find((each) => each.kind === kind.value);
  const amount = (value) => { // in the unit of the kind; a scan is there or not
    const { strongest, unit } = found();
    return unit || strongest !== 1 ? `${+(value * strongest).toPrecision(2)} ${unit}`.trim() : value > 0 ? "yes" : "no";
  };
  const strength = slider("how much", { min: 0, max: 1, step: 0.05, value: 0, words: amount }, move);
  const live = make("div", { class: "drlib-live", hidden: true },
    make("div", { class: "drlib-controls" }, scale.box, shift.box, kind.box, strength.box),
    make("div", { class: "drlib-row" }, button("As it is", () => (scale.set(0), shift.set(0), strength.set(0), move()))));
  const still = make("div", { class: "drlib-controls" }, named.box);
  el.append(make("div", { class: "drlib-panel drlib-perturbation" }, still, live, canvas, said, plot,
    make("p", { class: "drlib-note" }, label)));

  const ask = kernel(model, (answer) => {
    still.hidden = true;
    if (answer.counts) show(answer);
  }, [live]);
  function move() {
    ask({ scale: scale.value, shift: shift.value, kind: kind.value, magnitude: strength.value * found().strongest });
  }
  let newest = 0;
  async function show(answer) {
    const turn = ++newest, images = await Sheet.open(answer.images);
    first = first || (await Sheet.open(clean.images));
    if (turn !== newest) return;
    shown = { ...answer, images };
    said.textContent = `Difference ratio ${fixed(answer.ratio)} (0: same histogram, 2: nothing in common). ` +
      `P(HGG) ${fixed(answer.p_hgg)}; as it is, ${fixed(clean.p_hgg)}.`;
    paint();
  }
  function paint() {
    if (!shown) return;
    plot.replaceChildren(histogram(clean.counts, shown.counts, roomFor(plot)));
    const tiles = modalities.map((name, n) => [name, n]).filter(([name]) => canvas.clientWidth > 520 || /T1ce|FLAIR/.test(name)); // two on a phone
    const ratio = first.height / first.width;
    const { context, width } = fit(canvas, (2 / tiles.length) * ratio), w = width / tiles.length, h = w * ratio;
    tiles.forEach(([name, n], column) => {
      first.draw(context, n, column * w, 0, w);
      shown.images.draw(context, n, column * w, h, w);
      nameTile(context, name, column * w, 0, w, h);
      nameTile(context, column ? "" : "changed", column * w, h, w, h);
    });
  }
  show(prepared[named.value]);
  return redrawn(canvas, paint);
}

/** The counts of the most frequent codewords of the scan as it is (bars) and as it became (marks), on a logarithmic axis. */
export function histogram(before, after, width, most = 60) {
  const order = before.map((count, k) => [count, k]).filter(([count]) => count).sort(([a], [b]) => b - a).slice(0, most).map(([, k]) => k);
  const height = 190, left = 44, bottom = 40, top = 8;
  const highest = Math.max(...order.map((k) => Math.max(before[k], after[k])), 1), room = height - bottom - top;
  const y = (count) => height - bottom - (Math.log10(1 + count) / Math.log10(1 + highest)) * room, step = (width - left - 8) / order.length;
  const text = (words, x, at, more = {}) => draw("text", { x, y: at, ...more }, words);
  const bars = order.map((k, n) => draw("rect", { x: left + n * step, y: y(before[k]), width: step * 0.8, height: height - bottom - y(before[k]), fill: "currentColor", "fill-opacity": 0.3 }));
  const marks = order.map((k, n) => draw("rect", { x: left + n * step - 0.5, y: y(after[k]) - 1.5, width: step * 0.8 + 1, height: 3, class: "drlib-after" }));
  const ticks = [0, 10, 100, 1000, 10000, 100000].filter((count) => count <= highest);
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Counts of the ${order.length} most frequent codewords, as it is and changed` },
    ...ticks.flatMap((count) => [draw("line", { x1: left, x2: width - 8, y1: y(count), y2: y(count), stroke: "currentColor", "stroke-opacity": 0.2 }),
      text(count.toLocaleString("en"), left - 5, y(count) + 4, { "text-anchor": "end" })]),
    ...bars, ...marks,
    text(`counts of the ${order.length} most frequent codewords`, left, height - 22),
    draw("rect", { x: left, y: height - 14, width: 12, height: 10, fill: "currentColor", "fill-opacity": 0.3 }), text("as it is", left + 18, height - 5),
    draw("rect", { x: left + 90, y: height - 11, width: 12, height: 3, class: "drlib-after" }), text("changed", left + 108, height - 5));
}

export default { render };
