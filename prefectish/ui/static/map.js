// The picture of a map: a pixel (or a square) for each item, in order, coloured by state or by duration.

const LARGEST = 18;
// Durations are a byte each: so many shades, over so many powers of ten, up to the longest.
const SHADES = 254;
const DECADES = 4;
const plain = new Intl.NumberFormat("en");

// From dark blue to yellow; 0 is for items without a duration.
const stops = [[49, 54, 149], [33, 113, 181], [35, 155, 139], [94, 190, 90], [190, 205, 40], [255, 220, 60]];

function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const n = Math.min(Math.floor(at), stops.length - 2);
  return stops[n].map((low, c) => Math.round(low + (stops[n + 1][c] - low) * (at - n)));
}

function packed([r, g, b]) {
  return (255 << 24) | (b << 16) | (g << 8) | r;  // as ImageData has it on little-endian machines
}

function ofHex(text) {
  const value = Number.parseInt(text.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

// What has not ended stays in the background, in light and dark.
function ground(element) {
  const probe = document.createElement("span");
  probe.style.color = "var(--line)";
  element.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return found.every((part) => part <= 1) ? found.map((part) => Math.round(part * 255)) : found;
}

function seconds(value) {
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  if (value < 60) return `${value.toPrecision(3)} s`;
  return value < 3600 ? `${Math.floor(value / 60)} min ${Math.round(value % 60)} s` : `${(value / 3600).toFixed(1)} h`;
}

class Picture {
  constructor(element) {
    this.element = element;
    this.view = element.querySelector(".picture");
    this.canvas = this.view.querySelector("canvas");
    this.mark = this.view.querySelector(".cursor");
    this.loupe = element.querySelector("canvas.loupe");
    this.readout = element.querySelector(".readout");
    this.states = JSON.parse(element.dataset.states);
    this.by = "state";
    this.shown = null;
    this.hidden = new Set();
    this.bytes = new Uint8Array(0);
    this.at = null;
    this.remembered();
    this.listen();
    this.load();
  }

  // The address says what is shown, so that it can be shared: `#item=17&by=duration`.
  remembered() {
    const known = new URLSearchParams(location.hash.slice(1));
    if (known.get("by") === "duration") {
      this.by = "duration";
      this.element.querySelector("[name=by][value=duration]").checked = true;
    }
    this.wanted = /^\d{1,9}$/.test(known.get("item") ?? "") ? Number(known.get("item")) : null;
  }

  remember() {
    const known = new URLSearchParams();
    if (this.at !== null) known.set("item", this.at);
    if (this.by === "duration") known.set("by", this.by);
    const hash = known.size ? `#${known}` : "";
    history.replaceState(history.state, "", location.pathname + location.search + hash);
  }

  listen() {
    new ResizeObserver(() => this.lay()).observe(this.view);
    window.addEventListener("themechange", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.view.addEventListener("pointermove", (event) => this.tell(this.under(event)));
    this.view.addEventListener("pointerleave", () => this.tell(this.at));
    this.view.addEventListener("click", (event) => this.select(this.under(event)));
    this.view.addEventListener("dblclick", () => this.open());
    this.view.addEventListener("keydown", (event) => this.key(event));
    this.element.querySelectorAll("[name=by]").forEach((radio) => radio.addEventListener("change", () => {
      this.by = radio.value;
      this.remember();
      this.load();
    }));
    this.element.querySelector(".legend").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.toggle(button);
    });
    this.element.querySelector("form.search")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search(new FormData(event.target).get("text").trim());
    });
  }

  // Called when the head of the page has changed.
  renew() {
    if (this.shown) this.legend();
    this.load();
  }

  // Read the picture again: at most every two seconds, but another colour at once.
  async load() {
    const { by } = this;
    if (this.busy) {
      this.again = true;
      return;
    }
    const early = this.shown === by ? this.read + 2000 - Date.now() : 0;
    if (early > 0) {
      this.later ??= setTimeout(() => { this.later = null; this.load(); }, early);
      return;
    }
    this.busy = true;
    this.read = Date.now();
    try {
      await this.fetch(by);
    } catch (error) {
      if (this.shown !== by) this.say(`The picture could not be read: ${error.message}`);
    }
    this.busy = false;
    if (this.again) {
      this.again = false;
      this.load();
    }
  }

  async fetch(by) {
    const isNew = this.shown !== by;
    if (isNew) this.wait();
    const address = new URL(this.element.dataset.pixels, document.baseURI);
    address.searchParams.set("by", by);
    const answer = await fetch(address);
    if (!answer.ok) throw new Error((await answer.json()).error);
    this.bytes = this.widened(new Uint8Array(await answer.arrayBuffer()));
    this.longest = Number(answer.headers.get("X-Longest"));
    this.shown = by;
    this.view.removeAttribute("aria-busy");
    this.lay();
    this.legend();
    if (this.wanted !== null) this.select(this.wanted);
    else if (isNew) this.tell(this.at);
    this.wanted = null;
  }

  say(text) {
    this.readout.querySelector("span").textContent = text;
  }

  wait() {
    this.view.setAttribute("aria-busy", "true");
    this.say(this.by === "state" ? "Reading the states of all items …" : "Reading how long all items took …");
  }

  // Items that have not begun are shown, too, once it is known how many there are.
  widened(bytes) {
    const total = Number(document.querySelector("[data-total]")?.dataset.total || 0);
    if (total <= bytes.length) return bytes;
    const all = new Uint8Array(total);
    all.set(bytes);
    return all;
  }

  // The largest squares with which all items fit; a pixel each if none do, and then it scrolls.
  lay() {
    const count = this.bytes.length;
    document.getElementById("no-items").hidden = count > 0 || !this.shown;
    this.view.hidden = !count;
    const width = this.view.clientWidth;
    const height = Math.max(260, window.innerHeight * 0.55);
    if (!count || !width) return;
    let cell = LARGEST;
    while (cell > 1 && Math.ceil(count / Math.floor(width / cell)) * cell > height) cell--;
    this.cell = cell;
    this.columns = Math.min(Math.floor(width / cell), count);
    this.rows = Math.ceil(count / this.columns);
    this.canvas.width = this.columns;
    this.canvas.height = this.rows;
    this.canvas.style.width = `${this.columns * cell}px`;
    this.canvas.style.height = `${this.rows * cell}px`;
    document.getElementById("map-help").textContent = `a ${cell > 1 ? "square" : "pixel"} each, in order, ${plain.format(this.columns)} in a row`;
    this.draw();
    this.place();
  }

  colors() {
    const table = new Uint32Array(256);
    if (this.shown === "duration") {
      for (let n = 1; n < 256; n++) table[n] = packed(ramp(n / SHADES));
    } else {
      this.states.forEach((state, code) => {
        if (state && !this.hidden.has(code)) table[code] = packed(code ? ofHex(state[1]) : ground(this.element));
      });
    }
    return table;
  }

  draw() {
    if (!this.bytes.length || !this.columns) return;
    const image = new ImageData(this.columns, this.rows);
    const pixels = new Uint32Array(image.data.buffer);
    const table = this.colors();
    const { bytes } = this;
    for (let n = 0; n < bytes.length; n++) pixels[n] = table[bytes[n]];
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  legend() {
    const list = this.element.querySelector(".legend");
    const ofTime = this.element.querySelector(".of-time");
    list.hidden = this.shown === "duration";
    ofTime.hidden = this.shown !== "duration";
    if (this.shown === "duration") {
      ofTime.querySelector(".most").textContent = this.longest ? seconds(this.longest) : "the longest";
      const canvas = ofTime.querySelector("canvas");
      canvas.width = 128;
      canvas.height = 1;
      const image = new ImageData(128, 1);
      const pixels = new Uint32Array(image.data.buffer);
      for (let n = 0; n < 128; n++) pixels[n] = packed(ramp(n / 127));
      canvas.getContext("2d").putImageData(image, 0, 0);
      return;
    }
    const numbers = this.numbers();
    const shown = this.states.map((state, code) => [state?.[0], code]).filter(([name, code]) => name && numbers[code]);
    const text = JSON.stringify(shown.map(([, code]) => [code, numbers[code]]));
    if (text === this.legendText) return;
    this.legendText = text;
    const focused = document.activeElement?.dataset?.code;
    list.replaceChildren(...shown.map(([name, code]) => this.chip(name, code, numbers[code])));
    if (focused) list.querySelector(`[data-code="${focused}"]`)?.focus();
  }

  // How many items are in which state: as the head of the page says, which is newer than the picture.
  numbers() {
    const found = new Uint32Array(256);
    const head = document.querySelector("[data-counted]");
    if (!head) {
      for (const code of this.bytes) found[code]++;
      return found;
    }
    for (const { dataset } of head.querySelectorAll(".counts [data-state]")) {
      const code = dataset.state === "Pending" ? 0 : this.states.findLastIndex((state) => state?.[0] === dataset.state);
      found[code] = Number(dataset.number);
    }
    return found;
  }

  chip(name, code, number) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.code = code;
    button.setAttribute("aria-pressed", String(!this.hidden.has(code)));
    button.title = "show or hide these items";
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = code ? this.states[code][1] : "var(--line)";
    button.append(swatch, `${plain.format(number)} ${name}`);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  toggle(button) {
    const code = Number(button.dataset.code);
    if (!this.hidden.delete(code)) this.hidden.add(code);
    button.setAttribute("aria-pressed", String(!this.hidden.has(code)));
    this.draw();
  }

  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / this.cell);
    const y = Math.floor((event.clientY - box.top) / this.cell);
    const row = y * this.columns + x;
    return x < 0 || y < 0 || x >= this.columns || row >= this.bytes.length ? null : row;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.rows / 10)) * this.columns;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page };
    if (event.key === "Enter") this.open();
    else if (event.key === "Home") this.select(0);
    else if (event.key === "End") this.select(this.bytes.length - 1);
    else if (event.key in moves) this.select(this.at === null ? 0 : Math.min(Math.max(this.at + moves[event.key], 0), this.bytes.length - 1));
    else return;
    event.preventDefault();
  }

  select(row) {
    if (row === null || row >= this.bytes.length) return;
    this.at = row;
    this.remember();
    this.place();
    this.mark.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.tell(row);
  }

  place() {
    this.mark.hidden = this.at === null;
    if (this.at === null) return;
    const size = Math.max(this.cell, 3);
    const shift = (size - this.cell) / 2;
    this.mark.style.left = `${(this.at % this.columns) * this.cell - shift}px`;
    this.mark.style.top = `${Math.floor(this.at / this.columns) * this.cell - shift}px`;
    this.mark.style.width = this.mark.style.height = `${size}px`;
  }

  address(row) {
    return this.element.dataset.item.replace("999999999", row);
  }

  said(row) {
    const value = this.bytes[row];
    if (this.shown === "duration") return value ? `about ${seconds(this.longest * 10 ** (DECADES * (value / SHADES - 1)))}` : "did not run";
    return this.states[value]?.[0] || "not begun";
  }

  tell(row) {
    this.magnify(row);
    const link = this.readout.querySelector("a");
    if (row === null) {
      this.say("Point at an item, or use the arrow keys; Enter opens it.");
      link.hidden = true;
      return;
    }
    const name = `${this.element.dataset.label}[${row}]`;
    this.say(`${name}: ${this.said(row)}`);
    link.hidden = row !== this.at;
    link.href = this.address(row);
    link.setAttribute("aria-label", `open ${name}`);
  }

  // What is around an item, large enough to see where a pixel is small.
  magnify(row) {
    if (!this.loupe) return;
    this.loupe.hidden = row === null || this.cell > 4;
    if (this.loupe.hidden) return;
    this.loupe.classList.toggle("is-left", row % this.columns > this.columns / 2);
    const reach = 7;
    const side = 2 * reach + 1;
    const context = this.loupe.getContext("2d");
    this.loupe.width = this.loupe.height = side * 6;
    context.imageSmoothingEnabled = false;
    const x = (row % this.columns) - reach;
    const y = Math.floor(row / this.columns) - reach;
    context.drawImage(this.canvas, x, y, side, side, 0, 0, side * 6, side * 6);
    context.strokeStyle = getComputedStyle(this.loupe).color;
    context.lineWidth = 2;
    context.strokeRect(reach * 6 - 1, reach * 6 - 1, 8, 8);
  }

  open() {
    if (this.at !== null) location.href = new URL(this.address(this.at), document.baseURI);
  }

  async search(text) {
    const told = this.element.querySelector(".found");
    told.replaceChildren();
    if (!text) return;
    const address = new URL(this.element.dataset.search, document.baseURI);
    address.searchParams.set("text", text);
    let found;
    try {
      const answer = await fetch(address);
      found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
    } catch (error) {
      told.textContent = `The search failed: ${error.message}`;
      return;
    }
    if (!found.items.length) told.textContent = `No item is called ${text}.`;
    else if (found.items.length > 1) told.append(`${found.items.length} items: `);
    for (const item of found.items) {
      const link = document.createElement("a");
      link.href = this.address(item.row);
      link.textContent = item.label;
      told.append(link, " ");
    }
    if (found.items.length) {
      this.select(found.items[0].row);
      this.view.focus({ preventScroll: true });
    }
  }
}

const pictures = new WeakMap();

export function setUpMaps() {
  for (const element of document.querySelectorAll(".map-view")) {
    if (pictures.has(element)) pictures.get(element).renew();
    else pictures.set(element, new Picture(element));
  }
}
