// Threshold and prevalence: two-by-two tables and rates under both conventions of the positive grade.

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * Tables and rates at a threshold of P(HGG), in a cohort of which a share `hgg` has HGG.
 * `p[repeat]` holds the probabilities of the patients. Counts are of as many patients as there are, means over repeats; so are the rates.
 * A rate that does not exist (nobody is called positive) is NaN.
 */
export function judge(p, isHgg, threshold, hgg) {
  const n = isHgg.length, nHgg = isHgg.filter(Boolean).length;
  const repeats = p.map((row) => {
    const called = row.map((probability) => probability > threshold);
    const right = called.filter((call, i) => call && isHgg[i]).length / nHgg; // of HGG, called HGG
    const wrong = called.filter((call, i) => call && !isHgg[i]).length / (n - nHgg); // of LGG, called HGG
    const [tp, fn, fp, tn] = [right * hgg, (1 - right) * hgg, wrong * (1 - hgg), (1 - wrong) * (1 - hgg)];
    return { tp, fn, fp, tn, accuracy: tp + tn, sensitivity: right, specificity: 1 - wrong, ppv: tp / (tp + fp), npv: tn / (tn + fn) };
  });
  const of = (name) => mean(repeats.map((repeat) => repeat[name]));
  const [tp, fn, fp, tn] = ["tp", "fn", "fp", "tn"].map((name) => n * of(name));
  return {
    accuracy: of("accuracy"),
    HGG: { tp, fn, fp, tn, sensitivity: of("sensitivity"), specificity: of("specificity"), ppv: of("ppv"), npv: of("npv") },
    LGG: { tp: tn, fn: fp, fp: fn, tn: tp, sensitivity: of("specificity"), specificity: of("sensitivity"), ppv: of("npv"), npv: of("ppv") },
  };
}

/** Bytes of a kernel's float32 table, patients x repeats, as one list per repeat. */
export function byRepeat({ p, repeats }) {
  const values = new Float32Array(p.buffer.slice(p.byteOffset, p.byteOffset + p.byteLength));
  return Array.from({ length: repeats }, (_, r) => Array.from({ length: values.length / repeats }, (_, i) => values[i * repeats + r]));
}

const OTHER = { HGG: "LGG", LGG: "HGG" };
const RATES = { sensitivity: "sensitivity (recall)", specificity: "specificity", ppv: "PPV (precision)", npv: "NPV" };

function render({ model, el }) {
  const { models, is_hgg: isHgg, colours, note } = model.get("content");
  const names = models.map(({ name }) => name), tables = Object.fromEntries(models.map((table) => [table.name, byRepeat(table)]));
  const share = mean(isHgg.map(Number)), n = isHgg.length;

  const which = chooser("model", names.map((name) => [name, name]), show);
  const threshold = slider("threshold", { min: 0.01, max: 0.99, step: 0.01, value: 0.5, words: (t) => t.toFixed(2) }, show);
  let hgg = share; // of the cohort, which need not be a whole number of per cent, until the slider is moved
  const prevalence = slider("share of HGG", { min: 1, max: 99, value: 100 * share, words: (s) => `${s} %` }, (s) => ((hgg = s / 100), show()));
  const plot = make("div", {}), pair = make("div", { class: "drlib-pair" }), said = make("p", { role: "status", class: "drlib-said" });
  el.append(make("div", { class: "drlib-panel drlib-grading" },
    make("div", { class: "drlib-controls" }, which.box, threshold.box, prevalence.box),
    make("div", { class: "drlib-row" }, button("As in this cohort, threshold .50", reset)),
    plot, said, pair, make("p", { class: "drlib-note" }, "Counts and rates are means over the repeats of the cross-validation. ", note)));

  function reset() {
    hgg = share;
    threshold.set(0.5);
    prevalence.set(100 * share);
    show();
  }
  function show() {
    const p = tables[which.value], t = threshold.value, found = judge(p, isHgg, t, hgg);
    plot.replaceChildren(strip(p, isHgg, t, colours, roomFor(plot)));
    said.textContent = `HGG is called above P = ${t.toFixed(2)}. Accuracy ${fixed(found.accuracy)} with ${percent(hgg)} HGG.`;
    pair.replaceChildren(...["LGG", "HGG"].map((positive) => table(positive, found[positive], n)));
  }
  show();
  return redrawn(plot, show);
}

/** One convention: the two-by-two table, and the rates below. */
function table(positive, found, n) {
  const row = (name, ...cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, fixed(cell, 1))));
  const head = (...names) => make("tr", {}, ...names.map((name) => (name ? make("th", { scope: "col" }, name) : make("td", {}))));
  const negative = OTHER[positive];
  const why = { LGG: "as the published numbers imply", HGG: "as the paper's text says" }[positive];
  return make("div", { class: `drlib-convention drlib-${positive}` },
    make("table", {},
      make("caption", {}, `${positive} positive, ${why}: patients of ${n}`),
      make("thead", {}, head("", `called ${positive}`, `called ${negative}`)),
      make("tbody", {}, row(`${positive} (true)`, found.tp, found.fn), row(`${negative} (true)`, found.fp, found.tn))),
    make("table", {},
      make("caption", {}, `Rates with ${positive} positive`),
      make("tbody", {}, ...Object.entries(RATES).map(([rate, words]) =>
        make("tr", {}, make("th", { scope: "row" }, words), make("td", { "data-rate": rate }, fixed(found[rate])))))));
}

/** Every patient's P(HGG), mean over repeats, a row for each grade, and the threshold. */
function strip(p, isHgg, threshold, colours, width) {
  const left = 46, right = 12, x = (value) => left + value * (width - left - right), rows = { HGG: 26, LGG: 74 };
  const average = isHgg.map((_, i) => mean(p.map((row) => row[i])));
  const marks = average.map((value, i) => {
    const grade = isHgg[i] ? "HGG" : "LGG", y = rows[grade] + ((i * 7) % 11) * 2.6 - 13; // spread by a fixed pattern
    const shape = isHgg[i] ? `M${x(value)} ${y - 4}l4 7h-8z` : `M${x(value) - 3.4} ${y}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0`;
    return draw("path", { d: shape, fill: colours[grade] });
  });
  const line = (x1, y1, x2, y2, more = {}) => draw("line", { x1, y1, x2, y2, stroke: "currentColor", "stroke-width": 1, ...more });
  const text = (words, at, y, more = {}) => draw("text", { x: at, y, ...more }, words);
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((value) => [line(x(value), 98, x(value), 103), text(value === 0 || value === 1 ? value : String(value).slice(1), x(value), 117, { "text-anchor": "middle" })]);
  return draw("svg", { viewBox: `0 0 ${width} 138`, role: "img", "aria-label": "Probability of HGG of every patient, in a row for each grade, and the threshold" },
    text("HGG", 4, rows.HGG + 4), text("LGG", 4, rows.LGG + 4), line(left, 98, width - right, 98), ...ticks,
    text("P(HGG) out of fold, mean over repeats", x(0.5), 134, { "text-anchor": "middle" }), ...marks,
    line(x(threshold), 4, x(threshold), 98, { "stroke-width": 2, "stroke-dasharray": "5 3" }));
}

export default { render };
