// The browser of patients and slices.

async function openPatient(shown) {
  return { ...shown, grey: await Sheet.open(shown.grey), regions: shown.regions && (await Sheet.open(shown.regions)) };
}

function render({ model, el }) {
  const { patients, carried, all, modalities, legend, window: greys } = model.get("content");
  const names = Object.fromEntries(all), opened = new Map();
  let patient = carried[0], shown = null;

  const canvas = make("canvas", { role: "img" });
  const place = make("p", { role: "status" });
  const who = chooser("patient", carried.map((id) => [id, names[id]]), choose);
  const slice = slider("slice", { min: 0, max: 0, value: 0, words: (n) => (shown ? `${shown.slices[n] + 1} of ${shown.of}` : "") }, paint);
  const opacity = slider("opacity", { min: 0, max: 1, step: 0.05, value: 0.6, words: percent }, paint);
  el.append(make("div", { class: "drlib-panel drlib-slices" },
    make("div", { class: "drlib-controls" }, who.box, slice.box, opacity.box), canvas, place,
    make("p", { class: "drlib-note" }, ...regionWords(legend), `R, L: the patient's right and left; ${greys}.`)));
  canvas.addEventListener("wheel", (event) => turn(event, Math.sign(event.deltaY)), { passive: false });

  const ask = kernel(model, heard);
  function heard({ patient: id, shown: answer }) {
    if (!id) { // the first answer: there is a kernel, which knows every patient
      who.fill(all);
      who.input.value = patient;
      return ask({ patient });
    }
    opened.set(id, openPatient(answer));
    if (id === patient) open();
  }
  function choose(id) {
    patient = id;
    if (opened.has(id) || patients[id]) open();
    ask({ patient: id });
  }
  async function open() {
    if (!opened.has(patient)) opened.set(patient, openPatient(patients[patient]));
    const wanted = patient, found = await opened.get(patient);
    if (wanted !== patient) return;
    const before = shown && shown.id === patient ? shown.slices[slice.value] : null; // more slices of the same patient came
    shown = { ...found, id: patient };
    slice.range(0, shown.slices.length - 1);
    slice.set(before === null ? shown.start : shown.slices.reduce((best, n, i) => (Math.abs(n - before) < Math.abs(shown.slices[best] - before) ? i : best), 0));
    paint();
  }
  function turn(event, way) {
    const next = Math.max(0, Math.min(shown.slices.length - 1, slice.value + way));
    if (next === slice.value) return; // at the end the wheel scrolls the page
    event.preventDefault();
    slice.set(next);
    paint();
  }
  function paint() {
    if (!shown) return;
    const tiles = [...modalities.map((name, image) => [name, image]), ...(shown.regions ? [["truth over T1ce", 1, true], ["truth over FLAIR", 3, true]] : [])], { grey } = shown;
    const columns = 3, side = 1 / columns, ratio = grey.height / grey.width;
    const { context, width } = fit(canvas, side * ratio * Math.ceil(tiles.length / columns)), w = width * side, h = w * ratio, n = slice.value;
    tiles.forEach(([name, image, coloured], tile) => {
      const x = (tile % columns) * w, y = Math.floor(tile / columns) * h;
      grey.draw(context, n * modalities.length + image, x, y, w);
      if (coloured) {
        context.globalAlpha = opacity.value;
        shown.regions.draw(context, n, x, y, w);
        context.globalAlpha = 1;
      }
      nameTile(context, name, x, y, w, h);
    });
    place.textContent = `${names[patient]}, slice ${shown.slices[n] + 1} of ${shown.of}, from inferior to superior.`;
    canvas.setAttribute("aria-label", `${place.textContent} ${tiles.map(([name]) => name).join(", ")}.`);
  }
  open();
  return redrawn(canvas, paint);
}

export default { render };
