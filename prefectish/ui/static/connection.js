// Says whether the page is connected, and brings it up to date when the server or the network is back.

import { atClock } from "./times.js";

let seen = Date.now();
let lost = false;

function element(id) {
  return document.getElementById(id);
}

function say(state, text) {
  const mark = element("link-state");
  if (!mark || mark.dataset.state === "ended") return;
  mark.dataset.state = state;
  mark.textContent = text;
}

function lose() {
  if (lost) return;
  lost = true;
  say("lost", "not connected");
  const line = element("lost");
  line.textContent = `Not connected, last seen ${atClock(new Date(seen))}. This page comes back by itself.`;
  line.hidden = false;
}

function find() {
  seen = Date.now();
  say("live", "live");
  if (!lost) return;
  lost = false;
  element("lost").hidden = true;
  document.body.dispatchEvent(new CustomEvent("again"));  // what has changed since is fetched
}

export function watchConnection() {
  const body = document.body;
  for (const name of ["htmx:sseOpen", "htmx:sseMessage", "htmx:afterOnLoad"]) body.addEventListener(name, find);
  for (const name of ["htmx:sseError", "htmx:sendError", "htmx:timeout"]) body.addEventListener(name, lose);
  window.addEventListener("offline", lose);
  window.addEventListener("online", () => body.dispatchEvent(new CustomEvent("again")));
}
