// Running items by worker over time, as stacked areas (uPlot, which is loaded before the modules).

import { timeFormat } from "./times.js";

const MOST = 8;
// Marks of the axis of items, of which there are no fractions.
const WHOLE = [1, 2, 5].flatMap((n) => Array.from({ length: 8 }, (_, power) => n * 10 ** power)).sort((a, b) => a - b);
const colors = ["#3d67ff", "#e07b00", "#1f9d4c", "#b048c9", "#00a3ad", "#d03a5b", "#8a8f00", "#7a5cff", "#7d8794"];

function color(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// The workers that did most; what others ran is one series.
function grouped(tracks) {
  const ordered = [...tracks].sort((a, b) => b.seconds - a.seconds);
  if (ordered.length <= MOST + 1) return ordered;
  const rest = ordered.slice(MOST);
  const busy = rest[0].busy.map((_, n) => rest.reduce((sum, track) => sum + track.busy[n], 0));
  return [...ordered.slice(0, MOST), { name: `${rest.length} others`, busy }];
}

function stacked(series, interval, started) {
  const length = series[0]?.busy.length ?? 0;
  const times = Array.from({ length }, (_, n) => started + n * interval);
  const sums = new Array(length).fill(0);
  const rows = series.map((track) => track.busy.map((value, n) => (sums[n] += value)));
  return [times, ...rows.reverse()];  // the highest is drawn first, others over it
}

// Times as the viewer's clock shows them, as fine as the marks of the axis are apart, which is given in seconds.
function clockTimes(apart) {
  const day = apart >= 86_400 ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" };
  const second = apart < 60 ? { second: "2-digit" } : {};
  const part = apart < 1 ? { fractionalSecondDigits: apart < 0.1 ? 3 : 1 } : {};
  return timeFormat({ ...day, ...second, ...part });
}

function options(element, series, most) {
  const axis = { stroke: color("soft"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line"), width: 1 }, font: "12px system-ui" };
  return {
    width: Math.max(element.clientWidth, 200),
    height: 200,
    legend: { live: false },
    cursor: { drag: { x: true, y: false } },
    scales: { y: { range: [0, Math.max(most * 1.08, 1)] } },
    axes: [
      { ...axis, space: 100, values: (_, times, __, ___, apart) => times.map((time) => clockTimes(apart).format(1000 * time)) },
      { ...axis, size: 46, incrs: WHOLE },
    ],
    series: [
      {},
      ...series.map((track, n) => ({
        label: track.name, stroke: colors[n % colors.length], fill: `${colors[n % colors.length]}b0`, width: 1,
        paths: uPlot.paths.stepped({ align: 1 }), points: { show: false },
      })).reverse(),
    ],
  };
}

class Chart {
  constructor(element) {
    this.element = element;
    this.plot = null;
    this.read = 0;
    this.text = "";
    new ResizeObserver(() => this.plot?.setSize({ width: Math.max(element.clientWidth, 200), height: 200 })).observe(element);
    window.addEventListener("themechange", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.load();
  }

  // Called when the run has changed: at most every two seconds.
  async load() {
    const now = Date.now();
    if (now - this.read < 2000) {
      this.loadLater(2000 - (now - this.read));
      return;
    }
    this.read = now;
    try {
      const answer = await fetch(new URL(this.element.dataset.chart, document.baseURI));
      if (!answer.ok) return;
      const text = await answer.text();
      if (!JSON.parse(text).is_complete) this.loadLater(2000);  // a large run takes a moment to be read
      if (text === this.text) return;
      this.text = text;
      this.draw();
    } catch {
      // the line at the top says that there is no connection
    }
  }

  loadLater(milliseconds) {
    this.later ??= setTimeout(() => { this.later = null; this.load(); }, milliseconds);
  }

  draw() {
    if (!this.text) return;
    const found = JSON.parse(this.text);
    const series = grouped(found.workers);
    const none = document.getElementById(this.element.dataset.none);
    if (none) none.hidden = series.length > 0 || !found.is_complete;  // it is still being read
    this.element.hidden = series.length === 0;
    if (!series.length) return;
    const data = stacked(series, found.interval, Date.parse(found.started) / 1000);
    const most = Math.max(0, ...data[1]);
    this.plot?.destroy();
    this.plot = new uPlot(options(this.element, series, most), data, this.element);
    this.element.setAttribute("role", "img");
    this.element.setAttribute("aria-label", `running items by worker over time: ${found.workers.length} workers, at most ${most.toFixed(1)} at once`);
  }
}

const charts = new WeakMap();

export function setUpCharts() {
  for (const element of document.querySelectorAll("[data-chart]")) {
    if (charts.has(element)) charts.get(element).load();
    else charts.set(element, new Chart(element));
  }
}
