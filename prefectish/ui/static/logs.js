// A log that follows: `<div class="log" data-log="ADDRESS OF THE API">`; lines are read after the last one.

import { timeFormat } from "./times.js";

const clock = timeFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const KEPT = 5000;

function part(tag, text, css) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (css) element.className = css;
  return element;
}

function row(line) {
  const item = document.createElement("li");
  item.dataset.level = line.level;
  const time = part("time", clock.format(new Date(line.at)));
  time.dateTime = line.at;
  time.dataset.show = "given";
  const text = line.traceback ? `${line.text}\n${line.traceback}` : line.text;
  item.append(time, part("span", line.level, "level"), part("span", line.label, "who"), part("span", text));
  return item;
}

class Log {
  constructor(element) {
    this.element = element;
    this.list = element.querySelector("ol");
    this.follow = true;
    element.addEventListener("scroll", () => {
      this.follow = element.scrollTop + element.clientHeight >= element.scrollHeight - 24;
    });
    this.form = document.getElementById(element.dataset.filter);
    this.form?.addEventListener("input", () => this.restart());
    this.form?.addEventListener("submit", (event) => event.preventDefault());
    this.restart();
  }

  restart() {
    this.last = 0;
    this.list.replaceChildren();
    this.turn = (this.turn ?? 0) + 1;
    this.load();
  }

  async load() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    const turn = this.turn;
    const address = new URL(this.element.dataset.log, document.baseURI);
    if (this.last) address.searchParams.set("after", this.last);
    for (const [name, value] of new FormData(this.form ?? undefined)) if (value) address.searchParams.set(name, value);
    try {
      const answer = await fetch(address);
      if (answer.ok && turn === this.turn) this.add(await answer.json());
    } catch {
      // the line at the top says that there is no connection
    }
    this.busy = false;
    if (this.again || turn !== this.turn) {
      this.again = false;
      this.load();
    }
  }

  add(found) {
    this.list.append(...found.lines.map(row));
    while (this.list.children.length > KEPT) this.list.firstChild.remove();
    this.last = Math.max(this.last, found.last);
    const none = document.getElementById(this.element.dataset.none);
    if (none) none.hidden = this.list.children.length > 0;
    this.element.hidden = this.list.children.length === 0;
    if (this.follow) this.element.scrollTop = this.element.scrollHeight;
  }
}

const logs = new WeakMap();

export function setUpLogs() {
  for (const element of document.querySelectorAll("[data-log]")) {
    if (logs.has(element)) logs.get(element).load();
    else logs.set(element, new Log(element));
  }
}
