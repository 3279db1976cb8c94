// Times are sent in UTC and shown in the zone of the viewer: `<time datetime="..." data-show="ago">`.

const steps = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [Infinity, "day", 86400]];

// All times of the page: words of the viewer's language, and 24 hours everywhere, in which logs and axes line up.
export function timeFormat(parts) {
  return new Intl.DateTimeFormat(undefined, { ...parts, hourCycle: "h23" });
}

const whole = timeFormat({ dateStyle: "medium", timeStyle: "medium" });
const withZone = timeFormat({ dateStyle: "full", timeStyle: "long" });
const clock = timeFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = timeFormat({ dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function ago(date, now = Date.now()) {
  const seconds = (date - now) / 1000;
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  if (size > 30 * 86400) return day.format(date);
  const [, unit, each] = steps.find(([below]) => size < below);
  return relative.format(Math.round(seconds / each), unit);
}

export function atClock(date) {
  return clock.format(date);
}

function show(element) {
  const date = new Date(element.dateTime);
  if (Number.isNaN(date.getTime())) return;
  const how = element.dataset.show;
  element.title = withZone.format(date);
  if (how === "given") return;
  const text = how === "ago" ? ago(date) : how === "clock" ? clock.format(date) : how === "day" ? day.format(date) : whole.format(date);
  if (element.textContent !== text) element.textContent = text;
}

// `<option data-at="..." data-before="..." data-after="...">`: no element can be in the text of an option.
function tell(option) {
  const date = new Date(option.dataset.at);
  if (!Number.isNaN(date.getTime())) option.textContent = `${option.dataset.before}${day.format(date)}${option.dataset.after}`;
}

export function showTimes(root = document) {
  for (const option of root.querySelectorAll("option[data-at]")) tell(option);
  for (const element of root.querySelectorAll("time[datetime]")) show(element);
  for (const element of root.querySelectorAll("[data-zone]")) {
    element.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  }
}

// "3 minutes ago" grows old by itself.
setInterval(() => {
  for (const element of document.querySelectorAll('time[data-show="ago"]')) show(element);
}, 1000);

// `<input type="datetime-local" data-utc="NAME">` is in the zone of the viewer; what is sent is in UTC.
export function setUpZones() {
  for (const input of document.querySelectorAll("input[data-utc]")) {
    const sent = document.createElement("input");
    sent.type = "hidden";
    sent.name = input.dataset.utc;
    input.after(sent);
    const given = input.dataset.value ? new Date(input.dataset.value) : null;
    if (given && !Number.isNaN(given.getTime())) {
      input.value = new Date(given - given.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    }
    const take = () => {
      sent.value = input.value ? new Date(input.value).toISOString() : "";
      sent.disabled = !sent.value;
    };
    input.addEventListener("input", take);
    take();
  }
}
