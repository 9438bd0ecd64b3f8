/* The MRI viewer of the book and of the report: one component for every <figure class="mri-viewer">, drawn by NiiVue.

A classic script without modules and without fetch, so that it works in a page opened from a folder (file://) as from a server. A volume is
a script that puts its base64 into window.mriData; scripts are added when they are asked for. NiiVue draws; everything a person touches
(pointer, wheel, keys, the numbers under the crosshair) is here, so that a page never loses its own scrolling to a picture.

Indices (i, j, k) count voxels to the patient's left, to the back and upwards, as the published volumes are stored.

data-patient    id of the patient shown first        data-overlay    overlay shown first
data-modality   t1, t1ce, t2 or flair                data-overlays   overlays that can be chosen, separated by spaces
data-compare    overlay of a second, linked picture  data-atlas      page with a card for each codeword
*/
(() => {
  "use strict";

  const HERE = document.currentScript && document.currentScript.src ? new URL(".", document.currentScript.src).href : "";
  const NIIVUE = "vendor/niivue/niivue.umd.js";
  const NIIVUE_BYTES = 2284381;
  const OVERLAYS = {
    none: "none",
    truth: "truth",
    prediction: "prediction",
    codewords: "codeword map",
    HGG: "HGG-responsible region",
    LGG: "LGG-responsible region",
  };
  const LABEL_NAMES = { background: "no tumour", NET: "NET", ED: "ED", ET: "ET" };
  // Colours of a responsible region: clear below 8 % of the patient's largest value, since some of it is everywhere.
  const HEAT = { R: [87, 87, 188, 249, 252], G: [16, 16, 55, 142, 255], B: [110, 110, 84, 9, 164], A: [0, 0, 170, 240, 255], I: [0, 20, 96, 176, 255] };
  const KEPT_VOLUMES = 48; // decoded volumes that are kept, about half a megabyte each
  const SEARCH_FROM = 12; // patients from which on the list has a search field
  const HEADER_BYTES = 352;

  const viewers = [];
  window.mriViewers = viewers;
  window.mriData = window.mriData || {};

  // ---------------------------------------------------------------- what is loaded, once for all viewers of the page

  const scripts = new Map(); // address -> promise
  const decoded = new Map(); // key -> promise of a volume, oldest first

  function addScript(path, name) {
    if (!scripts.has(path)) {
      const loading = new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.onload = resolve;
        script.onerror = () => {
          script.remove();
          scripts.delete(path);
          reject(new Error(`${name} could not be loaded`));
        };
        script.src = HERE + path;
        document.head.append(script);
      });
      scripts.set(path, loading);
    }
    return scripts.get(path);
  }

  // NiiVue registers with RequireJS where that is on the page (pages with Jupyter widgets), and is then not to be found: for as long as it
  // loads, `define` does not say that it is an AMD loader. RequireJS's own modules do not ask.
  async function loadNiivue() {
    if (window.niivue) return;
    const define = window.define;
    const amd = define && define.amd;
    if (amd) define.amd = undefined;
    try {
      await addScript(NIIVUE, "the viewer's drawing library");
    } finally {
      if (amd) define.amd = amd;
    }
  }

  async function loadIndex() {
    if (!window.mriData.index) await addScript("patients/index.js", "the list of patients");
    return window.mriData.index;
  }

  function loadVolume(key, name) {
    const found = decoded.get(key) || readVolume(key, name);
    decoded.delete(key); // the newest last
    decoded.set(key, found);
    found.catch(() => decoded.delete(key));
    if (decoded.size > KEPT_VOLUMES) decoded.delete(decoded.keys().next().value);
    return found;
  }

  async function readVolume(key, name) {
    const path = `patients/${key}.js`;
    const inPage = window.mriData[key] !== undefined;
    if (!inPage) await addScript(path, name);
    const packed = Uint8Array.from(atob(window.mriData[key]), (sign) => sign.charCodeAt(0));
    if (!inPage) {
      delete window.mriData[key]; // what is needed again is loaded again, from the browser's cache
      scripts.delete(path);
    }
    const buffer = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    const head = new DataView(buffer);
    const shape = [42, 44, 46].map((at) => head.getInt16(at, true));
    const Voxels = head.getInt16(70, true) === 4 ? Int16Array : Uint8Array;
    const row = (at) => [0, 4, 8, 12].map((step) => head.getFloat32(at + step, true));
    return {
      buffer,
      shape,
      voxels: new Voxels(buffer.slice(HEADER_BYTES)),
      slope: head.getFloat32(112, true) || 1,
      offset: head.getFloat32(116, true),
      affine: [row(280), row(296), row(312)],
    };
  }

  function stored(volume, [i, j, k]) {
    return volume.voxels[i + volume.shape[0] * (j + volume.shape[1] * k)];
  }

  function toMillimetres(volume, voxel) {
    return volume.affine.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
  }

  function toVoxel(volume, mm) {
    const [[a, b, c, x], [d, e, f, y], [g, h, l, z]] = volume.affine;
    const [p, q, r] = [mm[0] - x, mm[1] - y, mm[2] - z];
    const det = a * (e * l - f * h) - b * (d * l - f * g) + c * (d * h - e * g);
    return [
      (p * (e * l - f * h) - b * (q * l - f * r) + c * (q * h - e * r)) / det,
      (a * (q * l - f * r) - p * (d * l - f * g) + c * (d * r - q * g)) / det,
      (a * (e * r - q * h) - b * (d * r - q * g) + p * (d * h - e * g)) / det,
    ].map((value, axis) => Math.min(volume.shape[axis] - 1, Math.max(0, Math.round(value))));
  }

  // ---------------------------------------------------------------- small things

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const signed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  const between = (value, low, high) => Math.min(high, Math.max(low, value));
  const idle = () => new Promise((resolve) => (window.requestIdleCallback ? requestIdleCallback(resolve, { timeout: 3000 }) : setTimeout(resolve, 200)));

  function rgb(hex) {
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }

  function labelTable(colours, clear, names) {
    const [R, G, B] = [0, 1, 2].map((channel) => colours.map((hex) => rgb(hex)[channel]));
    return { R, G, B, A: colours.map((_, label) => (clear.includes(label) ? 0 : 255)), I: colours.map((_, label) => label), labels: names };
  }

  function drawsWebGL() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl2"));
    } catch {
      return false;
    }
  }

  function savesData() {
    const line = navigator.connection;
    return Boolean(line && (line.saveData || /2g/.test(line.effectiveType || "")));
  }

  // ---------------------------------------------------------------- one picture: a poster, NiiVue's canvas over it, and what is touched

  class Pane {
    constructor(viewer, number, poster) {
      this.viewer = viewer;
      this.canvas = make("canvas", { class: "mri-canvas", "aria-hidden": "true", tabindex: "-1", hidden: true });
      this.stage = make("div", {
        class: "mri-stage", role: "application", tabindex: "0", "aria-roledescription": "image viewer", "aria-describedby": `${viewer.id}-keys`,
        onkeydown: (event) => viewer.onKey(event),
        onpointerdown: (event) => this.onPointer(event, true),
        onpointermove: (event) => this.onPointer(event, event.buttons === 1),
        onclick: (event) => event.pointerType !== "mouse" && this.point(event),
      });
      this.stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
      if (poster) this.stage.append(poster);
      this.stage.append(this.canvas);
      this.legend = make("div", { class: "mri-legend" });
      this.element = make("div", { class: "mri-pane" }, this.stage, this.legend);
      this.turned = 0;
      this.images = new Map(); // key -> NiiVue image, for the volumes shown
    }

    async start() {
      const nv = new window.niivue.Niivue({
        backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.85, 1, 0.9], crosshairGap: 8, show3Dcrosshair: false,
        isRadiologicalConvention: true, isOrientationTextVisible: true, showAllOrientationMarkers: true, fontColor: [1, 1, 1, 1],
        isNearestInterpolation: false, multiplanarLayout: 2, multiplanarShowRender: 0, dragAndDropEnabled: false, loadingText: "", logLevel: "error",
        interactive: false,
      });
      await nv.attachToCanvas(this.canvas, false);
      nv.addColormap("responsible", HEAT);
      this.nv = nv;
    }

    // The image and at most one overlay. An image object of NiiVue is made once for each volume shown, and forgotten with it.
    async show(shown, state, index) {
      const images = new Map();
      for (const { key, role, volume } of shown) {
        images.set(key, this.images.get(key) || (await this.prepare(key, role, volume, index)));
      }
      this.images = images;
      const list = [...images.values()];
      this.nv.volumes = list;
      this.nv.back = list[0];
      this.nv.overlays = list.slice(1);
      this.paint(state);
    }

    async prepare(key, role, volume, index) {
      const image = await window.niivue.NVImage.new(volume.buffer, `${role}.nii`, "gray", 1, null, volume.offset, volume.offset + 255 * volume.slope);
      if (role === "truth" || role === "prediction") {
        const colours = index.labels.map((name) => index.regionColours[name] || "#000000");
        image.setColormapLabel(labelTable(colours, [0], index.labels));
      } else if (role === "codewords") {
        image.setColormapLabel(labelTable(index.codewordColours, [index.background], index.codewordColours.map((_, code) => String(code))));
      } else if (role === "HGG" || role === "LGG") {
        image.colormap = "responsible";
        [image.cal_min, image.cal_max] = [0, 255 * volume.slope];
      }
      return image;
    }

    paint(state) {
      const [image, overlay] = this.nv.volumes;
      [image.cal_min, image.cal_max] = [state.level - state.width / 2, state.level + state.width / 2];
      if (overlay) overlay.opacity = state.opacity;
      this.nv.opts.sliceType = state.planes ? 3 : 0;
      const across = Math.max(...this.viewer.grid.shape.slice(0, 2)) * (state.planes ? 2 : 1); // voxels, about
      this.nv.opts.crosshairWidth = (1.5 * across) / this.canvas.clientWidth; // 1.5 pixels, in voxels
      this.nv.updateGLVolume();
      if (overlay && overlay.colormapLabel) {
        // Labels and codes have no values in between: their voxels are shown as they are, over an image that is interpolated.
        this.nv.opts.isNearestInterpolation = true;
        this.nv.updateInterpolation(1);
        this.nv.opts.isNearestInterpolation = false;
        this.nv.drawScene();
      }
      this.canvas.hidden = false;
    }

    place(mm) {
      this.nv.scene.crosshairPos = this.nv.mm2frac(mm);
      this.nv.drawScene();
    }

    point(event) {
      if (!this.nv || !this.viewer.grid) return;
      const box = this.canvas.getBoundingClientRect();
      const scale = this.canvas.width / box.width;
      const frac = this.nv.canvasPos2frac([(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]);
      if (frac[0] >= 0) this.viewer.moveTo(toVoxel(this.viewer.grid, [...this.nv.frac2mm(frac)]));
    }

    onPointer(event, pressed) {
      if (event.pointerType !== "mouse" || !pressed) return; // fingers scroll the page; a tap is a click
      if (event.type === "pointerdown" && event.button === 0) this.stage.setPointerCapture(event.pointerId);
      this.point(event);
    }

    // The wheel turns slices once the picture has been clicked or tabbed to, and the page at the ends of the stack and everywhere else.
    onWheel(event) {
      const viewer = this.viewer;
      if (document.activeElement !== this.stage || event.ctrlKey || !viewer.grid || !event.deltaY) return;
      const up = event.deltaY < 0 ? 1 : -1;
      const k = viewer.state.voxel[2] + up;
      if (k < 0 || k >= viewer.grid.shape[2]) return;
      event.preventDefault();
      this.turned += event.deltaMode === 0 ? event.deltaY : 40 * event.deltaY;
      if (Math.abs(this.turned) < 30) return;
      this.turned = 0;
      viewer.moveBy([0, 0, up]);
    }
  }

  // ---------------------------------------------------------------- the component

  class Viewer {
    constructor(element, number) {
      this.element = element;
      this.id = `mri-${number + 1}`;
      const data = element.dataset;
      this.offered = (data.overlays || Object.keys(OVERLAYS).join(" ")).split(" ");
      this.atlas = data.atlas || "";
      this.state = {
        patient: data.patient || null, modality: data.modality || "flair", overlays: [data.overlay || "none"],
        voxel: [0, 0, 0], level: 1.25, width: 7.5, opacity: 0.6, planes: false,
      };
      if (data.compare) this.state.overlays.push(data.compare);
      this.asked = 0;
      this.ready = new Promise((resolve, reject) => ([this.resolve, this.reject] = [resolve, reject]));
      this.ready.catch(() => {});
      viewers.push({ element, ready: this.ready, state: () => this.describe() });
      this.build();
      this.wait();
    }

    // -------------------------------------------------------------- what is on the page before anything is loaded

    build() {
      const posters = [...this.element.querySelectorAll("img.mri-poster")];
      this.panes = this.state.overlays.map((_, number) => new Pane(this, number, posters[number]));
      const body = make("div", { class: `mri-body${this.panes.length > 1 ? " mri-pair" : ""}` });
      const pictures = make("div", { class: "mri-panes" }, ...this.panes.map((pane) => pane.element));
      this.controls = make("div", { class: "mri-controls" }, ...this.makeControls());
      this.announcement = make("p", { class: "mri-hidden", "aria-live": "polite" });
      this.status = make("p", { class: "mri-status", role: "status" });
      const keys = make("p", { class: "mri-keys", id: `${this.id}-keys` },
        make("span", { class: "mri-keys-mouse" }, "Click the picture, then turn slices with the wheel. Keys: Page Up and Page Down slice, arrows crosshair, "
          + "1 to 4 modality, O overlay, V planes."),
        make("span", { class: "mri-keys-touch" }, "Tap the picture to move the crosshair; the slider turns slices."));
      body.append(make("div", { class: "mri-left" }, pictures, this.makeSlice(), this.status, keys), this.controls);
      this.element.querySelectorAll(".mri-still, .mri-fallback").forEach((old) => old.remove());
      this.element.prepend(body, this.announcement);
      this.element.classList.add("mri-alive");
    }

    makeControls() {
      const id = (name) => `${this.id}-${name}`;
      const field = (name, label, control) => make("div", { class: `mri-field mri-${name}` }, make("label", { for: id(name) }, label), control);
      this.search = make("input", { type: "search", id: id("find"), class: "mri-find", autocomplete: "off", oninput: () => this.fillPatients() });
      this.searchField = make("div", { class: "mri-field", hidden: true }, make("label", { for: id("find") }, "Find a patient"), this.search);
      this.patients = make("select", { id: id("patient"), class: "mri-patient-select", onchange: () => this.choosePatient(this.patients.value) });
      if (this.state.patient) this.patients.append(make("option", {}, this.state.patient));
      this.modalities = make("div", { class: "mri-choices" });
      for (const [name, words] of Object.entries({ t1: "T1", t1ce: "T1ce", t2: "T2", flair: "FLAIR" })) {
        const input = make("input", { type: "radio", name: id("modality"), id: id(`modality-${name}`), value: name, onchange: () => this.change({ modality: name }) });
        input.checked = name === this.state.modality;
        this.modalities.append(input, make("label", { for: input.id }, words));
      }
      this.overlays = this.state.overlays.map((shown, number) => {
        const select = make("select", { id: id(`overlay-${number + 1}`), class: "mri-overlay-select", onchange: () => this.chooseOverlay(number, select.value) });
        select.append(...this.offered.map((name) => make("option", { value: name }, OVERLAYS[name])));
        select.value = shown;
        return select;
      });
      const names = this.overlays.length > 1 ? ["Overlay, left picture", "Overlay, right picture"] : ["Overlay"];
      this.level = this.makeSlider("level", "Window level", -3, 6, 0.05, (value) => `${signed(value, 2)} SD`);
      this.width = this.makeSlider("width", "Window width", 0.5, 9, 0.1, (value) => `${signed(value, 1)} SD`);
      this.opacity = this.makeSlider("opacity", "Overlay opacity", 0, 1, 0.05, (value) => `${Math.round(100 * value)} %`);
      this.planes = make("button", { type: "button", class: "mri-planes", "aria-pressed": "false", onclick: () => this.change({ planes: !this.state.planes }) }, "Three planes");
      const reset = make("button", { type: "button", class: "mri-reset", onclick: () => this.reset() }, "Reset");
      this.readout = make("dl", { class: "mri-readout", "aria-label": "Values under the crosshair" });
      return [
        this.searchField,
        field("patient", "Patient", this.patients),
        make("fieldset", { class: "mri-field mri-modality" }, make("legend", {}, "Modality"), this.modalities),
        ...this.overlays.map((select, number) => field(`overlay-${number + 1}`, names[number], select)),
        this.level.element, this.width.element, this.opacity.element,
        make("div", { class: "mri-buttons" }, this.planes, reset),
        this.readout,
      ];
    }

    makeSlider(name, label, low, high, step, words) {
      const id = `${this.id}-${name}`;
      const input = make("input", { type: "range", id, class: `mri-${name}`, min: low, max: high, step, oninput: () => this.change({ [name]: Number(input.value) }) });
      const output = make("output", { for: id });
      const show = (value) => {
        input.value = value;
        output.value = words(value);
        input.setAttribute("aria-valuetext", words(value));
      };
      show(this.state[name]);
      return { element: make("div", { class: "mri-field mri-range" }, make("label", { for: id }, label), output, input), show };
    }

    makeSlice() {
      const id = `${this.id}-slice`;
      this.slice = make("input", { type: "range", id, class: "mri-slice", min: 1, max: 1, step: 1, oninput: () => this.moveTo([...this.state.voxel.slice(0, 2), this.slice.value - 1]) });
      this.sliceWords = make("output", { for: id });
      this.slices = make("div", { class: "mri-field mri-range mri-slices", style: "visibility: hidden" }, make("label", { for: id }, "Slice"), this.sliceWords, this.slice);
      return this.slices;
    }

    // -------------------------------------------------------------- when to load

    wait() {
      if (savesData()) {
        const button = make("button", { type: "button", class: "mri-load" }, `Load the viewer (${megabytes(NIIVUE_BYTES + 4e5)} MB)`);
        button.addEventListener("click", () => this.start());
        this.say(button);
        return;
      }
      const watch = new IntersectionObserver(async (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        watch.disconnect();
        if (document.readyState !== "complete") await new Promise((resolve) => window.addEventListener("load", resolve, { once: true }));
        await idle();
        this.start();
      });
      watch.observe(this.element);
    }

    // Load what all viewers share, then show. Called again by whoever touches a control or asks to try again.
    start() {
      this.starting = this.starting || this.begin().catch((error) => {
        this.starting = null;
        this.fail(error);
      });
      return this.starting;
    }

    async begin() {
      if (!drawsWebGL()) {
        this.giveUp("This is a still picture: the browser has no WebGL 2, which the viewer draws with. It may be switched off in the browser's settings.");
        return;
      }
      this.progress(0, NIIVUE_BYTES);
      this.index = await loadIndex();
      const entries = this.index.patients;
      if (!entries.length) throw new Error("no patient is published");
      if (!entries.some((entry) => entry.id === this.state.patient)) this.state.patient = entries[0].id;
      [this.state.level, this.state.width] = [(this.index.window[0] + this.index.window[1]) / 2, this.index.window[1] - this.index.window[0]];
      this.searchField.hidden = entries.length <= SEARCH_FROM;
      this.patients.parentElement.hidden = entries.length === 1;
      this.fillPatients();
      await loadNiivue();
      for (const pane of this.panes) await pane.start();
      this.state.voxel = this.opening();
      await this.refresh();
      this.slices.style.visibility = "";
      this.resolve(this);
    }

    get entry() {
      return this.index.patients.find((entry) => entry.id === this.state.patient);
    }

    // -------------------------------------------------------------- what a person asks for

    async change(wanted) {
      Object.assign(this.state, wanted);
      this.showControls();
      if (!this.grid) return this.start();
      if ("modality" in wanted || "overlays" in wanted || "patient" in wanted) return this.refresh();
      this.panes.forEach((pane) => pane.paint(this.state));
      this.place();
    }

    choosePatient(id) {
      if (!this.index) return;
      this.state.patient = id;
      this.change({ patient: id, voxel: this.opening() });
    }

    opening() {
      const { starts } = this.entry;
      return [...(starts[this.state.overlays[0]] || starts.tumour)];
    }

    chooseOverlay(number, name) {
      this.change({ overlays: this.state.overlays.map((old, at) => (at === number ? name : old)) });
    }

    reset() {
      if (!this.index) return this.start();
      const [low, high] = this.index.window;
      this.change({ level: (low + high) / 2, width: high - low, opacity: 0.6, planes: false });
      this.moveTo(this.opening());
    }

    moveBy(step) {
      this.moveTo(this.state.voxel.map((value, axis) => value + step[axis]));
    }

    moveTo(voxel) {
      if (!this.grid) return this.start();
      this.state.voxel = voxel.map((value, axis) => between(Number(value), 0, this.grid.shape[axis] - 1));
      this.place();
    }

    onKey(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const steps = {
        PageUp: [0, 0, 1], PageDown: [0, 0, -1], ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0],
        Home: [0, 0, -1e6], End: [0, 0, 1e6],
      };
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const modality = ["t1", "t1ce", "t2", "flair"][Number(key) - 1];
      if (steps[key]) this.moveBy(steps[key]);
      else if (modality) this.change({ modality });
      else if (key === "o") this.nextOverlay();
      else if (key === "v") this.change({ planes: !this.state.planes });
      else return;
      event.preventDefault();
    }

    nextOverlay() {
      const choices = [...this.overlays[0].options].filter((option) => !option.disabled).map((option) => option.value);
      this.chooseOverlay(0, choices[(choices.indexOf(this.state.overlays[0]) + 1) % choices.length]);
    }

    // -------------------------------------------------------------- load what the state names, draw it

    async refresh() {
      const turn = (this.asked += 1);
      const { entry, state } = this;
      state.overlays = state.overlays.map((name) => (name === "none" || entry.bytes[name] ? name : "none"));
      // Labels and codes are a few kilobytes and are read under the crosshair; a responsible region is loaded where it is shown.
      const always = ["truth", "prediction", "codewords"].filter((name) => this.offered.includes(name) && entry.bytes[name]);
      const names = [...new Set([state.modality, ...always, ...state.overlays.filter((name) => name !== "none")])];
      const total = names.reduce((sum, name) => sum + entry.bytes[name], 0);
      let done = 0;
      this.progress(0, total);
      try {
        const volumes = await Promise.all(names.map(async (name) => {
          const volume = await loadVolume(`${entry.folder}/${name}`, `${OVERLAYS[name] || this.index.modalities[name]} of ${entry.id}`);
          if (turn === this.asked) this.progress((done += entry.bytes[name]), total);
          return volume;
        }));
        if (turn !== this.asked) return; // somebody has asked for something else meanwhile
        if (this.loadedFrom !== entry.folder) this.loaded = {};
        this.loadedFrom = entry.folder;
        names.forEach((name, at) => (this.loaded[name] = volumes[at]));
        this.grid = this.loaded[state.modality];
        for (const [number, pane] of this.panes.entries()) {
          const shown = [state.modality, state.overlays[number]].filter((name) => name !== "none");
          await pane.show(shown.map((name) => ({ key: `${entry.folder}/${name}`, role: name, volume: this.loaded[name] })), state, this.index);
        }
        this.say();
        this.showControls();
        this.place();
      } catch (error) {
        if (turn === this.asked) this.fail(error);
        if (!this.grid) throw error;
      }
    }

    place() {
      const { grid, state } = this;
      state.voxel = state.voxel.map((value, axis) => between(value, 0, grid.shape[axis] - 1));
      const mm = toMillimetres(grid, state.voxel);
      this.panes.forEach((pane) => pane.place(mm));
      const words = `${state.voxel[2] + 1} of ${grid.shape[2]}`;
      this.slice.max = grid.shape[2];
      this.slice.value = state.voxel[2] + 1;
      this.sliceWords.value = words;
      this.slice.setAttribute("aria-valuetext", `slice ${words}`);
      this.showValues(mm);
      clearTimeout(this.telling);
      this.telling = setTimeout(() => (this.announcement.textContent = this.summary()), 500);
    }

    values() {
      const { loaded, state } = this;
      const found = {};
      if (!loaded) return found;
      for (const name of Object.keys(loaded)) {
        const byte = stored(loaded[name], state.voxel);
        if (name in this.index.modalities) found[name] = byte === 0 ? null : loaded[name].slope * byte + loaded[name].offset;
        else if (name === "truth" || name === "prediction") found[name] = this.index.labels[byte];
        else found[name] = name === "codewords" ? byte : loaded[name].slope * byte;
      }
      return found;
    }

    showValues(mm) {
      const values = this.values();
      const axes = [["R", "L"], ["A", "P"], ["S", "I"]];
      const rows = [["place, mm", mm.map((value, axis) => `${axes[axis][value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(0)}`).join(" ")]];
      for (const [name, words] of Object.entries(this.index.modalities)) {
        if (name in values) rows.push([words, values[name] === null ? "outside the brain" : `${signed(values[name], 2)} SD`]);
      }
      for (const name of ["truth", "prediction"]) if (name in values) rows.push([name, this.labelWords(values[name])]);
      if ("codewords" in values) rows.push(["codeword", this.codeWords(values.codewords)]);
      for (const name of ["HGG", "LGG"]) if (name in values) rows.push([`${name}-responsible`, values[name].toFixed(2)]);
      if (this.entry.p !== null && this.offered.includes("prediction")) rows.push(["patient's P(HGG)", this.entry.p.toFixed(2)]);
      this.readout.replaceChildren(...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    }

    labelWords(label) {
      const colour = this.index.regionColours[label];
      const swatch = make("span", { class: "mri-swatch", "aria-hidden": "true" });
      if (colour) swatch.style.background = colour;
      return make("span", {}, ...(colour ? [swatch] : []), LABEL_NAMES[label] || label);
    }

    codeWords(code) {
      const name = String(code).padStart(3, "0");
      const words = code === this.index.background ? `${name} (background)` : name;
      return this.atlas ? make("a", { href: `${this.atlas}#codeword-${name}` }, words) : words;
    }

    summary() {
      const values = this.values();
      const label = values[this.state.overlays[0]];
      const region = typeof label === "string" ? `, ${this.state.overlays[0]}: ${LABEL_NAMES[label]}` : "";
      return `Slice ${this.state.voxel[2] + 1} of ${this.grid.shape[2]}${region}`;
    }

    // -------------------------------------------------------------- controls and words follow the state

    fillPatients() {
      const wanted = this.search.value.trim().toLowerCase();
      const found = this.index.patients.filter((entry) => entry.id === this.state.patient || entry.id.toLowerCase().includes(wanted));
      const groups = new Map();
      for (const entry of found) {
        const grade = entry.grade || "grade unknown";
        if (!groups.has(grade)) groups.set(grade, make("optgroup", { label: grade }));
        groups.get(grade).append(make("option", { value: entry.id }, entry.id));
      }
      this.patients.replaceChildren(...groups.values());
      this.patients.value = this.state.patient;
    }

    showControls() {
      const { state } = this;
      for (const input of this.modalities.querySelectorAll("input")) input.checked = input.value === state.modality;
      this.level.show(state.level);
      this.width.show(state.width);
      this.opacity.show(state.opacity);
      this.planes.setAttribute("aria-pressed", String(state.planes));
      if (!this.index) return;
      this.patients.value = state.patient;
      const bytes = this.entry.bytes;
      this.overlays.forEach((select, number) => {
        for (const option of select.options) option.disabled = option.value !== "none" && !bytes[option.value];
        select.value = state.overlays[number];
      });
      this.panes.forEach((pane, number) => this.showLegend(pane, state.overlays[number]));
    }

    showLegend(pane, overlay) {
      const words = `${this.index.modalities[this.state.modality]} of ${this.state.patient}${overlay === "none" ? "" : `, ${OVERLAYS[overlay]}`}`;
      pane.stage.setAttribute("aria-label", `${words}. Radiological view: the patient's right is at the left`);
      const parts = [];
      if (overlay === "truth" || overlay === "prediction") {
        parts.push(make("span", {}, `${OVERLAYS[overlay]}:`), ...Object.keys(this.index.regionColours).map((name) => this.labelWords(name)));
      } else if (overlay === "codewords") {
        parts.push("one colour per codeword, near ones alike");
      } else if (overlay !== "none" && this.loaded && this.loaded[overlay]) {
        const bar = make("span", { class: "mri-bar", "aria-hidden": "true" });
        bar.style.backgroundImage = `linear-gradient(90deg, ${HEAT.I.map((at, n) => `rgb(${HEAT.R[n]} ${HEAT.G[n]} ${HEAT.B[n]} / ${HEAT.A[n] / 255}) ${(100 * at) / 255}%`).join(", ")})`;
        const most = 255 * this.loaded[overlay].slope;
        const jump = make("button", { type: "button", class: "mri-jump", onclick: () => this.moveTo(this.entry.starts[overlay]) }, "Go to where it is strongest");
        if (this.entry.starts[overlay]) parts.push(`${OVERLAYS[overlay]}: 0`, bar, `${most.toFixed(1)} (L1 change of the logits)`, jump);
        else parts.push(`${OVERLAYS[overlay]}: nowhere in this patient, who has none of its codewords`);
      }
      pane.legend.replaceChildren(...parts);
    }

    // -------------------------------------------------------------- loading and trouble, in words

    say(...parts) {
      this.status.replaceChildren(...parts);
    }

    progress(done, total) {
      const bar = make("progress", { max: total, value: done, "aria-label": "Loading" });
      this.say(bar, ` Loading ${megabytes(done)} of ${megabytes(total)} MB`);
    }

    fail(error) {
      const again = make("button", { type: "button", class: "mri-again" }, "Try again");
      again.addEventListener("click", () => (this.grid ? this.refresh() : this.start()));
      this.say(`The viewer stopped: ${error.message}. `, again);
    }

    giveUp(sentence) {
      this.controls.remove();
      this.element.querySelectorAll(".mri-slices, .mri-keys").forEach((part) => part.remove());
      this.panes.forEach((pane) => {
        for (const name of ["role", "tabindex", "aria-roledescription", "aria-describedby"]) pane.stage.removeAttribute(name);
      });
      this.say(sentence);
      this.reject(new Error(sentence));
    }

    describe() {
      const { state } = this;
      return {
        ...state, overlay: state.overlays[0], voxel: [...state.voxel], slice: state.voxel[2] + 1, slices: this.grid ? this.grid.shape[2] : 0,
        loaded: Boolean(this.grid), values: this.grid ? this.values() : {},
      };
    }
  }

  function startAll() {
    document.querySelectorAll("figure.mri-viewer:not(.mri-alive):not([data-left-out])").forEach((element) => new Viewer(element, viewers.length));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", startAll);
  else startAll();
})();
